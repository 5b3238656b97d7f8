//! What a device is: identity, memory, compute mode.

use std::ffi::{c_char, c_int, c_uint};

use nvml_wrapper_sys::bindings::{nvmlMemory_t, nvmlMemory_v2_t};

use super::pointer::{Device, MigDevice, Out, supported};
use super::system::signed;
use crate::nvml::scenario::{ComputeMode, ErrorCode, Gpu, MigHabit};

exports! {
    "nvmlDeviceGetName" => fn name(device: Device, name: Out<c_char>, length: c_uint) |simulation| {
        let (gpu, mig) = device.resolve(simulation)?;
        match mig {
            Some(mig) if !gpu.mig.as_ref().is_some_and(|mig| mig.has(MigHabit::BareNames)) => {
                name.put_text(length, &format!("{} MIG {}", gpu.name, profile_name(&mig)))
            }
            Some(_) | None => name.put_text(length, &gpu.name),
        }
    };
    "nvmlDeviceGetUUID" => fn uuid(device: Device, uuid: Out<c_char>, length: c_uint) |simulation| {
        let (gpu, mig) = device.resolve(simulation)?;
        uuid.put_text(length, mig.map_or(&gpu.uuid, |mig| &mig.compute.uuid))
    };
    "nvmlDeviceGetIndex" => fn index(device: Device, index: Out<c_uint>) |simulation| {
        device.gpu(simulation)?;
        index.put(c_uint::try_from(device.position()?).map_err(|_range| ErrorCode::Unknown)?)
    };
    "nvmlDeviceGetMinorNumber" => fn minor_number(device: Device, number: Out<c_uint>) |simulation| {
        let position = c_uint::try_from(device.position()?).map_err(|_range| ErrorCode::Unknown)?;
        number.put(device.gpu(simulation)?.minor.unwrap_or(position))
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
        let reserved = device.resolve(simulation)?.0.memory_reserved;
        let version = memory.take()?.version;
        memory.put(nvmlMemory_v2_t { version, total, reserved, free: total.saturating_sub(used + reserved), used })
    };
    "nvmlDeviceGetComputeMode" => fn compute_mode(device: Device, mode: Out<c_uint>) |simulation|
        mode.put(match device.gpu(simulation)?.compute_mode {
            ComputeMode::Default => 0,
            ComputeMode::ExclusiveThread => 1,
            ComputeMode::Prohibited => 2,
            ComputeMode::ExclusiveProcess => 3,
        });
    "nvmlDeviceSetComputeMode" => fn set_compute_mode(device: Device, mode: c_uint) |simulation| {
        let mode = match mode {
            0 => ComputeMode::Default,
            2 => ComputeMode::Prohibited,
            3 => ComputeMode::ExclusiveProcess,
            _ => return Err(ErrorCode::InvalidArgument),
        };
        simulation.change(device.position()?, |gpu| {
            gpu.compute_mode = mode;
            Ok(())
        })
    };
    "nvmlDeviceGetEnforcedPowerLimit" => fn power_limit(device: Device, limit: Out<c_uint>) |simulation|
        limit.put(supported(device.gpu(simulation)?.power_limit_milliwatts)?);
}

/// Total and used memory.
fn memory_of((gpu, mig): (&Gpu, Option<MigDevice<'_>>)) -> (u64, u64) {
    let Some(mig) = mig else { return (gpu.memory, gpu.memory_used) };
    let there = gpu.processes.iter().filter(|process| !process.lists.is_empty() && mig.has(process));
    (mig.profile.memory_mib << 20, there.filter_map(|process| process.memory).sum())
}

/// The profile of a MIG device as the driver prints it: a part of a GPU instance has its own slices in front.
fn profile_name(mig: &MigDevice<'_>) -> String {
    let name = &mig.profile.name;
    if mig.compute.slices == mig.profile.slices { name.clone() } else { format!("{}c.{name}", mig.compute.slices) }
}
