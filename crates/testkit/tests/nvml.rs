//! The simulated NVML, loaded as a program loads the driver's: what the rooms that read it do not cover.
#![expect(clippy::expect_used, reason = "a test's helper may fail the test")]

use std::collections::BTreeSet;

use cotenant_testkit::nvml::{Change, ErrorCode, Gpu, Library, Process, Scenario};
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::ComputeMode;
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;

fn loaded(scenario: &Scenario) -> (Library, Nvml) {
    let library = scenario.install().expect("the simulated library");
    let nvml = Nvml::builder().lib_path(library.path().as_os_str()).init().expect("a start");
    (library, nvml)
}

#[test]
fn an_xid_error_is_delivered_once_and_only_after_registering() {
    let early = Scenario::of(Gpu::hopper("GPU-0")).with_event(0, 0, Change::Xid(13));
    let (library, nvml) = loaded(&early);
    let device = nvml.device_by_index(0).expect("a device");
    let set = nvml.create_event_set().expect("a set");
    let set = device.register_events(EventTypes::CRITICAL_XID_ERROR, set).expect("registered");
    assert!(matches!(set.wait(0), Err(NvmlError::Timeout)), "an event from before is not told");
    library.replace(&early.with_event(0, 0, Change::Xid(79))).expect("replaced");
    let event = set.wait(5_000).expect("an event");
    assert!(matches!(event.event_data, Some(XidError::Value(79))), "{:?}", event.event_data);
    assert_eq!(event.device.uuid().expect("a UUID"), "GPU-0");
    assert!(matches!(set.wait(0), Err(NvmlError::Timeout)), "an event is told once");
}

#[test]
fn waiting_for_events_ends_when_the_gpu_is_lost() {
    let (_library, nvml) = loaded(&Scenario::of(Gpu::hopper("GPU-0")).with_event(30, 0, Change::Lost));
    let device = nvml.device_by_index(0).expect("a device");
    let set = nvml.create_event_set().expect("a set");
    let set = device.register_events(EventTypes::CRITICAL_XID_ERROR, set).expect("registered");
    assert!(matches!(set.wait(10_000), Err(NvmlError::GpuLost)));
    assert!(matches!(device.name(), Err(NvmlError::GpuLost)));
}

#[test]
fn a_gpu_that_is_back_is_seen_after_nvml_has_started_again() {
    let (library, nvml) = loaded(&Scenario::of(Gpu::hopper("GPU-0")));
    library.happen(0, Change::Lost).expect("lost");
    assert!(matches!(nvml.device_by_index(0), Err(NvmlError::GpuLost)));
    library.happen(0, Change::Back).expect("back");
    assert!(matches!(nvml.device_by_index(0), Err(NvmlError::GpuLost)), "this program saw it go");
    nvml.shutdown().expect("an end");
    let nvml = Nvml::builder().lib_path(library.path().as_os_str()).init().expect("a start");
    assert_eq!(nvml.device_by_index(0).and_then(|device| device.uuid()).expect("a UUID"), "GPU-0");
}

#[test]
fn a_driver_that_was_unloaded_has_to_be_started_again() {
    let scenario = Scenario::of(Gpu::hopper("GPU-0"));
    let (library, nvml) = loaded(&scenario);
    library.replace(&Scenario { driver_loaded: false, ..scenario.clone() }).expect("replaced");
    assert!(matches!(nvml.device_count(), Err(NvmlError::DriverNotLoaded)));
    library.replace(&scenario).expect("replaced");
    assert!(matches!(nvml.device_count(), Err(NvmlError::Uninitialized)));
    let nvml = Nvml::builder().lib_path(library.path().as_os_str()).init().expect("a start");
    assert_eq!(nvml.device_count().expect("a count"), 1);
}

/// Two copies of the library beside one scenario have a state each, as two programs of a host have.
#[test]
fn shared_settings_hold_for_every_program_and_outlive_them() {
    let folder = tempfile::tempdir().expect("folder");
    let scenario = Scenario::of(Gpu::hopper("GPU-0")).with_shared_settings();
    let library = scenario.install_in(folder.path()).expect("the simulated library");
    let program = |name: &str| {
        let copy = folder.path().join(name);
        std::fs::copy(library.path(), &copy).expect("copied");
        Nvml::builder().lib_path(copy.as_os_str()).init().expect("a start")
    };
    let mode = |nvml: &Nvml| nvml.device_by_index(0).and_then(|device| device.compute_mode()).expect("a mode");
    let (first, second) = (program("first.so"), program("second.so"));
    first
        .device_by_index(0)
        .and_then(|mut device| device.set_compute_mode(ComputeMode::ExclusiveProcess))
        .expect("set");
    assert_eq!(mode(&second), ComputeMode::ExclusiveProcess);
    second.device_by_index(0).and_then(|device| device.set_mig_mode(true)).expect("set");
    drop((first, second));
    library.happen(0, Change::Xid(79)).expect("an event");
    let third = program("third.so");
    assert_eq!(mode(&third), ComputeMode::ExclusiveProcess);
    assert_eq!(third.device_by_index(0).and_then(|device| device.mig_mode()).expect("a mode").current, 1);
}

#[test]
fn a_gpu_says_where_it_sits_and_what_it_needs() {
    let gpus = Scenario::of(Gpu::turing("GPU-0")).with_gpu(Gpu::hopper("GPU-1").on_numa_node(1));
    let (library, nvml) = loaded(&gpus);
    let [turing, hopper] = [0, 1].map(|index| nvml.device_by_index(index).expect("a device"));
    let bus_ids = [&turing, &hopper].map(|device| device.pci_info().expect("PCI").bus_id);
    assert_eq!(bus_ids, ["00000000:10:00.0", "00000000:11:00.0"]);
    assert_eq!(hopper.minor_number().expect("a number"), 1);
    assert_eq!((turing.memory_affinity(1, 0).ok(), hopper.memory_affinity(1, 0).ok()), (None, Some(vec![2])));
    let action = |device: &nvml_wrapper::Device<'_>| {
        let mut values = device.field_values_for(&[FieldId(230)]).expect("fields");
        values.remove(0).expect("a field").value.ok()
    };
    assert_eq!((action(&turing), action(&hopper)), (None, Some(SampleValue::U32(0))));
    library.happen(1, Change::RecoveryAction(1)).expect("an event");
    assert_eq!(action(&hopper), Some(SampleValue::U32(1)));
}

#[test]
fn processes_are_listed_for_a_gpu_and_for_each_of_its_mig_devices() {
    let gpu = Gpu::hopper("GPU-0")
        .with_instances(&["3g.71gb", "1g.18gb"])
        .with_process(Process::compute(7, 100).on_instance(1, 0))
        .with_process(Process::compute(8, 50).on_instance(2, 0));
    let (_library, nvml) = loaded(&Scenario::of(gpu));
    let parent = nvml.device_by_index(0).expect("a device");
    let pids = |device: &nvml_wrapper::Device<'_>| -> Vec<_> {
        let processes = device.running_compute_processes().expect("processes");
        processes.iter().map(|process| (process.pid, process.gpu_instance_id)).collect()
    };
    assert_eq!(pids(&parent), [(7, Some(1)), (8, Some(2))]);
    let second = parent.mig_device_by_index(1).expect("a MIG device");
    assert_eq!(pids(&second), [(8, Some(2))]);
    assert_eq!(second.memory_info().expect("memory").used, 50);
    assert!(matches!(parent.mig_device_by_index(2), Err(NvmlError::NotFound)));
}

#[test]
fn compute_mode_and_mig_mode_can_be_set() {
    let (library, nvml) = loaded(&Scenario::of(Gpu::hopper("GPU-0")));
    let mut device = nvml.device_by_index(0).expect("a device");
    device.set_compute_mode(ComputeMode::ExclusiveProcess).expect("set");
    assert_eq!(device.compute_mode().expect("a mode"), ComputeMode::ExclusiveProcess);
    device.set_mig_mode(true).expect("set");
    assert_eq!(device.mig_mode().expect("a mode").current, 1);
    library.replace(&Scenario::of(Gpu::hopper("GPU-0").with_process(Process::compute(1, 1)))).expect("replaced");
    assert!(matches!(device.set_mig_mode(true), Err(NvmlError::InUse)), "a GPU in use keeps its MIG mode");
}

#[test]
fn a_setting_that_is_not_permitted_is_refused() {
    let scenario = Scenario::of(Gpu::hopper("GPU-0")).with_error("nvmlDeviceSetComputeMode", ErrorCode::NoPermission);
    let (_library, nvml) = loaded(&scenario);
    let mut device = nvml.device_by_index(0).expect("a device");
    assert!(matches!(device.set_compute_mode(ComputeMode::Prohibited), Err(NvmlError::NoPermission)));
    assert_eq!(device.compute_mode().expect("a mode"), ComputeMode::Default);
}

#[test]
fn energy_never_runs_backwards_when_power_or_the_scenario_changes() {
    let scenario = Scenario::of(Gpu::hopper("GPU-0"));
    let (library, nvml) = loaded(&scenario);
    let device = nvml.device_by_index(0).expect("a device");
    let mut readings = vec![device.total_energy_consumption().expect("energy")];
    library.replace(&scenario.with_event(0, 0, Change::Power(1))).expect("replaced");
    assert_eq!(device.power_usage().expect("power"), 1);
    readings.push(device.total_energy_consumption().expect("energy"));
    assert!(readings[0] >= 5_000_000 && readings.is_sorted(), "{readings:?}");
}

#[test]
fn libraries_of_one_process_have_a_scenario_each() {
    let loaded: Vec<_> = ["GPU-a", "GPU-b"].map(|uuid| loaded(&Scenario::of(Gpu::bare(uuid)))).into();
    let uuids: BTreeSet<_> = loaded
        .iter()
        .map(|(_library, nvml)| nvml.device_by_index(0).and_then(|device| device.uuid()).expect("a UUID"))
        .collect();
    assert_eq!(uuids, BTreeSet::from(["GPU-a".to_owned(), "GPU-b".to_owned()]));
}

#[test]
fn a_scenario_that_cannot_be_read_is_a_driver_that_does_not_answer() {
    let library = Scenario::of(Gpu::bare("GPU-0")).install().expect("the simulated library");
    std::fs::write(library.scenario_path(), "{").expect("written");
    let answer = Nvml::builder().lib_path(library.path().as_os_str()).init();
    assert!(matches!(answer, Err(NvmlError::Unknown)), "{answer:?}");
}
