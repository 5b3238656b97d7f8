//! The reader against the simulated library, loaded through the same path as the driver's.
#![expect(clippy::expect_used, reason = "a test's helper may fail the test")]

use std::error::Error as _;
use std::process::Command;

use cotenant_gpu::{LIBRARY_VARIABLE, Nvml, OpenError, ReadError};
use cotenant_model::gpu::{ComputeMode, GpuProcess, GpuSample, MigDevice, MigPlacement, ProcessList};
use cotenant_model::{Bytes, GpuReader as _, GpuUuid};
use cotenant_testkit::nvml::{
    Change, ErrorCode, Fabric, Gpu, Library, MigHabit, Pci, Process, ProcessList as List, SCENARIO_VARIABLE, Scenario,
    Utilization,
};

fn installed(scenario: &Scenario) -> (Library, Nvml) {
    let library = scenario.install().expect("the simulated library");
    let reader = Nvml::load(library.path()).expect("a reader");
    (library, reader)
}

fn uuid(text: &str) -> GpuUuid {
    GpuUuid(text.to_owned())
}

fn refused(scenario: &Scenario) -> OpenError {
    let library = scenario.install().expect("the simulated library");
    Nvml::load(library.path()).expect_err("a refusal")
}

#[test]
fn a_host_without_the_driver_library_says_so() {
    let error = Nvml::load("/nonexistent/libnvidia-ml.so.1").expect_err("no library");
    assert!(matches!(error, OpenError::NoLibrary { .. }), "{error:?}");
    assert!(error.to_string().contains("/nonexistent/libnvidia-ml.so.1"), "{error}");
    assert!(error.source().is_some());
}

#[test]
fn a_library_that_is_not_nvml_says_so() {
    let error = Nvml::load("libc.so.6").expect_err("not NVML");
    assert!(matches!(error, OpenError::NotNvml { .. }), "{error:?}");
}

#[test]
fn every_refusal_of_the_driver_has_its_own_reason_and_fix() {
    let refusal = |code| refused(&Scenario::of(Gpu::bare("GPU-0")).with_error("nvmlInit_v2", code));
    let refusals = [
        refusal(ErrorCode::NoPermission),
        refusal(ErrorCode::DriverNotLoaded),
        refusal(ErrorCode::LibRmVersionMismatch),
        refusal(ErrorCode::LibraryNotFound),
        refusal(ErrorCode::Unknown),
        refused(&Scenario::default()),
    ];
    assert!(matches!(
        refusals,
        [
            OpenError::NoPermission { .. },
            OpenError::NoDriver { .. },
            OpenError::VersionMismatch { .. },
            OpenError::NotNvml { .. },
            OpenError::Failed { .. },
            OpenError::NoGpu,
        ]
    ));
    let fixes: std::collections::BTreeSet<_> = refusals.iter().map(OpenError::fix).collect();
    assert_eq!(fixes.len(), refusals.len());
}

#[test]
fn the_inventory_is_what_the_driver_says() {
    let (_library, reader) = installed(&Scenario::of(Gpu::hopper("GPU-0")).with_gpu(Gpu::bare("GPU-1")));
    let driver = reader.driver().expect("versions");
    assert_eq!((driver.version.as_str(), driver.cuda), ("580.0.0-simulated", Some((13, 0))));
    let gpus = reader.gpus().expect("inventory");
    let [hopper, bare] = gpus.as_slice() else { panic!("{gpus:?}") };
    assert_eq!((hopper.index, &hopper.uuid, hopper.memory), (0, &uuid("GPU-0"), Bytes(141 << 30)));
    assert_eq!((hopper.compute_capability, hopper.compute_mode), (Some((9, 0)), Some(ComputeMode::Default)));
    assert_eq!((hopper.power_limit_milliwatts, hopper.max_sm_clock_mhz), (Some(700_000), Some(1_980)));
    assert_eq!((hopper.mig, hopper.mig_devices.len()), (Some(false), 0));
    assert_eq!((bare.index, bare.power_limit_milliwatts, bare.max_sm_clock_mhz, bare.mig), (1, None, None, None));
}

#[test]
fn a_gpu_says_where_it_sits() {
    let (library, reader) = installed(
        &Scenario::of(Gpu { minor: Some(3), memory_reserved: 7 << 20, ..Gpu::turing("GPU-0") }).with_gpu(
            Gpu {
                pci: Some(Pci { address: (1, 0xab, 4), device_id: 0x2335_10de }),
                fabric: Some(Fabric { cluster: [0xa1; 16], clique: 9 }),
                ..Gpu::hopper("GPU-1")
            }
            .on_numa_node(1),
        ),
    );
    let gpus = reader.gpus().expect("inventory");
    let [turing, hopper] = gpus.as_slice() else { panic!("{gpus:?}") };
    assert_eq!((turing.minor, turing.memory_reserved, turing.numa_node), (Some(3), Some(Bytes(7 << 20)), None));
    assert_eq!((turing.mig, turing.fabric_clique.as_ref(), turing.vgpu_host.as_ref()), (None, None, None));
    let pci = hopper.pci.as_ref().expect("a place");
    assert_eq!((pci.bus_id.as_str(), pci.device_id, pci.class), ("0001:ab:04.0", 0x2335_10de, None));
    assert_eq!((hopper.minor, hopper.numa_node), (Some(1), Some(1)));
    assert_eq!(hopper.fabric_clique.as_deref(), Some("a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1.9"));
    drop(library);
}

#[test]
fn the_hosts_sysfs_says_more_of_a_slot() {
    let sysfs = tempfile::tempdir().expect("folder");
    let slot = sysfs.path().join("bus/pci/devices/0000:10:00.0");
    std::fs::create_dir_all(&slot).expect("folder");
    let told = |numa: &str| {
        std::fs::write(slot.join("numa_node"), numa).expect("file");
        std::fs::write(slot.join("class"), "0x030200\n").expect("file");
        let (_library, reader) = installed(&Scenario::of(Gpu::hopper("GPU-0").on_numa_node(5)));
        let gpu = reader.with_sysfs(sysfs.path()).gpus().expect("inventory").remove(0);
        (gpu.numa_node, gpu.pci.expect("a place").class)
    };
    assert_eq!(told("2\n"), (Some(2), Some(0x0302)));
    assert_eq!(told("-1\n").0, None, "a host with one node");
}

#[test]
fn mig_devices_are_listed_by_profile_with_what_they_consist_of() {
    let gpu = Gpu::hopper("GPU-0").with_instances(&["3g.71gb", "1g.18gb"]);
    let (_library, mut reader) = installed(&Scenario::of(gpu));
    let gpu = reader.gpus().expect("inventory").remove(0);
    assert_eq!((gpu.mig, gpu.mig_pending), (Some(true), Some(true)));
    let listed = |mig: &MigDevice| (mig.profile.clone(), mig.index, mig.gpu_instance, mig.compute_instance);
    assert_eq!(
        gpu.mig_devices.iter().map(listed).collect::<Vec<_>>(),
        [("3g.71gb".to_owned(), Some(0), Some(1), Some(0)), ("1g.18gb".to_owned(), Some(1), Some(2), Some(0))]
    );
    let first = &gpu.mig_devices[0];
    let attributes = first.attributes.expect("attributes");
    assert_eq!((first.memory, attributes.multiprocessors), (Bytes(71_424 << 20), 60));
    assert_eq!((attributes.gpu_slices, attributes.compute_slices, attributes.decoders), (3, 3, 3));
    let instances: Vec<_> = gpu.mig_instances.iter().map(|instance| (instance.profile, instance.placement)).collect();
    assert_eq!(instances, [(9, MigPlacement { start: 0, size: 4 }), (19, MigPlacement { start: 4, size: 1 })]);
    let sample = reader.sample(&first.uuid).expect("a reading of a MIG device");
    assert_eq!(sample, GpuSample { memory_used: Some(Bytes(0)), ..GpuSample::default() });
}

#[test]
fn the_profiles_of_a_gpu_are_those_that_its_driver_names() {
    let (library, reader) = installed(&Scenario::of(Gpu::hopper("GPU-0").with_instances(&[])));
    let profiles = |reader: &Nvml| reader.gpus().expect("inventory").remove(0).mig_profiles;
    let names = |reader: &Nvml| -> Vec<_> { profiles(reader).into_iter().map(|profile| profile.name).collect() };
    let named = ["1g.18gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb", "1g.18gb+me", "1g.35gb"];
    assert_eq!(names(&reader), named);
    let double = profiles(&reader).pop().expect("a profile");
    assert_eq!((double.id, double.slices, double.memory, double.maximum), (15, 1, Bytes(33_280 << 20), 4));
    assert_eq!(
        double.placements.iter().map(|place| (place.start, place.size)).collect::<Vec<_>>(),
        [(0, 2), (2, 2), (4, 2), (6, 2)]
    );
    let scenario = library.scenario().expect("read");
    let old = scenario.clone().with_error("nvmlDeviceGetGpuInstanceProfileInfoV", ErrorCode::FunctionNotFound);
    library.replace(&old).expect("replaced");
    assert_eq!(names(&reader), named, "a driver without names: they follow from the sizes");
    library.replace(&scenario.with_error("nvmlDeviceGetGpuInstances", ErrorCode::NoPermission)).expect("replaced");
    assert_eq!(reader.gpus().expect("inventory")[0].mig_instances, [], "told to the root user only");
}

#[test]
fn a_driver_that_leaves_the_profile_out_of_the_name_has_it_worked_out() {
    let mut gpu = Gpu::hopper("GPU-0").with_instances(&["2g.35gb"]);
    gpu.mig.as_mut().expect("MIG").habits.insert(MigHabit::BareNames);
    let (_library, reader) = installed(&Scenario::of(gpu));
    assert_eq!(reader.gpus().expect("inventory")[0].mig_devices[0].profile, "2g.35gb");
}

#[test]
fn the_processes_of_a_mig_device_are_its_own() {
    let gpu = Gpu::hopper("GPU-0")
        .with_instances(&["3g.71gb", "1g.18gb"])
        .with_process(Process::compute(7, 100).on_instance(1, 0))
        .with_process(Process::mps_client(8, 50).on_instance(2, 0));
    let (_library, mut reader) = installed(&Scenario::of(gpu));
    let devices = reader.gpus().expect("inventory").remove(0).mig_devices;
    let mut pids = |device: &GpuUuid| -> Vec<_> {
        let processes = reader.processes(device).expect("processes");
        processes.into_iter().map(|process| (process.pid, process.memory, process.list)).collect()
    };
    assert_eq!(pids(&devices[0].uuid), [(7, Some(Bytes(100)), ProcessList::Compute)]);
    assert_eq!(pids(&devices[1].uuid), [(8, Some(Bytes(50)), ProcessList::MpsClient)]);
    assert_eq!(pids(&uuid("GPU-0")).len(), 2, "the GPU has them all");
}

#[test]
fn a_lost_gpu_is_left_out_of_the_inventory_unless_it_is_the_only_one() {
    let lost = Gpu { lost: true, ..Gpu::bare("GPU-0") };
    let (_both, reader) = installed(&Scenario::of(lost.clone()).with_gpu(Gpu::bare("GPU-1")));
    let left: Vec<_> = reader.gpus().expect("the other GPU").into_iter().map(|gpu| (gpu.index, gpu.uuid)).collect();
    assert_eq!(left, [(1, uuid("GPU-1"))]);
    let (_alone, reader) = installed(&Scenario::of(lost));
    assert!(matches!(reader.gpus(), Err(ReadError::Lost { .. })));
}

#[test]
fn a_reading_has_every_figure_the_driver_tells() {
    let gpu = Gpu { throttle_reasons: Some(0x4 | 0x1), ..Gpu::hopper("GPU-0") };
    let (_library, mut reader) = installed(&Scenario::of(gpu));
    let first = reader.sample(&uuid("GPU-0")).expect("a reading");
    assert_eq!((first.gpu_utilization, first.memory_utilization), (Some(80), Some(40)));
    assert_eq!((first.memory_used, first.power_milliwatts), (Some(Bytes(1 << 30)), Some(300_000)));
    assert_eq!((first.sm_clock_mhz, first.memory_clock_mhz), (Some(1_980), Some(3_201)));
    assert_eq!((first.temperature_celsius, first.throttle_reasons), (Some(41), Some(vec!["SwPowerCap".to_owned()])));
    assert_eq!(first.sm_activity, None, "one GPM sample is no difference");
    let second = reader.sample(&uuid("GPU-0")).expect("a reading");
    assert_eq!((second.sm_activity, second.sm_occupancy), (Some(71.5), Some(33.0)));
    assert_eq!((second.memory_bandwidth, second.tensor_activity), (Some(64.0), Some(12.5)));
    assert!(second.energy_millijoules >= first.energy_millijoules && first.energy_millijoules >= Some(5_000_000));
}

#[test]
fn figures_the_driver_does_not_tell_are_absent() {
    let scenario = Scenario::of(Gpu::bare("GPU-0")).with_error("nvmlDeviceGetMemoryInfo_v2", ErrorCode::NotSupported);
    let (_library, mut reader) = installed(&scenario);
    for _ in 0..2 {
        assert_eq!(reader.sample(&uuid("GPU-0")).expect("a reading"), GpuSample::default());
    }
}

#[test]
fn a_driver_without_gpm_functions_still_gives_the_other_figures() {
    let scenario =
        Scenario::of(Gpu::hopper("GPU-0")).with_error("nvmlGpmQueryDeviceSupport", ErrorCode::FunctionNotFound);
    let (_library, mut reader) = installed(&scenario);
    let readings =
        [reader.sample(&uuid("GPU-0")), reader.sample(&uuid("GPU-0"))].map(|sample| sample.expect("a reading"));
    assert!(readings.iter().all(|sample| sample.sm_activity.is_none() && sample.power_milliwatts.is_some()));
}

#[test]
fn an_unknown_gpu_and_a_lost_gpu_are_told_apart() {
    let (library, mut reader) = installed(&Scenario::of(Gpu::bare("GPU-0")));
    assert!(matches!(reader.sample(&uuid("GPU-9")), Err(ReadError::UnknownGpu { .. })));
    assert!(matches!(reader.sample(&uuid("a\0b")), Err(ReadError::UnknownGpu { .. })));
    reader.sample(&uuid("GPU-0")).expect("a reading");
    library.replace(&Scenario::of(Gpu { lost: true, ..Gpu::bare("GPU-0") })).expect("replaced");
    assert!(matches!(reader.sample(&uuid("GPU-0")), Err(ReadError::Lost { .. })));
    assert!(matches!(reader.processes(&uuid("GPU-0")), Err(ReadError::Lost { .. })));
}

fn listed(process: &GpuProcess) -> (u32, ProcessList, Option<u64>, Option<u32>) {
    (process.pid, process.list, process.memory.map(|memory| memory.0), process.sm_utilization)
}

#[test]
fn each_process_is_listed_once_and_an_mps_client_as_such() {
    let server = Process::compute(10, 66).with_utilization(90, 100);
    let graphics = Process { lists: vec![List::Graphics], memory: None, ..Process::compute(20, 0) };
    let both = Process { lists: vec![List::Graphics, List::Compute], ..Process::compute(25, 7) };
    let gpu = [server, graphics, both, Process::mps_client(30, 500)]
        .into_iter()
        .fold(Gpu::hopper("GPU-0"), Gpu::with_process);
    let (_library, mut reader) = installed(&Scenario::of(gpu));
    let processes = reader.processes(&uuid("GPU-0")).expect("processes");
    assert_eq!(
        processes.iter().map(listed).collect::<Vec<_>>(),
        [
            (10, ProcessList::Compute, Some(66), Some(90)),
            (20, ProcessList::Graphics, None, Some(0)),
            (25, ProcessList::Compute, Some(7), Some(0)),
            (30, ProcessList::MpsClient, Some(500), None),
        ]
    );
}

#[test]
fn stale_and_absurd_utilization_is_dropped() {
    let gpu = Gpu { whole_utilization_buffer: true, ..Gpu::hopper("GPU-0") }
        .with_process(Process::gone(1, Utilization { sm: 50, age_milliseconds: 10 }))
        .with_process(Process::compute(2, 1).with_utilization(60, 8_000))
        .with_process(Process::compute(3, 1).with_utilization(30, 700).with_utilization(40, 100))
        .with_process(Process::compute(4, 1).with_utilization(2_147_483_600, 50));
    let (_library, mut reader) = installed(&Scenario::of(gpu));
    let processes = reader.processes(&uuid("GPU-0")).expect("processes");
    let utilization: Vec<_> = processes.iter().map(|process| (process.pid, process.sm_utilization)).collect();
    assert_eq!(utilization, [(2, Some(0)), (3, Some(40)), (4, None)]);
}

#[test]
fn processes_that_were_all_idle_used_nothing_and_a_mig_gpu_does_not_say() {
    let idle = Gpu::hopper("GPU-0").with_process(Process::compute(1, 1));
    let (library, mut reader) = installed(&Scenario::of(idle.clone()));
    assert_eq!(reader.processes(&uuid("GPU-0")).expect("processes")[0].sm_utilization, Some(0));
    library.replace(&Scenario::of(idle.with_instances(&[]))).expect("replaced");
    assert_eq!(reader.processes(&uuid("GPU-0")).expect("processes")[0].sm_utilization, None);
}

#[test]
fn a_driver_without_the_mps_list_still_lists_the_others() {
    let scenario = Scenario::of(Gpu::hopper("GPU-0").with_process(Process::mps_client(1, 5)))
        .with_error("nvmlDeviceGetMPSComputeRunningProcesses_v3", ErrorCode::FunctionNotFound);
    let (_library, mut reader) = installed(&scenario);
    let processes = reader.processes(&uuid("GPU-0")).expect("processes");
    assert_eq!(processes.iter().map(listed).collect::<Vec<_>>(), [(1, ProcessList::Compute, Some(5), Some(0))]);
}

#[test]
fn a_scripted_process_comes_and_goes() {
    let scenario = Scenario::of(Gpu::hopper("GPU-0")).with_event(0, 0, Change::Appears(Process::compute(5, 1)));
    let (library, mut reader) = installed(&scenario);
    assert_eq!(reader.processes(&uuid("GPU-0")).expect("processes").len(), 1);
    library.replace(&scenario.with_event(0, 0, Change::Leaves(5))).expect("replaced");
    assert_eq!(reader.processes(&uuid("GPU-0")).expect("processes"), []);
}

/// Starts itself with the variables set: a process cannot safely change its own environment.
#[test]
fn the_environment_names_the_library_and_its_scenario() {
    if std::env::var_os(SCENARIO_VARIABLE).is_some() {
        let reader = Nvml::open().expect("a reader");
        assert_eq!(reader.gpus().expect("inventory")[0].uuid, uuid("GPU-named"));
        return;
    }
    let beside = Scenario::of(Gpu::bare("GPU-beside")).install().expect("the simulated library");
    let named = Scenario::of(Gpu::bare("GPU-named")).install().expect("the simulated library");
    #[expect(clippy::disallowed_methods, reason = "the child is reaped right here")]
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child.args(["--exact", "the_environment_names_the_library_and_its_scenario"]);
    child.env(LIBRARY_VARIABLE, beside.path()).env(SCENARIO_VARIABLE, named.scenario_path());
    let output = child.output().expect("a child");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
