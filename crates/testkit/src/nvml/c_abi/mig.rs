//! MIG mode and MIG devices. A simulated device's GPU instance and compute instance have its position for an id.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::nvmlDeviceAttributes_t;

use super::pointer::{Device, Out, supported};
use crate::nvml::scenario::{ErrorCode, MigDevice};
use crate::nvml::simulation::Target;

exports! {
    "nvmlDeviceGetMigMode" => fn mode(device: Device, current: Out<c_uint>, pending: Out<c_uint>) |simulation| {
        let enabled = supported(device.gpu(simulation)?.mig.as_ref())?.enabled;
        current.put(enabled.into())?;
        pending.put(enabled.into())
    };
    "nvmlDeviceSetMigMode" => fn set_mode(device: Device, mode: c_uint, status: Out<c_uint>) |simulation| {
        let gpu = simulation.gpu_at_mut(device.position()?)?;
        if gpu.processes.iter().any(|process| !process.lists.is_empty()) {
            return Err(ErrorCode::InUse);
        }
        supported(gpu.mig.as_mut())?.enabled = mode == 1;
        status.put(0)
    };
    "nvmlDeviceGetMaxMigDeviceCount" => fn highest_count(device: Device, count: Out<c_uint>) |simulation| {
        supported(device.gpu(simulation)?.mig.as_ref())?;
        count.put(MAX_DEVICES)
    };
    "nvmlDeviceGetMigDeviceHandleByIndex" => fn by_index(device: Device, index: c_uint, found: Out<Device>) |simulation| {
        let mig = supported(device.gpu(simulation)?.mig.as_ref())?;
        let position = usize::try_from(index).map_err(|_range| ErrorCode::InvalidArgument)?;
        if !mig.enabled || position >= mig.devices.len() {
            return Err(ErrorCode::NotFound);
        }
        found.put(Target::Mig(device.position()?, position).into())
    };
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle" => fn parent(device: Device, found: Out<Device>) |simulation| {
        device.resolve(simulation)?;
        match device.target()? {
            Target::Mig(gpu, _) => found.put(Target::Gpu(gpu).into()),
            Target::Gpu(_) => Err(ErrorCode::InvalidArgument),
        }
    };
    "nvmlDeviceIsMigDeviceHandle" => fn is_mig(device: Device, answer: Out<c_uint>) |simulation|
        answer.put(device.resolve(simulation)?.1.is_some().into());
    "nvmlDeviceGetAttributes_v2" => fn attributes(device: Device, attributes: Out<nvmlDeviceAttributes_t>) |simulation|
        attributes.put(attributes_of(supported(device.resolve(simulation)?.1)?));
    "nvmlDeviceGetGpuInstanceId" => fn gpu_instance(device: Device, id: Out<c_uint>) |_simulation| id.put(instance(device)?);
    "nvmlDeviceGetComputeInstanceId" => fn compute_instance(device: Device, id: Out<c_uint>) |_simulation|
        id.put(instance(device)?);
}

/// Seven on every GPU that can do MIG so far.
const MAX_DEVICES: c_uint = 7;

fn instance(device: Device) -> Result<c_uint, ErrorCode> {
    match device.target()? {
        Target::Mig(_, position) => c_uint::try_from(position).map_err(|_range| ErrorCode::Unknown),
        Target::Gpu(_) => Err(ErrorCode::NotSupported),
    }
}

const fn attributes_of(device: &MigDevice) -> nvmlDeviceAttributes_t {
    nvmlDeviceAttributes_t {
        multiprocessorCount: device.compute_slices * 16,
        sharedCopyEngineCount: device.gpu_slices,
        sharedDecoderCount: 0,
        sharedEncoderCount: 0,
        sharedJpegCount: 0,
        sharedOfaCount: 0,
        gpuInstanceSliceCount: device.gpu_slices,
        computeInstanceSliceCount: device.compute_slices,
        memorySizeMB: device.memory >> 20,
    }
}
