//! Which GPUs this host has.

mod host;
mod mig;

use cotenant_model::gpu::{ComputeMode, Driver, Gpu};
use cotenant_model::{Bytes, GpuUuid};
use nvml_wrapper::enum_wrappers::device::{Clock, ComputeMode as NvmlComputeMode};
use nvml_wrapper::{cuda_driver_version_major, cuda_driver_version_minor};

pub(crate) use host::Host;
pub(crate) use mig::existing;

use crate::raw;
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
pub(crate) fn gpus(library: &nvml_wrapper::Nvml, host: &Host) -> Result<Vec<Gpu>, ReadError> {
    let count = library.device_count().map_err(|source| ReadError::Driver { what: "the number of GPUs", source })?;
    let (mut gpus, mut lost) = (Vec::new(), None);
    for index in 0..count {
        match gpu(library, host, index) {
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

fn gpu(library: &nvml_wrapper::Nvml, host: &Host, index: u32) -> Result<Gpu, ReadError> {
    let position = format!("number {index}");
    let device = library.device_by_index(index).map_err(|source| failed("the handle", &position, source))?;
    let uuid = GpuUuid(device.uuid().map_err(|source| failed("the UUID", &position, source))?);
    let name = device.name().map_err(|source| failed("the name", &uuid.0, source))?;
    let memory = device.memory_info().map_err(|source| failed("the memory", &uuid.0, source))?;
    let pci = optional(device.pci_info(), &uuid)?.map(|info| host.pci(&info));
    let gpu = Gpu {
        compute_capability: optional(device.cuda_compute_capability(), &uuid)?
            .and_then(|version| Some((u32::try_from(version.major).ok()?, u32::try_from(version.minor).ok()?))),
        compute_mode: optional(device.compute_mode(), &uuid)?.map(|mode| compute_mode(&mode)),
        power_limit_milliwatts: optional(device.enforced_power_limit(), &uuid)?,
        max_sm_clock_mhz: optional(device.max_clock_info(Clock::SM), &uuid)?,
        memory_reserved: Some(Bytes(memory.reserved)),
        minor: optional(device.minor_number(), &uuid)?,
        numa_node: pci.as_ref().and_then(|pci| host.numa_node(pci, &device)),
        fabric_clique: optional(raw::fabric(&device), &uuid)?.flatten().map(fabric_clique),
        vgpu_host: pci.as_ref().and_then(|pci| host.vgpu_host(pci)),
        pci,
        ..Gpu::new(index, uuid, name, Bytes(memory.total))
    };
    mig::fill(gpu, &device)
}

/// A fabric as NVIDIA's feature discovery labels it.
fn fabric_clique((cluster, clique): ([u8; 16], u32)) -> String {
    let text: String = cluster.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &text[range]);
    format!("{}.{clique}", parts.join("-"))
}

const fn compute_mode(mode: &NvmlComputeMode) -> ComputeMode {
    match mode {
        NvmlComputeMode::Default => ComputeMode::Default,
        // The driver treats the retired exclusive-thread mode as exclusive-process.
        NvmlComputeMode::ExclusiveThread | NvmlComputeMode::ExclusiveProcess => ComputeMode::ExclusiveProcess,
        NvmlComputeMode::Prohibited => ComputeMode::Prohibited,
    }
}
