//! GPU instances and compute instances, by their ids.

use std::ffi::{CStr, c_char};
use std::ptr;

use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_t, nvmlComputeInstanceProfileInfo_t,
    nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_v2_t,
};

use super::handle;

/// Kinds of GPU instances that are asked for: more than `NVML_GPU_INSTANCE_PROFILE_COUNT` of any driver so far (17).
const KINDS: u32 = 32;
/// `NVML_COMPUTE_INSTANCE_PROFILE_COUNT`.
const COMPUTE_KINDS: u32 = 8;
/// `NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED`.
const SHARED_ENGINES: u32 = 0;
/// Instances of a profile on one GPU; seven so far.
const MOST_INSTANCES: usize = 64;

/// A kind of GPU instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    /// `NVML_GPU_INSTANCE_PROFILE_…`.
    pub(crate) kind: u32,
    pub(crate) id: u32,
    /// The driver's name of it, where it says one.
    pub(crate) name: Option<String>,
    pub(crate) memory_mib: u64,
    pub(crate) slices: u32,
    pub(crate) multiprocessors: u32,
    pub(crate) maximum: u32,
    /// First memory slice and number of memory slices of each possible place.
    pub(crate) placements: Vec<(u32, u32)>,
}

/// A GPU instance that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) id: u32,
    pub(crate) profile: u32,
    pub(crate) placement: (u32, u32),
    pub(crate) compute: Vec<ComputeInstance>,
}

/// A compute instance that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ComputeInstance {
    pub(crate) id: u32,
    pub(crate) slices: u32,
}

/// Every kind of instance that the GPU can be cut into; empty where it does not say.
pub(crate) fn profiles(device: &Device<'_>) -> Result<Vec<Profile>, NvmlError> {
    let mut found = Vec::new();
    for kind in 0..KINDS {
        match profile(device, kind) {
            Ok(profile) => found.push(profile),
            Err(NvmlError::NotSupported | NvmlError::InvalidArg) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn profile(device: &Device<'_>, kind: u32) -> Result<Profile, NvmlError> {
    let mut info = empty_profile();
    let plain = device.profile_info(kind)?;
    // The second version adds the name; drivers before 510 have the first only.
    let named = call!(device.nvml(), nvmlDeviceGetGpuInstanceProfileInfoV(handle(device), kind, &raw mut info));
    Ok(Profile {
        kind,
        id: plain.id,
        name: named.ok().and_then(|()| text(&info.name)),
        memory_mib: plain.memory_size_mb,
        slices: plain.slice_count,
        multiprocessors: plain.multiprocessor_count,
        maximum: plain.instance_count,
        placements: placements(device, plain.id)?,
    })
}

fn empty_profile() -> nvmlGpuInstanceProfileInfo_v2_t {
    let size = u32::try_from(size_of::<nvmlGpuInstanceProfileInfo_v2_t>()).unwrap_or(0);
    nvmlGpuInstanceProfileInfo_v2_t {
        // `NVML_STRUCT_VERSION` of NVIDIA's header: the size, and the version in the highest byte.
        version: size | (2 << 24),
        id: 0,
        isP2pSupported: 0,
        sliceCount: 0,
        instanceCount: 0,
        multiprocessorCount: 0,
        copyEngineCount: 0,
        decoderCount: 0,
        encoderCount: 0,
        jpegCount: 0,
        ofaCount: 0,
        memorySizeMB: 0,
        name: [0; 96],
    }
}

/// The text of a field, which ends at its first zero.
fn text(field: &[c_char]) -> Option<String> {
    let bytes: Vec<u8> = field.iter().map(|c| c.cast_unsigned()).collect();
    let text = CStr::from_bytes_until_nul(&bytes).ok()?.to_str().ok()?;
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn placements(device: &Device<'_>, profile: u32) -> Result<Vec<(u32, u32)>, NvmlError> {
    let (library, device) = (device.nvml(), handle(device));
    let mut count = 0;
    call!(library, nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, profile, ptr::null_mut(), &raw mut count))?;
    let mut list = vec![nvmlGpuInstancePlacement_t { start: 0, size: 0 }; length(count)];
    if !list.is_empty() {
        call!(
            library,
            nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, profile, list.as_mut_ptr(), &raw mut count)
        )?;
    }
    Ok(list.into_iter().take(length(count)).map(|place| (place.start, place.size)).collect())
}

fn length(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The GPU instances of these profiles that exist.
pub(crate) fn instances(device: &Device<'_>, profiles: &[Profile]) -> Result<Vec<Instance>, NvmlError> {
    let mut found = Vec::new();
    for profile in profiles {
        let (mut list, mut count) = ([ptr::null_mut(); MOST_INSTANCES], 0);
        call!(device.nvml(), nvmlDeviceGetGpuInstances(handle(device), profile.id, list.as_mut_ptr(), &raw mut count))?;
        for instance in list.iter().take(length(count)) {
            found.push(described(device, *instance)?);
        }
    }
    found.sort_by_key(|instance| instance.placement);
    Ok(found)
}

fn described(device: &Device<'_>, instance: nvmlGpuInstance_t) -> Result<Instance, NvmlError> {
    let placement = nvmlGpuInstancePlacement_t { start: 0, size: 0 };
    let mut info = nvmlGpuInstanceInfo_t { device: ptr::null_mut(), id: 0, profileId: 0, placement };
    call!(device.nvml(), nvmlGpuInstanceGetInfo(instance, &raw mut info))?;
    let mut compute = Vec::new();
    for profile in compute_profiles(device, instance)? {
        compute.extend(compute_instances(device, instance, &profile)?);
    }
    compute.sort_by_key(|found| found.id);
    let placement = (info.placement.start, info.placement.size);
    Ok(Instance { id: info.id, profile: info.profileId, placement, compute })
}

/// Kinds of compute instances that a GPU instance can be cut into: id and slices, each id once.
fn compute_profiles(device: &Device<'_>, instance: nvmlGpuInstance_t) -> Result<Vec<(u32, u32)>, NvmlError> {
    let mut found: Vec<(u32, u32)> = Vec::new();
    for kind in 0..COMPUTE_KINDS {
        let mut info = nvmlComputeInstanceProfileInfo_t {
            id: 0,
            sliceCount: 0,
            instanceCount: 0,
            multiprocessorCount: 0,
            sharedCopyEngineCount: 0,
            sharedDecoderCount: 0,
            sharedEncoderCount: 0,
            sharedJpegCount: 0,
            sharedOfaCount: 0,
        };
        let asked = call!(
            device.nvml(),
            nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, kind, SHARED_ENGINES, &raw mut info)
        );
        match asked {
            Ok(()) if found.iter().all(|(id, _)| *id != info.id) => found.push((info.id, info.sliceCount)),
            Ok(()) | Err(NvmlError::NotSupported | NvmlError::InvalidArg) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn compute_instances(
    device: &Device<'_>,
    instance: nvmlGpuInstance_t,
    (profile, slices): &(u32, u32),
) -> Result<Vec<ComputeInstance>, NvmlError> {
    let (mut list, mut count) = ([ptr::null_mut(); MOST_INSTANCES], 0);
    call!(device.nvml(), nvmlGpuInstanceGetComputeInstances(instance, *profile, list.as_mut_ptr(), &raw mut count))?;
    let ids = list.iter().take(length(count)).map(|compute| compute_id(device, *compute));
    ids.map(|id| Ok(ComputeInstance { id: id?, slices: *slices })).collect()
}

fn compute_id(device: &Device<'_>, compute: nvmlComputeInstance_t) -> Result<u32, NvmlError> {
    let mut info = nvmlComputeInstanceInfo_t {
        device: ptr::null_mut(),
        gpuInstance: ptr::null_mut(),
        id: 0,
        profileId: 0,
        placement: nvmlComputeInstancePlacement_t { start: 0, size: 0 },
    };
    call!(device.nvml(), nvmlComputeInstanceGetInfo_v2(compute, &raw mut info))?;
    Ok(info.id)
}

fn instance(device: &Device<'_>, id: u32) -> Result<nvmlGpuInstance_t, NvmlError> {
    let mut found = ptr::null_mut();
    call!(device.nvml(), nvmlDeviceGetGpuInstanceById(handle(device), id, &raw mut found))?;
    Ok(found)
}

/// Makes a GPU instance of a profile, without compute instances, at a place; its id.
pub(crate) fn create_instance(device: &Device<'_>, profile: u32, (start, size): (u32, u32)) -> Result<u32, NvmlError> {
    let placement = nvmlGpuInstancePlacement_t { start, size };
    let mut made = ptr::null_mut();
    call!(
        device.nvml(),
        nvmlDeviceCreateGpuInstanceWithPlacement(handle(device), profile, &raw const placement, &raw mut made)
    )?;
    let mut info = nvmlGpuInstanceInfo_t { device: ptr::null_mut(), id: 0, profileId: 0, placement };
    call!(device.nvml(), nvmlGpuInstanceGetInfo(made, &raw mut info))?;
    Ok(info.id)
}

/// Makes a compute instance of so many slices in a GPU instance; its id.
pub(crate) fn create_compute_instance(device: &Device<'_>, id: u32, slices: u32) -> Result<u32, NvmlError> {
    let instance = instance(device, id)?;
    let profiles = compute_profiles(device, instance)?;
    let (profile, _) = profiles.iter().find(|(_, found)| *found == slices).ok_or(NvmlError::NotSupported)?;
    let mut made = ptr::null_mut();
    call!(device.nvml(), nvmlGpuInstanceCreateComputeInstance(instance, *profile, &raw mut made))?;
    compute_id(device, made)
}

/// Destroys a GPU instance, which must have no compute instances.
pub(crate) fn destroy_instance(device: &Device<'_>, id: u32) -> Result<(), NvmlError> {
    let instance = instance(device, id)?;
    call!(device.nvml(), nvmlGpuInstanceDestroy(instance))
}

/// Destroys a compute instance.
pub(crate) fn destroy_compute_instance(device: &Device<'_>, id: u32, compute: u32) -> Result<(), NvmlError> {
    let instance = instance(device, id)?;
    let mut found = ptr::null_mut();
    call!(device.nvml(), nvmlGpuInstanceGetComputeInstanceById(instance, compute, &raw mut found))?;
    call!(device.nvml(), nvmlComputeInstanceDestroy(found))
}
