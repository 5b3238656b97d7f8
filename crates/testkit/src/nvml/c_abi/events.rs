//! Event sets: XID errors that the script reports.

use std::ffi::{c_uint, c_ulonglong};
use std::time::Duration;

use nvml_wrapper_sys::bindings::nvmlEventData_t;

use super::pointer::{Device, Out};
use crate::nvml::scenario::{Change, ErrorCode};
use crate::nvml::simulation::{EventSet, Registration, Simulation, Target, answer, now};

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
        let (position, seen, mig) = (device.position()?, simulation.happened(), device.gpu(simulation)?.mig.clone());
        let set = simulation.event_sets.get_mut(&set).ok_or(ErrorCode::InvalidArgument)?;
        set.registered.insert(position, Registration { kinds: types, seen, mig });
        Ok(())
    };
}

/// `nvmlEventTypeSingleBitEccError`.
const SINGLE_BIT: c_ulonglong = 1;
/// `nvmlEventTypeDoubleBitEccError`.
const DOUBLE_BIT: c_ulonglong = 2;
/// `nvmlEventTypeXidCriticalError`.
const XID: c_ulonglong = 8;
/// `nvmlEventMigConfigChange`.
const MIG_CHANGE: c_ulonglong = 0x100;
const KNOWN: c_ulonglong = SINGLE_BIT | DOUBLE_BIT | XID | MIG_CHANGE;
const POLL: Duration = Duration::from_millis(2);
/// How long it takes to find a GPU lost. What the real driver takes is not known; nothing at all would turn a caller that asks
/// again at once into a busy loop by our choice.
const LOST: Duration = Duration::from_millis(50);

/// Waits without holding the simulation, so that other threads go on.
#[unsafe(export_name = "nvmlEventSetWait_v2")]
extern "C" fn wait(set: usize, data: Out<nvmlEventData_t>, milliseconds: c_uint) -> u32 {
    let deadline = now() + Duration::from_millis(milliseconds.into());
    loop {
        let code = answer("nvmlEventSetWait_v2", |simulation| data.put(next(simulation, set)?));
        if code == ErrorCode::GpuIsLost as u32 {
            std::thread::sleep(LOST);
        }
        if code != ErrorCode::Timeout as u32 || now() >= deadline {
            return code;
        }
        std::thread::sleep(POLL);
    }
}

/// The oldest event of the set that has happened and was not handed out. A lost GPU is an error, at every call, as in the
/// driver.
fn next(simulation: &mut Simulation, handle: usize) -> Result<nvmlEventData_t, ErrorCode> {
    let mut set = simulation.event_sets.remove(&handle).ok_or(ErrorCode::InvalidArgument)?;
    let found = oldest(simulation, &mut set).or_else(|| cut(simulation, &mut set));
    let lost = set.registered.keys().try_for_each(|gpu| simulation.gpu_at(*gpu).map(drop));
    simulation.event_sets.insert(handle, set);
    match found {
        Some(data) => Ok(data),
        None => lost.and(Err(ErrorCode::Timeout)),
    }
}

/// The oldest event of the script.
fn oldest(simulation: &Simulation, set: &mut EventSet) -> Option<nvmlEventData_t> {
    let happened = simulation.scenario.events.iter().enumerate().take(simulation.happened());
    for (position, event) in happened {
        let Some(of) = set.registered.get_mut(&event.gpu).filter(|of| position >= of.seen) else { continue };
        of.seen = position + 1;
        if let Some(data) = event_data(event.gpu, &event.change).filter(|data| data.eventType & of.kinds != 0) {
            return Some(data);
        }
    }
    None
}

/// A GPU that is cut otherwise than it was.
fn cut(simulation: &Simulation, set: &mut EventSet) -> Option<nvmlEventData_t> {
    for (position, of) in set.registered.iter_mut().filter(|(_, of)| of.kinds & MIG_CHANGE != 0) {
        let now = simulation.gpu_at(*position).ok().and_then(|gpu| gpu.mig.clone());
        if now.is_some() && now != of.mig {
            of.mig = now;
            return Some(data(*position, MIG_CHANGE, 0, (NO_INSTANCE, NO_INSTANCE)));
        }
    }
    None
}

const NO_INSTANCE: u32 = u32::MAX;

fn event_data(gpu: usize, change: &Change) -> Option<nvmlEventData_t> {
    const NOWHERE: (u32, u32) = (NO_INSTANCE, NO_INSTANCE);
    Some(match *change {
        Change::Xid(number) => data(gpu, XID, number, NOWHERE),
        Change::InstanceXid(number, instance, compute) => data(gpu, XID, number, (instance, compute)),
        Change::SingleBitError => data(gpu, SINGLE_BIT, 0, NOWHERE),
        Change::DoubleBitError => data(gpu, DOUBLE_BIT, 0, NOWHERE),
        Change::Appears(_)
        | Change::Leaves(_)
        | Change::Power(_)
        | Change::RecoveryAction(_)
        | Change::Lost
        | Change::Back => return None,
    })
}

fn data(gpu: usize, kind: c_ulonglong, number: c_ulonglong, (instance, compute): (u32, u32)) -> nvmlEventData_t {
    nvmlEventData_t {
        device: std::ptr::without_provenance_mut(Device::from(Target::Gpu(gpu)).0),
        eventType: kind,
        eventData: number,
        gpuInstanceId: instance,
        computeInstanceId: compute,
    }
}
