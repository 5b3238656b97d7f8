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
        types.put(KNOWN)
    };
    "nvmlDeviceRegisterEvents" => fn register(device: Device, types: c_ulonglong, set: usize) |simulation| {
        device.gpu(simulation)?;
        if types & !KNOWN != 0 {
            return Err(ErrorCode::NotSupported);
        }
        let (position, seen) = (device.position()?, simulation.happened());
        let set = simulation.event_sets.get_mut(&set).ok_or(ErrorCode::InvalidArgument)?;
        set.registered.insert(position, seen);
        Ok(())
    };
}

/// `nvmlEventTypeSingleBitEccError`.
const SINGLE_BIT: c_ulonglong = 1;
/// `nvmlEventTypeDoubleBitEccError`.
const DOUBLE_BIT: c_ulonglong = 2;
/// `nvmlEventTypeXidCriticalError`.
const XID: c_ulonglong = 8;
const KNOWN: c_ulonglong = SINGLE_BIT | DOUBLE_BIT | XID;
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

/// The oldest event of the set that has happened and was not handed out. A lost GPU is an error, at every call, as in the
/// driver.
fn next(simulation: &mut Simulation, handle: usize) -> Result<nvmlEventData_t, ErrorCode> {
    let happened = simulation.happened();
    let set = simulation.event_sets.get_mut(&handle).ok_or(ErrorCode::InvalidArgument)?;
    for (position, event) in simulation.scenario.events.iter().enumerate().take(happened) {
        let Some(seen) = set.registered.get_mut(&event.gpu).filter(|seen| position >= **seen) else { continue };
        *seen = position + 1;
        if let Some(data) = event_data(event.gpu, &event.change) {
            return Ok(data);
        }
    }
    let registered: Vec<usize> = set.registered.keys().copied().collect();
    registered.into_iter().try_for_each(|gpu| simulation.gpu_at(gpu).map(drop))?;
    Err(ErrorCode::Timeout)
}

fn event_data(gpu: usize, change: &Change) -> Option<nvmlEventData_t> {
    const NO_INSTANCE: u32 = u32::MAX;
    let (kind, number, instance, compute) = match *change {
        Change::Xid(number) => (XID, number, NO_INSTANCE, NO_INSTANCE),
        Change::InstanceXid(number, instance, compute) => (XID, number, instance, compute),
        Change::SingleBitError => (SINGLE_BIT, 0, NO_INSTANCE, NO_INSTANCE),
        Change::DoubleBitError => (DOUBLE_BIT, 0, NO_INSTANCE, NO_INSTANCE),
        Change::Appears(_)
        | Change::Leaves(_)
        | Change::Power(_)
        | Change::RecoveryAction(_)
        | Change::Lost
        | Change::Back => return None,
    };
    Some(nvmlEventData_t {
        device: std::ptr::without_provenance_mut(Device::from(Target::Gpu(gpu)).0),
        eventType: kind,
        eventData: number,
        gpuInstanceId: instance,
        computeInstanceId: compute,
    })
}
