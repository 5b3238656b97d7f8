//! Event sets.

use std::ptr;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml as Library};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t};

use super::handle;

/// A set of events that is waited for; freed when dropped, which must be before NVML is ended.
#[derive(Debug)]
pub(crate) struct EventSet {
    library: &'static Library,
    set: nvmlEventSet_t,
    devices: Vec<nvmlDevice_t>,
}

// SAFETY: NVML may be called from any thread, and `&mut self` keeps two threads from using a set at a time.
unsafe impl Send for EventSet {}

/// What the driver reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawEvent {
    /// Position of the GPU in order of registration; `None` where the driver names another.
    pub(crate) device: Option<usize>,
    /// One of `nvmlEventType…`.
    pub(crate) kind: u64,
    /// The XID of an XID error.
    pub(crate) data: u64,
    /// Ids of the GPU instance and the compute instance, where it happened in one.
    pub(crate) instance: Option<(u32, u32)>,
}

impl EventSet {
    /// An empty set.
    pub(crate) fn new(library: &'static Library) -> Result<Self, NvmlError> {
        let mut set = ptr::null_mut();
        call!(library, nvmlEventSetCreate(&raw mut set))?;
        Ok(Self { library, set, devices: Vec::new() })
    }

    /// Asks for those of the `wanted` kinds that the GPU has; its position in this set.
    pub(crate) fn register(&mut self, device: &Device<'_>, wanted: u64) -> Result<usize, NvmlError> {
        let mut has = 0;
        call!(self.library, nvmlDeviceGetSupportedEventTypes(handle(device), &raw mut has))?;
        if wanted & has == 0 {
            return Err(NvmlError::NotSupported);
        }
        call!(self.library, nvmlDeviceRegisterEvents(handle(device), wanted & has, self.set))?;
        self.devices.push(handle(device));
        Ok(self.devices.len() - 1)
    }

    /// Waits for one event at most so long; [`NvmlError::Timeout`] when there was none.
    pub(crate) fn wait(&mut self, milliseconds: u32) -> Result<RawEvent, NvmlError> {
        let mut data = nvmlEventData_t {
            device: ptr::null_mut(),
            eventType: 0,
            eventData: 0,
            gpuInstanceId: u32::MAX,
            computeInstanceId: u32::MAX,
        };
        call!(self.library, nvmlEventSetWait_v2(self.set, &raw mut data, milliseconds))?;
        let there = |id: u32| Some(id).filter(|id| *id != u32::MAX);
        Ok(RawEvent {
            device: self.devices.iter().position(|device| *device == data.device),
            kind: data.eventType,
            data: data.eventData,
            instance: there(data.gpuInstanceId).zip(there(data.computeInstanceId)),
        })
    }
}

impl Drop for EventSet {
    fn drop(&mut self) {
        if let Err(error) = call!(self.library, nvmlEventSetFree(self.set)) {
            tracing::debug!(%error, "an event set is not given back");
        }
    }
}
