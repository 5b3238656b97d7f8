//! Where a GPU sits: PCI bus, NUMA node, fabric, and how far another one is.

use std::ffi::{c_char, c_int, c_uint, c_ulong};

use nvml_wrapper_sys::bindings::{nvmlFieldValue_t, nvmlGpuFabricInfo_t, nvmlPciInfo_t, nvmlValue_t};

use super::pointer::{Device, Out, Text, supported};
use crate::nvml::scenario::{ErrorCode, Pci};
use crate::nvml::simulation::Target;

exports! {
    "nvmlDeviceGetPciInfo_v3" => fn pci(device: Device, info: Out<nvmlPciInfo_t>) |simulation|
        info.put(written(&device.gpu(simulation)?.pci_at(device.position()?)));
    "nvmlDeviceGetHandleByPciBusId_v2" => fn by_bus_id(bus_id: Text, device: Out<Device>) |simulation| {
        let wanted = bus_id.read()?.to_lowercase();
        let same = |position: &usize| simulation.gpu_at(*position).is_ok_and(|gpu| {
            address(&gpu.pci_at(*position)).ends_with(wanted.trim_start_matches('0'))
        });
        let position = (0..simulation.gpu_count()).find(same).ok_or(ErrorCode::NotFound)?;
        device.put(Target::Gpu(position).into())
    };
    "nvmlDeviceGetMemoryAffinity" => fn memory_affinity(device: Device, size: c_uint, nodes: Out<c_ulong>, _scope: c_uint)
        |simulation| {
            let node = supported(device.gpu(simulation)?.numa_node)?;
            let (word, bit) = (node / c_ulong::BITS, node % c_ulong::BITS);
            if word >= size {
                return Err(ErrorCode::InsufficientSize);
            }
            let count = usize::try_from(size).map_err(|_range| ErrorCode::InvalidArgument)?;
            let mut position = 0;
            nodes.each(count, |value| {
                *value = if position == word { 1 << bit } else { 0 };
                position += 1;
            })
        };
    "nvmlDeviceGetTopologyCommonAncestor" => fn common_ancestor(one: Device, other: Device, level: Out<c_uint>) |simulation| {
        let (one, other) = (one.gpu(simulation)?, other.gpu(simulation)?);
        level.put(if one.numa_node == other.numa_node { SAME_NODE } else { SAME_SYSTEM })
    };
    "nvmlDeviceGetNvLinkState" => fn link_state(device: Device, _link: c_uint, _state: Out<c_uint>) |simulation| {
        device.gpu(simulation)?;
        Err(ErrorCode::NotSupported)
    };
    "nvmlDeviceGetGpuFabricInfo" => fn fabric(device: Device, info: Out<nvmlGpuFabricInfo_t>) |simulation| {
        let fabric = device.gpu(simulation)?.fabric.as_ref();
        let (cluster, clique) = fabric.map_or(([0; 16], 0), |fabric| (fabric.cluster, fabric.clique));
        let state = if fabric.is_some() { COMPLETED } else { NO_FABRIC };
        info.put(nvmlGpuFabricInfo_t { clusterUuid: cluster, status: 0, cliqueId: clique, state })
    };
    "nvmlDeviceGetArchitecture" => fn architecture(device: Device, architecture: Out<c_uint>) |simulation|
        architecture.put(match device.gpu(simulation)?.compute_capability {
            (7, 0) => 5,
            (7, _) => 6,
            (8, 9) => 8,
            (8, _) => 7,
            (9, _) => 9,
            (10.., _) => 10,
            _ => UNKNOWN,
        });
    "nvmlDeviceGetBrand" => fn brand(device: Device, brand: Out<c_uint>) |simulation| {
        device.gpu(simulation)?;
        brand.put(NVIDIA_BRAND)
    };
    "nvmlDeviceGetFieldValues" => fn fields(device: Device, count: c_int, values: Out<nvmlFieldValue_t>) |simulation| {
        let gpu = device.gpu(simulation)?;
        let count = usize::try_from(count).map_err(|_range| ErrorCode::InvalidArgument)?;
        values.each(count, |field| match (field.fieldId, gpu.recovery_action) {
            (RECOVERY_ACTION, Some(action)) => {
                field.nvmlReturn = 0;
                field.valueType = UNSIGNED_INT;
                field.value = nvmlValue_t { uiVal: action };
            }
            _ => field.nvmlReturn = ErrorCode::NotSupported as c_uint,
        })
    };
}

/// `NVML_TOPOLOGY_NODE` and `NVML_TOPOLOGY_SYSTEM`.
const SAME_NODE: c_uint = 40;
const SAME_SYSTEM: c_uint = 50;
/// `NVML_GPU_FABRIC_STATE_…`.
const NO_FABRIC: u8 = 0;
const COMPLETED: u8 = 3;
/// `NVML_BRAND_NVIDIA` and `NVML_DEVICE_ARCH_UNKNOWN`.
const NVIDIA_BRAND: c_uint = 14;
const UNKNOWN: c_uint = u32::MAX;
/// `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`.
const RECOVERY_ACTION: c_uint = 230;
/// `NVML_VALUE_TYPE_UNSIGNED_INT`.
const UNSIGNED_INT: c_uint = 1;

/// The address with a domain of eight digits, as NVML writes it.
fn address(pci: &Pci) -> String {
    let (domain, bus, device) = pci.address;
    format!("{domain:08x}:{bus:02x}:{device:02x}.0")
}

fn written(pci: &Pci) -> nvmlPciInfo_t {
    let (domain, bus, device) = pci.address;
    let (full, legacy) = (address(pci).to_uppercase(), format!("{domain:04X}:{bus:02X}:{device:02X}.0"));
    nvmlPciInfo_t {
        busIdLegacy: text(&legacy),
        domain,
        bus,
        device,
        pciDeviceId: pci.device_id,
        pciSubSystemId: pci.device_id,
        busId: text(&full),
    }
}

/// A text of C in a field of a structure.
fn text<const LENGTH: usize>(from: &str) -> [c_char; LENGTH] {
    let mut field = [0; LENGTH];
    field.iter_mut().zip(from.bytes().take(LENGTH - 1)).for_each(|(to, from)| *to = from.cast_signed());
    field
}
