//! Which GPUs this host has.

use cotenant_model::gpu::{ComputeMode, Driver, Gpu, MigDevice};
use cotenant_model::{Bytes, GpuUuid};
use nvml_wrapper::enum_wrappers::device::{Clock, ComputeMode as NvmlComputeMode};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::DeviceAttributes;
use nvml_wrapper::{Device, cuda_driver_version_major, cuda_driver_version_minor};

use crate::reader::{ReadError, failed, optional};

/// Versions of the driver.
pub(crate) fn driver(library: &nvml_wrapper::Nvml) -> Result<Driver, ReadError> {
    let version =
        library.sys_driver_version().map_err(|source| ReadError::Driver { what: "the driver's version", source })?;
    let cuda = library.sys_cuda_driver_version().ok().and_then(|number| {
        let major = u32::try_from(cuda_driver_version_major(number)).ok()?;
        Some((major, u32::try_from(cuda_driver_version_minor(number)).ok()?))
    });
    Ok(Driver { version, cuda })
}

/// Every GPU that answers. A lost one is left out with a warning, unless there is no other.
pub(crate) fn gpus(library: &nvml_wrapper::Nvml) -> Result<Vec<Gpu>, ReadError> {
    let count = library.device_count().map_err(|source| ReadError::Driver { what: "the number of GPUs", source })?;
    let (mut gpus, mut lost) = (Vec::new(), None);
    for index in 0..count {
        match gpu(library, index) {
            Ok(gpu) => gpus.push(gpu),
            Err(error) => {
                tracing::warn!(
                    index,
                    error = &error as &dyn std::error::Error,
                    "a GPU does not answer and is left out"
                );
                lost = Some(error);
            }
        }
    }
    match lost {
        Some(error) if gpus.is_empty() => Err(error),
        Some(_) | None => Ok(gpus),
    }
}

fn gpu(library: &nvml_wrapper::Nvml, index: u32) -> Result<Gpu, ReadError> {
    let position = format!("number {index}");
    let device = library.device_by_index(index).map_err(|source| failed("the handle", &position, source))?;
    let uuid = GpuUuid(device.uuid().map_err(|source| failed("the UUID", &position, source))?);
    let name = device.name().map_err(|source| failed("the name", &uuid.0, source))?;
    let memory = Bytes(device.memory_info().map_err(|source| failed("the memory", &uuid.0, source))?.total);
    let mig = optional(device.mig_mode(), &uuid)?.map(|mode| mode.current == 1);
    Ok(Gpu {
        compute_capability: optional(device.cuda_compute_capability(), &uuid)?
            .and_then(|version| Some((u32::try_from(version.major).ok()?, u32::try_from(version.minor).ok()?))),
        compute_mode: optional(device.compute_mode(), &uuid)?.map(|mode| compute_mode(&mode)),
        power_limit_milliwatts: optional(device.enforced_power_limit(), &uuid)?,
        max_sm_clock_mhz: optional(device.max_clock_info(Clock::SM), &uuid)?,
        mig_devices: if mig == Some(true) { mig_devices(&device, &uuid, memory)? } else { Vec::new() },
        mig,
        ..Gpu::new(index, uuid, name, memory)
    })
}

const fn compute_mode(mode: &NvmlComputeMode) -> ComputeMode {
    match mode {
        NvmlComputeMode::Default => ComputeMode::Default,
        // The driver treats the retired exclusive-thread mode as exclusive-process.
        NvmlComputeMode::ExclusiveThread | NvmlComputeMode::ExclusiveProcess => ComputeMode::ExclusiveProcess,
        NvmlComputeMode::Prohibited => ComputeMode::Prohibited,
    }
}

/// The MIG devices of a GPU in MIG mode. Positions may be free between them.
fn mig_devices(device: &Device<'_>, uuid: &GpuUuid, memory: Bytes) -> Result<Vec<MigDevice>, ReadError> {
    let positions = 0..optional(device.mig_device_count(), uuid)?.unwrap_or(0);
    let mut devices = Vec::new();
    for position in positions {
        match device.mig_device_by_index(position) {
            Ok(found) => devices.push(mig_device(&found, uuid, memory)?),
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
    let attributes = || device.attributes().map_err(wrong("the attributes of a MIG device"));
    let memory = match optional(device.memory_info(), &uuid)? {
        Some(memory) => Bytes(memory.total),
        None => Bytes(attributes()?.memory_size_mb << 20),
    };
    // The driver's own name of the profile stands at the end of the product name, as in `NVIDIA H200 MIG 1g.18gb`.
    let profile = match name.rsplit_once(" MIG ") {
        Some((_, profile)) => profile.to_owned(),
        None => profile(&attributes()?, parent_memory),
    };
    Ok(MigDevice::new(uuid, profile, memory))
}

/// The profile's name from its slices, for drivers that leave it out of the product name.
///
/// NVIDIA's rule (`go-nvlib`): memory as a share of the GPU's, rounded up to whole eighths, times the GPU's gibibytes.
fn profile(attributes: &DeviceAttributes, parent_memory: Bytes) -> String {
    let slice = u128::from(attributes.memory_size_mb) << 20;
    let eighths = (slice * 8).div_ceil(u128::from(parent_memory.0.max(1)));
    let gigabytes = (eighths * u128::from(parent_memory.0.div_ceil(1 << 30)) + 4) / 8;
    let (compute, gpu) = (attributes.compute_instance_slice_count, attributes.gpu_instance_slice_count);
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
        assert_eq!(profile(&attributes(1, 1, 4_864), a100), "1g.5gb");
        assert_eq!(profile(&attributes(3, 3, 19_968), a100), "3g.20gb");
        assert_eq!(profile(&attributes(1, 3, 19_968), a100), "1c.3g.20gb");
    }
}
