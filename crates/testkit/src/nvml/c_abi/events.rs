//! Event sets: XID errors that the script reports.

use std::ffi::{c_uint, c_ulonglong};
use std::time::Duration;

use nvml_wrapper_sys::bindings::nvmlEventData_t;

use super::pointer::{Device, Out};
use crate::nvml::scenario::{Change, ErrorCode};
use crate::nvml::simulation::{EventSet, Simulation, Target, answer, now};

exports! {
    "nvmlEventSetCreate" => fn create(set: Out<usize>) |simulation| {
        let handle = simulation.new_handle();
        simulation.event_sets.insert(handle, EventSet::default());
        set.put(handle)
    };
    "nvmlEventSetFree" => fn free(set: usize) |simulation|
        simulation.event_sets.remove(&set).map(drop).ok_or(ErrorCode::InvalidArgument);
    "nvmlDeviceGetSupportedEventTypes" => fn supported_types(device: Device, types: Out<c_ulonglong>) |simulation| {
        device.gpu(simulation)?;
        types.put(XID)
    };
    "nvmlDeviceRegisterEvents" => fn register(device: Device, types: c_ulonglong, set: usize) |simulation| {
        device.gpu(simulation)?;
        if types & !XID != 0 {
            return Err(ErrorCode::NotSupported);
        }
        let (position, seen) = (device.position()?, simulation.happened());
        let set = simulation.event_sets.get_mut(&set).ok_or(ErrorCode::InvalidArgument)?;
        set.registered.insert(position, seen);
        Ok(())
    };
}

/// `nvmlEventTypeXidCriticalError`.
const XID: c_ulonglong = 8;
const POLL: Duration = Duration::from_millis(2);

/// Waits without holding the simulation, so that other threads go on.
#[unsafe(export_name = "nvmlEventSetWait_v2")]
extern "C" fn wait(set: usize, data: Out<nvmlEventData_t>, milliseconds: c_uint) -> u32 {
    let deadline = now() + Duration::from_millis(milliseconds.into());
    loop {
        let code = answer("nvmlEventSetWait_v2", |simulation| data.put(next(simulation, set)?));
        if code != ErrorCode::Timeout as u32 || now() >= deadline {
            return code;
        }
        std::thread::sleep(POLL);
    }
}

/// The oldest event of the set that has happened and was not handed out; a lost GPU is an error, as in the driver.
fn next(simulation: &mut Simulation, handle: usize) -> Result<nvmlEventData_t, ErrorCode> {
    let happened = simulation.happened();
    let set = simulation.event_sets.get_mut(&handle).ok_or(ErrorCode::InvalidArgument)?;
    for (position, event) in simulation.scenario.events.iter().enumerate().take(happened) {
        let Some(seen) = set.registered.get_mut(&event.gpu).filter(|seen| position >= **seen) else { continue };
        *seen = position + 1;
        match event.change {
            Change::Xid(number) => return Ok(event_data(event.gpu, number)),
            Change::Lost => return Err(ErrorCode::GpuIsLost),
            Change::Appears(_) | Change::Leaves(_) | Change::Power(_) => {}
        }
    }
    Err(ErrorCode::Timeout)
}

fn event_data(gpu: usize, number: u64) -> nvmlEventData_t {
    const NO_INSTANCE: u32 = u32::MAX;
    nvmlEventData_t {
        device: std::ptr::without_provenance_mut(Device::from(Target::Gpu(gpu)).0),
        eventType: XID,
        eventData: number,
        gpuInstanceId: NO_INSTANCE,
        computeInstanceId: NO_INSTANCE,
    }
}
