//! MIG: mode, devices, what a GPU can be cut into and what it is cut into.

use cotenant_model::gpu::{Gpu, MigAttributes, MigDevice, MigInstance, MigPlacement, MigProfile};
use cotenant_model::{Bytes, GpuUuid};
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::DeviceAttributes;

use crate::raw;
use crate::reader::{ReadError, failed, optional};

/// Adds what the GPU says of MIG. Profiles and instances are told to the root user only, and by some drivers in MIG mode only.
pub(super) fn fill(gpu: Gpu, device: &Device<'_>) -> Result<Gpu, ReadError> {
    let Some(mode) = optional(device.mig_mode(), &gpu.uuid)? else { return Ok(gpu) };
    let (is_on, memory) = (mode.current == 1, gpu.memory);
    let profiles = optional(raw::profiles(device), &gpu.uuid)?.unwrap_or_default();
    let instances = if is_on { optional(raw::instances(device, &profiles), &gpu.uuid)? } else { None };
    Ok(Gpu {
        mig: Some(is_on),
        mig_pending: Some(mode.pending == 1),
        mig_devices: if is_on { mig_devices(device, &gpu.uuid, memory)? } else { Vec::new() },
        mig_profiles: profiles.iter().map(|profile| described(profile, memory)).collect(),
        mig_instances: instances.unwrap_or_default().iter().map(existing).collect(),
        ..gpu
    })
}

/// An instance that exists.
pub(crate) fn existing(instance: &raw::Instance) -> MigInstance {
    MigInstance {
        id: instance.id,
        profile: instance.profile,
        placement: placed(instance.placement),
        compute_instances: instance.compute.iter().map(|compute| compute.id).collect(),
    }
}

/// The MIG devices of a GPU in MIG mode. Positions may be free between them.
fn mig_devices(device: &Device<'_>, uuid: &GpuUuid, memory: Bytes) -> Result<Vec<MigDevice>, ReadError> {
    let positions = 0..optional(device.mig_device_count(), uuid)?.unwrap_or(0);
    let mut devices = Vec::new();
    for position in positions {
        match device.mig_device_by_index(position) {
            Ok(found) => devices.push(MigDevice { index: Some(position), ..mig_device(&found, uuid, memory)? }),
            Err(NvmlError::NotFound | NvmlError::InvalidArg) => {}
            Err(source) => return Err(failed("a MIG device", &uuid.0, source)),
        }
    }
    Ok(devices)
}

fn mig_device(device: &Device<'_>, parent: &GpuUuid, parent_memory: Bytes) -> Result<MigDevice, ReadError> {
    let wrong = |what| move |source| failed(what, &parent.0, source);
    let uuid = GpuUuid(device.uuid().map_err(wrong("the UUID of a MIG device"))?);
    let name = optional(device.name(), &uuid)?.unwrap_or_default();
    let attributes = device.attributes().map_err(wrong("the attributes of a MIG device"))?;
    let memory = match optional(device.memory_info(), &uuid)? {
        Some(memory) => Bytes(memory.total),
        None => Bytes(attributes.memory_size_mb << 20),
    };
    // The driver's own name of the profile stands at the end of the product name, as in `NVIDIA H200 MIG 1g.18gb`.
    let profile = match name.rsplit_once(" MIG ") {
        Some((_, profile)) => profile.to_owned(),
        None => profile_name(&attributes, parent_memory),
    };
    let ids = optional(raw::instance_ids(device), &uuid)?;
    Ok(MigDevice {
        gpu_instance: ids.map(|(instance, _)| instance),
        compute_instance: ids.map(|(_, compute)| compute),
        attributes: Some(consists_of(&attributes)),
        ..MigDevice::new(uuid, profile, memory)
    })
}

const fn consists_of(attributes: &DeviceAttributes) -> MigAttributes {
    MigAttributes {
        multiprocessors: attributes.multiprocessor_count,
        gpu_slices: attributes.gpu_instance_slice_count,
        compute_slices: attributes.compute_instance_slice_count,
        copy_engines: attributes.shared_copy_engine_count,
        decoders: attributes.shared_decoder_count,
        encoders: attributes.shared_encoder_count,
        jpeg_engines: attributes.shared_jpeg_count,
        optical_flow_engines: attributes.shared_ofa_count,
    }
}

/// What the GPU can be cut into; a profile whose name the driver leaves out is named by its size.
fn described(profile: &raw::Profile, memory: Bytes) -> MigProfile {
    let size = Bytes(profile.memory_mib << 20);
    let computed = || format!("{}{}", size_name(profile.slices, profile.slices, size, memory), suffix(profile.kind));
    let name = profile.name.as_deref().map(|name| name.trim_start_matches("MIG ").to_owned());
    MigProfile {
        id: profile.id,
        name: name.unwrap_or_else(computed),
        memory: size,
        slices: profile.slices,
        multiprocessors: profile.multiprocessors,
        maximum: profile.maximum,
        placements: profile.placements.iter().copied().map(placed).collect(),
    }
}

const fn placed((start, size): (u32, u32)) -> MigPlacement {
    MigPlacement { start, size }
}

/// The attributes of a kind of instance (`NVML_GPU_INSTANCE_PROFILE_…`), as they stand behind a profile's size.
const fn suffix(kind: u32) -> &'static str {
    match kind {
        7 | 8 => "+me",
        10..=12 => "+gfx",
        13 | 14 => "-me",
        15 | 16 => "+me.all",
        _ => "",
    }
}

/// The profile's name from its slices, for drivers that leave it out of the product name.
fn profile_name(attributes: &DeviceAttributes, parent_memory: Bytes) -> String {
    let memory = Bytes(attributes.memory_size_mb << 20);
    size_name(attributes.compute_instance_slice_count, attributes.gpu_instance_slice_count, memory, parent_memory)
}

/// NVIDIA's rule (`go-nvlib`): memory as a share of the GPU's, rounded up to whole eighths, times the GPU's gibibytes.
fn size_name(compute: u32, gpu: u32, memory: Bytes, parent_memory: Bytes) -> String {
    let eighths = (u128::from(memory.0) * 8).div_ceil(u128::from(parent_memory.0.max(1)));
    let gigabytes = (eighths * u128::from(parent_memory.0.div_ceil(1 << 30)) + 4) / 8;
    if compute == gpu { format!("{gpu}g.{gigabytes}gb") } else { format!("{compute}c.{gpu}g.{gigabytes}gb") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(compute: u32, gpu: u32, memory_size_mb: u64) -> DeviceAttributes {
        DeviceAttributes {
            multiprocessor_count: 16,
            shared_copy_engine_count: 1,
            shared_decoder_count: 1,
            shared_encoder_count: 0,
            shared_jpeg_count: 1,
            shared_ofa_count: 0,
            gpu_instance_slice_count: gpu,
            compute_instance_slice_count: compute,
            memory_size_mb,
        }
    }

    #[test]
    fn a_profile_is_named_by_nvidias_rule() {
        let a100 = Bytes(40_960 << 20);
        assert_eq!(profile_name(&attributes(1, 1, 4_864), a100), "1g.5gb");
        assert_eq!(profile_name(&attributes(3, 3, 19_968), a100), "3g.20gb");
        assert_eq!(profile_name(&attributes(1, 3, 19_968), a100), "1c.3g.20gb");
    }
}
