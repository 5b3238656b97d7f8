//! Cutting a GPU into MIG devices, from plan to devices, over the simulated library.
#![expect(clippy::expect_used, clippy::panic, reason = "a test's helper may fail the test")]

use std::collections::BTreeMap;
use std::error::Error as _;

use cotenant_gpu::{MigError, MigOutcome, MigState, Nvml};
use cotenant_model::gpu::{Gpu as Read, MigPlacement};
use cotenant_model::sharing::mig::{Layout, Step, plan};
use cotenant_model::{GpuReader as _, GpuUuid};
use cotenant_testkit::nvml::{ErrorCode, Gpu, GpuInstance, Library, MigHabit, Process, Scenario};

fn installed(gpu: Gpu) -> (Library, Nvml) {
    let library = Scenario::of(gpu).install().expect("the simulated library");
    let reader = Nvml::load(library.path()).expect("a reader");
    (library, reader)
}

fn gpu() -> GpuUuid {
    GpuUuid("GPU-0".to_owned())
}

fn read(reader: &Nvml) -> Read {
    reader.gpus().expect("inventory").remove(0)
}

fn layout(counts: &[(&str, u32)]) -> Layout {
    Layout::Enabled(counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<BTreeMap<_, _>>())
}

/// Plans and carries out until the GPU is as wanted.
fn reach(reader: &mut Nvml, layout: &Layout) -> MigState {
    loop {
        let plan = plan(&read(reader), layout, &[]).expect("a plan");
        let outcome = reader.apply_mig(&gpu(), &plan.steps).expect("carried out");
        let MigOutcome::Done(state) = outcome else { panic!("{outcome:?}") };
        if !plan.again {
            return state;
        }
    }
}

fn profiles(reader: &Nvml) -> Vec<String> {
    let mut profiles: Vec<_> = read(reader).mig_devices.into_iter().map(|device| device.profile).collect();
    profiles.sort();
    profiles
}

fn create(profile_id: u32, start: u32, size: u32) -> Step {
    Step::Create { profile_id, profile: format!("profile {profile_id}"), placement: MigPlacement { start, size } }
}

fn destroy(instance: u32) -> Step {
    Step::Destroy { instance, compute_instances: vec![0], profile: "1g.18gb".to_owned(), devices: Vec::new() }
}

/// Everything of a state but ids, which a return to it need not have again.
fn shape(gpu: &Read) -> (Option<bool>, Vec<(u32, MigPlacement, usize)>) {
    let instance = |instance: &cotenant_model::gpu::MigInstance| {
        (instance.profile, instance.placement, instance.compute_instances.len())
    };
    (gpu.mig, gpu.mig_instances.iter().map(instance).collect())
}

#[test]
fn a_gpu_is_cut_as_planned_cut_otherwise_and_joined_again() {
    let (_library, mut reader) = installed(Gpu::hopper("GPU-0"));
    let state = reach(&mut reader, &layout(&[("1g.18gb", 3), ("3g.71gb", 1)]));
    assert_eq!((state.enabled, state.pending, state.instances.len()), (true, true, 4));
    assert_eq!(profiles(&reader), ["1g.18gb", "1g.18gb", "1g.18gb", "3g.71gb"]);
    let kept = read(&reader).mig_devices.into_iter().find(|device| device.profile == "3g.71gb").expect("a device").uuid;
    reader.sample(&kept).expect("a reading of a MIG device");
    reach(&mut reader, &layout(&[("1g.18gb", 1), ("2g.35gb", 1), ("3g.71gb", 1)]));
    assert_eq!(profiles(&reader), ["1g.18gb", "2g.35gb", "3g.71gb"]);
    reader.sample(&kept).expect("what the layout keeps is left as it is");
    reach(&mut reader, &Layout::Disabled);
    assert_eq!((read(&reader).mig, profiles(&reader)), (Some(false), Vec::new()));
    assert!(reader.sample(&kept).is_err(), "a device that is gone is not read by its old handle");
}

#[test]
fn a_driver_that_tells_profiles_in_mig_mode_only_is_asked_again() {
    let mut old = Gpu::hopper("GPU-0");
    old.mig.as_mut().expect("MIG").habits.insert(MigHabit::ProfilesInMigModeOnly);
    let (_library, mut reader) = installed(old);
    assert_eq!(read(&reader).mig_profiles, []);
    reach(&mut reader, &layout(&[("7g.141gb", 1)]));
    assert_eq!(profiles(&reader), ["7g.141gb"]);
}

#[test]
fn what_processes_hold_is_refused_with_their_ids_and_nothing_is_done() {
    let busy = Gpu::hopper("GPU-0")
        .with_instances(&["1g.18gb", "1g.18gb"])
        .with_process(Process::mps_client(31, 1).on_instance(1, 0))
        .with_process(Process::compute(30, 1).on_instance(1, 0));
    let (_library, mut reader) = installed(busy);
    let before = shape(&read(&reader));
    let error = reader.apply_mig(&gpu(), &[destroy(2), destroy(1)]).expect_err("in use");
    assert_eq!(error.to_string(), "cannot destroy 1g.18gb (GPU instance 1) on GPU-0: it is used by processes 30, 31");
    assert!(matches!(reader.apply_mig(&gpu(), &[Step::Disable]), Err(MigError::InUse { .. })));
    assert_eq!(shape(&read(&reader)), before);
    reader.apply_mig(&gpu(), &[destroy(2), create(19, 1, 1)]).expect("what nobody holds may go, and come");
    assert_eq!(shape(&read(&reader)), before);
}

#[test]
fn a_step_that_is_refused_takes_the_ones_before_it_back() {
    let (library, mut reader) = installed(Gpu::hopper("GPU-0").with_instances(&["3g.71gb", "1g.18gb"]));
    let before = shape(&read(&reader));
    let error = reader.apply_mig(&gpu(), &[destroy(2), create(14, 4, 2), create(0, 0, 8)]).expect_err("no room");
    let MigError::Refused { step, not_undone, state: Some(state), .. } = &error else { panic!("{error:?}") };
    assert_eq!((step.as_ref(), not_undone.len(), state.instances.len()), (&create(0, 0, 8), 0, 2));
    assert!(
        error.to_string().ends_with("; the steps before it were taken back") && error.source().is_some(),
        "{error}"
    );
    assert_eq!(shape(&read(&reader)), before);
    let broken =
        library.scenario().expect("read").with_error("nvmlGpuInstanceCreateComputeInstance", ErrorCode::Unknown);
    library.replace(&broken).expect("replaced");
    let error = reader.apply_mig(&gpu(), &[destroy(2), create(19, 5, 1)]).expect_err("refused");
    let MigError::Refused { not_undone, state: Some(state), .. } = &error else { panic!("{error:?}") };
    assert_eq!(not_undone.len(), 1, "its compute instance cannot be made again either: {error}");
    let left: Vec<_> = state.instances.iter().map(|instance| instance.compute_instances.len()).collect();
    assert_eq!(left, [1, 0], "the error says what there is");
}

#[test]
fn a_mode_that_was_switched_on_is_switched_off_again_when_cutting_fails() {
    let (_library, mut reader) = installed(Gpu::hopper("GPU-0"));
    let error = reader.apply_mig(&gpu(), &[Step::Enable, create(99, 0, 1)]).expect_err("no such profile");
    assert!(matches!(error, MigError::Refused { .. }), "{error}");
    assert_eq!(read(&reader).mig, Some(false));
}

#[test]
fn a_mode_that_waits_for_a_reset_is_told_and_nothing_more_is_done() {
    let (_library, mut reader) = installed(Gpu::ampere("GPU-0"));
    let outcome = reader.apply_mig(&gpu(), &[Step::Enable, create(19, 0, 1)]).expect("taken as far as it goes");
    assert_eq!(outcome, MigOutcome::WaitsForReset(MigState { enabled: false, pending: true, instances: Vec::new() }));
    let gpu = read(&reader);
    assert_eq!((gpu.mig, gpu.mig_pending), (Some(false), Some(true)));
}

#[test]
fn an_instance_whose_maker_died_before_its_second_step_is_seen_and_can_go() {
    let mut half = Gpu::hopper("GPU-0").with_instances(&["1g.18gb"]);
    let mig = half.mig.as_mut().expect("MIG");
    mig.instances.push(GpuInstance { id: 9, profile: 14, start: 2, compute: Vec::new() });
    let (_library, mut reader) = installed(half);
    let gpu = read(&reader);
    assert_eq!((gpu.mig_devices.len(), gpu.mig_instances.len()), (1, 2));
    reach(&mut reader, &layout(&[("1g.18gb", 1)]));
    assert_eq!(read(&reader).mig_instances.len(), 1);
}

#[test]
fn a_gpu_that_cannot_do_mig_is_refused() {
    let (_library, mut reader) = installed(Gpu { uuid: "GPU-0".to_owned(), ..Gpu::turing("GPU-0") });
    let error = reader.apply_mig(&gpu(), &[Step::Enable]).expect_err("no MIG");
    assert!(matches!(error, MigError::Refused { state: None, .. }), "{error:?}");
}
