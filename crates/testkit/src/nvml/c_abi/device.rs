//! What a device is: identity, memory, compute mode.

use std::ffi::{c_char, c_int, c_uint};

use nvml_wrapper_sys::bindings::{nvmlMemory_t, nvmlMemory_v2_t};

use super::pointer::{Device, Out, supported};
use super::system::signed;
use crate::nvml::scenario::{ComputeMode, ErrorCode, Gpu, MigDevice};

exports! {
    "nvmlDeviceGetName" => fn name(device: Device, name: Out<c_char>, length: c_uint) |simulation| {
        let (gpu, mig) = device.resolve(simulation)?;
        name.put_text(length, mig.map_or(&gpu.name, |mig| &mig.name))
    };
    "nvmlDeviceGetUUID" => fn uuid(device: Device, uuid: Out<c_char>, length: c_uint) |simulation| {
        let (gpu, mig) = device.resolve(simulation)?;
        uuid.put_text(length, mig.map_or(&gpu.uuid, |mig| &mig.uuid))
    };
    "nvmlDeviceGetIndex" => fn index(device: Device, index: Out<c_uint>) |simulation| {
        device.gpu(simulation)?;
        index.put(c_uint::try_from(device.position()?).map_err(|_range| ErrorCode::Unknown)?)
    };
    "nvmlDeviceGetMinorNumber" => fn minor_number(device: Device, number: Out<c_uint>) |simulation| {
        device.gpu(simulation)?;
        number.put(c_uint::try_from(device.position()?).map_err(|_range| ErrorCode::Unknown)?)
    };
    "nvmlDeviceGetCudaComputeCapability" => fn compute_capability(device: Device, major: Out<c_int>, minor: Out<c_int>)
        |simulation| {
            let (gpu, _) = device.resolve(simulation)?;
            major.put(signed(gpu.compute_capability.0)?)?;
            minor.put(signed(gpu.compute_capability.1)?)
        };
    "nvmlDeviceGetMemoryInfo" => fn memory(device: Device, memory: Out<nvmlMemory_t>) |simulation| {
        let (total, used) = memory_of(device.resolve(simulation)?);
        memory.put(nvmlMemory_t { total, free: total.saturating_sub(used), used })
    };
    "nvmlDeviceGetMemoryInfo_v2" => fn memory_v2(device: Device, memory: Out<nvmlMemory_v2_t>) |simulation| {
        let (total, used) = memory_of(device.resolve(simulation)?);
        let version = memory.take()?.version;
        memory.put(nvmlMemory_v2_t { version, total, reserved: 0, free: total.saturating_sub(used), used })
    };
    "nvmlDeviceGetComputeMode" => fn compute_mode(device: Device, mode: Out<c_uint>) |simulation|
        mode.put(match device.gpu(simulation)?.compute_mode {
            ComputeMode::Default => 0,
            ComputeMode::ExclusiveThread => 1,
            ComputeMode::Prohibited => 2,
            ComputeMode::ExclusiveProcess => 3,
        });
    "nvmlDeviceSetComputeMode" => fn set_compute_mode(device: Device, mode: c_uint) |simulation| {
        simulation.gpu_at_mut(device.position()?)?.compute_mode = match mode {
            0 => ComputeMode::Default,
            2 => ComputeMode::Prohibited,
            3 => ComputeMode::ExclusiveProcess,
            _ => return Err(ErrorCode::InvalidArgument),
        };
        Ok(())
    };
    "nvmlDeviceGetEnforcedPowerLimit" => fn power_limit(device: Device, limit: Out<c_uint>) |simulation|
        limit.put(supported(device.gpu(simulation)?.power_limit_milliwatts)?);
}

/// Total and used memory.
fn memory_of((gpu, mig): (&Gpu, Option<&MigDevice>)) -> (u64, u64) {
    mig.map_or((gpu.memory, gpu.memory_used), |mig| (mig.memory, 0))
}
