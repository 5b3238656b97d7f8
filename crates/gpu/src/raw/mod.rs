//! The few functions of NVML that `nvml-wrapper` does not have, or has without what is needed here.
//!
//! | what | why not `nvml-wrapper` 0.13 |
//! |---|---|
//! | event sets | its events leave out the GPU instance and compute instance, and a refused registration frees the whole set |
//! | GPU and compute instances | not there; its list of placements is always empty |
//! | instance ids of a MIG device, fabric | not there |
//! | ending and starting NVML again | it can end it once only, and takes every handle along |
//!
//! Nothing outside this folder sees a raw handle. Handles of NVML are valid until NVML is ended, so every function here takes
//! the [`Device`] that `nvml-wrapper` gives out, or ids.
#![expect(unsafe_code, reason = "NVML is a C library")]

/// Calls a C function of the library by name.
macro_rules! call {
    ($library:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match nvml_wrapper::error::nvml_sym($library.lib().$function.as_ref()) {
            Ok(function) => {
                // SAFETY: the symbol has the type that NVIDIA's header gives it; handles come from this very library, and
                // pointers are to values and buffers that live until the call returns, as large as the function writes.
                nvml_wrapper::error::nvml_try(unsafe { function($($argument),*) })
            }
            Err(absent) => Err(absent),
        }
    };
}

mod events;
mod instance;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml as Library};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlGpuFabricInfo_t};

pub(crate) use events::{EventSet, RawEvent};
pub(crate) use instance::{Instance, Profile, instances, profiles};
pub(crate) use instance::{create_compute_instance, create_instance, destroy_compute_instance, destroy_instance};

/// Ends NVML and starts it again, whether or not it was running.
///
/// Every handle is dead afterwards: the caller sees to it that none is in use, and that each is looked up again.
pub(crate) fn restart(library: &Library) -> Result<(), NvmlError> {
    if let Err(error) = call!(library, nvmlShutdown()) {
        tracing::debug!(%error, "NVML was not running");
    }
    call!(library, nvmlInit_v2())
}

/// Ids of the GPU instance and the compute instance of a MIG device.
pub(crate) fn instance_ids(mig: &Device<'_>) -> Result<(u32, u32), NvmlError> {
    let (mut instance, mut compute) = (0, 0);
    call!(mig.nvml(), nvmlDeviceGetGpuInstanceId(handle(mig), &raw mut instance))?;
    call!(mig.nvml(), nvmlDeviceGetComputeInstanceId(handle(mig), &raw mut compute))?;
    Ok((instance, compute))
}

/// The fabric that a GPU has joined: UUID of the cluster, and clique.
pub(crate) fn fabric(device: &Device<'_>) -> Result<Option<([u8; 16], u32)>, NvmlError> {
    /// `NVML_GPU_FABRIC_STATE_COMPLETED`.
    const COMPLETED: u8 = 3;
    let mut info = nvmlGpuFabricInfo_t { clusterUuid: [0; 16], status: 0, cliqueId: 0, state: 0 };
    call!(device.nvml(), nvmlDeviceGetGpuFabricInfo(handle(device), &raw mut info))?;
    let joined = info.state == COMPLETED && info.status == 0 && info.clusterUuid != [0; 16];
    Ok(joined.then_some((info.clusterUuid, info.cliqueId)))
}

fn handle(device: &Device<'_>) -> nvmlDevice_t {
    // SAFETY: the handle is passed to functions of the library that it came from, while that is running.
    unsafe { device.handle() }
}
