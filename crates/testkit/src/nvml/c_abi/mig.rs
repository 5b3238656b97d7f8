//! MIG mode and MIG devices.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::nvmlDeviceAttributes_t;

use super::pointer::{Device, MigDevice, Out, supported};
use crate::nvml::scenario::{ErrorCode, Mig, MigHabit};
use crate::nvml::simulation::Target;

exports! {
    "nvmlDeviceGetMigMode" => fn mode(device: Device, current: Out<c_uint>, pending: Out<c_uint>) |simulation| {
        let mig = supported(device.gpu(simulation)?.mig.as_ref())?;
        current.put(mig.enabled.into())?;
        pending.put(mig.pending.unwrap_or(mig.enabled).into())
    };
    "nvmlDeviceSetMigMode" => fn set_mode(device: Device, mode: c_uint, status: Out<c_uint>) |simulation| {
        let answer = simulation.change(device.position()?, |gpu| {
            let in_use = gpu.processes.iter().any(|process| !process.lists.is_empty());
            let mig = supported(gpu.mig.as_mut())?;
            if in_use || (mode == 0 && !mig.instances.is_empty()) {
                return Err(ErrorCode::InUse);
            }
            Ok(turn(mig, mode == 1))
        })?;
        status.put(answer)
    };
    "nvmlDeviceGetMaxMigDeviceCount" => fn highest_count(device: Device, count: Out<c_uint>) |simulation| {
        supported(device.gpu(simulation)?.mig.as_ref())?;
        count.put(MAX_DEVICES)
    };
    "nvmlDeviceGetMigDeviceHandleByIndex" => fn by_index(device: Device, index: c_uint, found: Out<Device>) |simulation| {
        let mig = supported(device.gpu(simulation)?.mig.as_ref())?;
        let position = usize::try_from(index).map_err(|_range| ErrorCode::InvalidArgument)?;
        let (instance, compute) = mig.devices().nth(position).ok_or(ErrorCode::NotFound)?;
        found.put(Target::Mig(device.position()?, instance.id, compute.id).into())
    };
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle" => fn parent(device: Device, found: Out<Device>) |simulation| {
        device.resolve(simulation)?;
        match device.target()? {
            Target::Mig(gpu, ..) => found.put(Target::Gpu(gpu).into()),
            Target::Gpu(_) => Err(ErrorCode::InvalidArgument),
        }
    };
    "nvmlDeviceIsMigDeviceHandle" => fn is_mig(device: Device, answer: Out<c_uint>) |simulation|
        answer.put(device.resolve(simulation)?.1.is_some().into());
    "nvmlDeviceGetAttributes_v2" => fn attributes(device: Device, attributes: Out<nvmlDeviceAttributes_t>) |simulation|
        attributes.put(attributes_of(&supported(device.resolve(simulation)?.1)?));
    "nvmlDeviceGetGpuInstanceId" => fn gpu_instance(device: Device, id: Out<c_uint>) |simulation|
        id.put(supported(device.resolve(simulation)?.1)?.instance.id);
    "nvmlDeviceGetComputeInstanceId" => fn compute_instance(device: Device, id: Out<c_uint>) |simulation|
        id.put(supported(device.resolve(simulation)?.1)?.compute.id);
}

/// Seven on every GPU that can do MIG so far.
const MAX_DEVICES: c_uint = 7;

/// Changes the mode, or leaves the change to the next reset; the driver's own word on that.
fn turn(mig: &mut Mig, on: bool) -> u32 {
    if !mig.has(MigHabit::ModeNeedsReset) {
        (mig.enabled, mig.pending) = (on, None);
        return 0;
    }
    mig.pending = if on == mig.enabled { None } else { Some(on) };
    if mig.pending.is_some() { ErrorCode::ResetRequired as u32 } else { 0 }
}

/// What a MIG device consists of; a part of a GPU instance has its share of the multiprocessors.
const fn attributes_of(device: &MigDevice<'_>) -> nvmlDeviceAttributes_t {
    let MigDevice { profile, compute, .. } = *device;
    let [copy, decoders, encoders, jpeg, optical_flow] = profile.engines;
    nvmlDeviceAttributes_t {
        multiprocessorCount: profile.multiprocessors * compute.slices / profile.slices,
        sharedCopyEngineCount: copy,
        sharedDecoderCount: decoders,
        sharedEncoderCount: encoders,
        sharedJpegCount: jpeg,
        sharedOfaCount: optical_flow,
        gpuInstanceSliceCount: profile.slices,
        computeInstanceSliceCount: compute.slices,
        memorySizeMB: profile.memory_mib,
    }
}
