//! The simulated NVML, loaded as a program loads the driver's: what the rooms that read it do not cover.
#![expect(clippy::expect_used, reason = "a test's helper may fail the test")]

use std::collections::BTreeSet;

use cotenant_testkit::nvml::{Change, ErrorCode, Gpu, Library, Process, Scenario};
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::ComputeMode;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;

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
