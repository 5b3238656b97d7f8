//! GPU instances and compute instances: what a GPU in MIG mode can be cut into, cutting it, and joining the pieces.

use std::ffi::{c_char, c_uint};

use nvml_wrapper_sys::bindings::{
    nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_t, nvmlComputeInstanceProfileInfo_t, nvmlGpuInstanceInfo_t,
    nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_t, nvmlGpuInstanceProfileInfo_v2_t,
};

use super::pointer::{Device, Out, supported};
use crate::nvml::scenario::{ComputeInstance, ErrorCode, Gpu, GpuInstance, Mig, MigHabit, MigProfile, uuid};
use crate::nvml::simulation::{Simulation, Target};

exports! {
    "nvmlDeviceGetGpuInstanceProfileInfo" => fn profile(device: Device, kind: c_uint, info: Out<nvmlGpuInstanceProfileInfo_t>)
        |simulation| info.put(described(of_kind(device.gpu(simulation)?, kind)?));
    "nvmlDeviceGetGpuInstanceProfileInfoV" => fn profile_v2(
        device: Device, kind: c_uint, info: Out<nvmlGpuInstanceProfileInfo_v2_t>
    ) |simulation| {
        let version = info.take()?.version;
        if version >> 24 != 2 {
            return Err(ErrorCode::ArgumentVersionMismatch);
        }
        info.put(named(of_kind(device.gpu(simulation)?, kind)?, version))
    };
    "nvmlDeviceGetGpuInstancePossiblePlacements_v2" => fn placements(
        device: Device, profile: c_uint, list: Out<nvmlGpuInstancePlacement_t>, count: Out<c_uint>
    ) |simulation| {
        let profile = of_id(device.gpu(simulation)?, profile)?;
        let places: Vec<_> = profile.starts.iter().map(|start| placement(*start, profile.size)).collect();
        // Asked without a list, the driver tells the number.
        if list.is_null() { count.put(length(&places)?) } else { list.put_all(count, &places) }
    };
    "nvmlDeviceGetGpuInstanceRemainingCapacity" => fn capacity(device: Device, profile: c_uint, count: Out<c_uint>)
        |simulation| {
            let gpu = device.gpu(simulation)?;
            let (mig, profile) = (enabled(gpu)?, of_id(gpu, profile)?);
            count.put(length(&mig.free_starts(profile))?)
        };
    "nvmlDeviceCreateGpuInstance" => fn create(device: Device, profile: c_uint, made: Out<Device>) |simulation|
        made.put(cut(simulation, device.position()?, profile, None)?);
    "nvmlDeviceCreateGpuInstanceWithPlacement" => fn create_there(
        device: Device, profile: c_uint, place: Out<nvmlGpuInstancePlacement_t>, made: Out<Device>
    ) |simulation| made.put(cut(simulation, device.position()?, profile, Some(place.take()?.start))?);
    "nvmlDeviceGetGpuInstances" => fn instances(device: Device, profile: c_uint, list: Out<Device>, count: Out<c_uint>)
        |simulation| {
            let position = device.position()?;
            let mig = enabled(simulation.gpu_at(position)?)?;
            let of_profile = mig.instances.iter().filter(|instance| instance.profile == profile);
            let handles: Vec<_> = of_profile.map(|instance| Device::instance(position, instance.id)).collect();
            list.put_some(count, &handles)
        };
    "nvmlDeviceGetGpuInstanceById" => fn by_id(device: Device, id: c_uint, found: Out<Device>) |simulation| {
        enabled(device.gpu(simulation)?)?.instance(id).ok_or(ErrorCode::NotFound)?;
        found.put(Device::instance(device.position()?, id))
    };
    "nvmlGpuInstanceGetInfo" => fn info(handle: Device, info: Out<nvmlGpuInstanceInfo_t>) |simulation| {
        let (position, instance, profile) = resolve(handle, simulation)?;
        info.put(nvmlGpuInstanceInfo_t {
            device: pointer(Target::Gpu(position).into()),
            id: instance.id,
            profileId: instance.profile,
            placement: placement(instance.start, profile.size),
        })
    };
    "nvmlGpuInstanceDestroy" => fn destroy(handle: Device) |simulation| {
        let (position, instance, _) = resolve(handle, simulation)?;
        let id = instance.id;
        simulation.change(position, |gpu| {
            let mig = supported(gpu.mig.as_mut())?;
            let instance = mig.instance(id).ok_or(ErrorCode::InvalidArgument)?;
            if !instance.compute.is_empty() {
                return Err(ErrorCode::InUse);
            }
            mig.instances.retain(|instance| instance.id != id);
            Ok(())
        })
    };
    "nvmlGpuInstanceGetComputeInstanceProfileInfo" => fn compute_profile(
        handle: Device, kind: c_uint, _engine: c_uint, info: Out<nvmlComputeInstanceProfileInfo_t>
    ) |simulation| {
        let (_, _, profile) = resolve(handle, simulation)?;
        info.put(compute_described(profile, kind)?)
    };
    "nvmlGpuInstanceCreateComputeInstance" => fn create_compute(handle: Device, profile: c_uint, made: Out<Device>)
        |simulation| made.put(cut_compute(simulation, handle, profile)?);
    "nvmlGpuInstanceGetComputeInstances" => fn compute_instances(
        handle: Device, profile: c_uint, list: Out<Device>, count: Out<c_uint>
    ) |simulation| {
        let (position, instance, _) = resolve(handle, simulation)?;
        let of_profile = instance.compute.iter().filter(|compute| kind_of(compute.slices) == Some(profile));
        let handles: Vec<Device> = of_profile.map(|found| Target::Mig(position, instance.id, found.id).into()).collect();
        list.put_some(count, &handles)
    };
    "nvmlGpuInstanceGetComputeInstanceById" => fn compute_by_id(handle: Device, id: c_uint, found: Out<Device>)
        |simulation| {
            let (position, instance, _) = resolve(handle, simulation)?;
            instance.compute.iter().find(|compute| compute.id == id).ok_or(ErrorCode::NotFound)?;
            found.put(Target::Mig(position, instance.id, id).into())
        };
    "nvmlComputeInstanceGetInfo_v2" => fn compute_info(handle: Device, info: Out<nvmlComputeInstanceInfo_t>) |simulation| {
        let device = handle.resolve(simulation)?.1.ok_or(ErrorCode::InvalidArgument)?;
        let (position, _, _) = handle.parts()?;
        info.put(nvmlComputeInstanceInfo_t {
            device: pointer(Target::Gpu(position).into()),
            gpuInstance: pointer(Device::instance(position, device.instance.id)),
            id: device.compute.id,
            profileId: kind_of(device.compute.slices).ok_or(ErrorCode::Unknown)?,
            placement: nvmlComputeInstancePlacement_t { start: 0, size: device.compute.slices },
        })
    };
    "nvmlComputeInstanceDestroy" => fn destroy_compute(handle: Device) |simulation| {
        let Target::Mig(position, instance, compute) = handle.target()? else { return Err(ErrorCode::InvalidArgument) };
        simulation.change(position, |gpu| remove_compute(gpu, instance, compute))
    };
}

/// A kind of compute instance has the number of its kind for an id.
const fn kind_of(slices: u32) -> Option<u32> {
    match slices {
        1..=4 => Some(slices - 1),
        7 => Some(4),
        _ => None,
    }
}

fn slices_of(kind: u32) -> Result<u32, ErrorCode> {
    [1, 2, 3, 4, 7].into_iter().find(|slices| kind_of(*slices) == Some(kind)).ok_or(ErrorCode::NotSupported)
}

fn pointer<T>(handle: Device) -> *mut T {
    std::ptr::without_provenance_mut(handle.0)
}

const fn placement(start: u32, size: u32) -> nvmlGpuInstancePlacement_t {
    nvmlGpuInstancePlacement_t { start, size }
}

fn length<T>(list: &[T]) -> Result<c_uint, ErrorCode> {
    c_uint::try_from(list.len()).map_err(|_range| ErrorCode::Unknown)
}

fn enabled(gpu: &Gpu) -> Result<&Mig, ErrorCode> {
    supported(gpu.mig.as_ref().filter(|mig| mig.enabled))
}

/// MIG where the driver tells the profiles.
fn told(gpu: &Gpu) -> Result<&Mig, ErrorCode> {
    supported(gpu.mig.as_ref().filter(|mig| mig.enabled || !mig.has(MigHabit::ProfilesInMigModeOnly)))
}

fn of_kind(gpu: &Gpu, kind: u32) -> Result<&MigProfile, ErrorCode> {
    supported(told(gpu)?.profiles.iter().find(|profile| profile.kind == kind))
}

fn of_id(gpu: &Gpu, id: u32) -> Result<&MigProfile, ErrorCode> {
    told(gpu)?.profile(id).ok_or(ErrorCode::InvalidArgument)
}

/// The GPU instance that a handle names.
fn resolve(handle: Device, simulation: &Simulation) -> Result<(usize, &GpuInstance, &MigProfile), ErrorCode> {
    let (position, Some(instance), None) = handle.parts()? else { return Err(ErrorCode::InvalidArgument) };
    let mig = enabled(simulation.gpu_at(position)?)?;
    let instance = mig.instance(instance).ok_or(ErrorCode::InvalidArgument)?;
    Ok((position, instance, mig.profile(instance.profile).ok_or(ErrorCode::Unknown)?))
}

/// Makes a GPU instance where it is asked for, or at the first free place.
fn cut(simulation: &mut Simulation, position: usize, profile: u32, start: Option<u32>) -> Result<Device, ErrorCode> {
    let id = simulation.change(position, |gpu| {
        let profile = enabled(gpu)?.profile(profile).ok_or(ErrorCode::InvalidArgument)?.clone();
        let mig = supported(gpu.mig.as_mut())?;
        let free = mig.free_starts(&profile);
        let wanted = free.iter().find(|free| start.is_none_or(|start| start == **free));
        let start = *wanted.ok_or(ErrorCode::InsufficientResources)?;
        let id = mig.free_id(&profile);
        mig.instances.push(GpuInstance { id, profile: profile.id, start, compute: Vec::new() });
        Ok(id)
    })?;
    Ok(Device::instance(position, id))
}

/// Makes a compute instance.
fn cut_compute(simulation: &mut Simulation, handle: Device, profile: u32) -> Result<Device, ErrorCode> {
    let (position, instance, _) = resolve(handle, simulation)?;
    let (instance, slices) = (instance.id, slices_of(profile)?);
    let id = simulation.change(position, |gpu| {
        let of = gpu.uuid.clone();
        let mig = supported(gpu.mig.as_mut())?;
        let profile = mig.instance(instance).and_then(|instance| mig.profile(instance.profile)).cloned();
        let profile = profile.ok_or(ErrorCode::InvalidArgument)?;
        let found = mig.instances.iter_mut().find(|found| found.id == instance).ok_or(ErrorCode::InvalidArgument)?;
        let used: u32 = found.compute.iter().map(|compute| compute.slices).sum();
        if used + slices > profile.slices {
            return Err(ErrorCode::InsufficientResources);
        }
        let id = (0..).find(|id| found.compute.iter().all(|compute| compute.id != *id)).unwrap_or(u32::MAX);
        found.compute.push(ComputeInstance { id, slices, uuid: uuid(&of, &profile, found.start, id) });
        Ok(id)
    })?;
    Ok(Target::Mig(position, instance, id).into())
}

/// Removes a compute instance that nothing runs on.
fn remove_compute(gpu: &mut Gpu, instance: u32, compute: u32) -> Result<(), ErrorCode> {
    let here =
        |process: &crate::nvml::Process| process.instance == Some((instance, compute)) && !process.lists.is_empty();
    if gpu.processes.iter().any(here) {
        return Err(ErrorCode::InUse);
    }
    let mig = supported(gpu.mig.as_mut())?;
    let found = mig.instances.iter_mut().find(|found| found.id == instance).ok_or(ErrorCode::InvalidArgument)?;
    let before = found.compute.len();
    found.compute.retain(|found| found.id != compute);
    if found.compute.len() == before { Err(ErrorCode::InvalidArgument) } else { Ok(()) }
}

const fn described(profile: &MigProfile) -> nvmlGpuInstanceProfileInfo_t {
    let [copy, decoders, encoders, jpeg, optical_flow] = profile.engines;
    nvmlGpuInstanceProfileInfo_t {
        id: profile.id,
        isP2pSupported: 0,
        sliceCount: profile.slices,
        instanceCount: profile.maximum,
        multiprocessorCount: profile.multiprocessors,
        copyEngineCount: copy,
        decoderCount: decoders,
        encoderCount: encoders,
        jpegCount: jpeg,
        ofaCount: optical_flow,
        memorySizeMB: profile.memory_mib,
    }
}

fn named(profile: &MigProfile, version: u32) -> nvmlGpuInstanceProfileInfo_v2_t {
    let plain = described(profile);
    let mut name: [c_char; 96] = [0; 96];
    let text = format!("MIG {}", profile.name);
    name.iter_mut().zip(text.bytes().take(95)).for_each(|(to, from)| *to = from.cast_signed());
    nvmlGpuInstanceProfileInfo_v2_t {
        version,
        id: plain.id,
        isP2pSupported: plain.isP2pSupported,
        sliceCount: plain.sliceCount,
        instanceCount: plain.instanceCount,
        multiprocessorCount: plain.multiprocessorCount,
        copyEngineCount: plain.copyEngineCount,
        decoderCount: plain.decoderCount,
        encoderCount: plain.encoderCount,
        jpegCount: plain.jpegCount,
        ofaCount: plain.ofaCount,
        memorySizeMB: plain.memorySizeMB,
        name,
    }
}

/// A kind of compute instance of a GPU instance.
fn compute_described(profile: &MigProfile, kind: u32) -> Result<nvmlComputeInstanceProfileInfo_t, ErrorCode> {
    let slices = slices_of(kind)?;
    if slices > profile.slices {
        return Err(ErrorCode::NotSupported);
    }
    let [copy, decoders, encoders, jpeg, optical_flow] = profile.engines;
    Ok(nvmlComputeInstanceProfileInfo_t {
        id: kind,
        sliceCount: slices,
        instanceCount: profile.slices / slices,
        multiprocessorCount: profile.multiprocessors * slices / profile.slices,
        sharedCopyEngineCount: copy,
        sharedDecoderCount: decoders,
        sharedEncoderCount: encoders,
        sharedJpegCount: jpeg,
        sharedOfaCount: optical_flow,
    })
}
