//! What the host's `/sys` says of a GPU's slot: class, NUMA node, and the lender of a virtual GPU.

use std::fs;
use std::path::{Path, PathBuf};

use cotenant_model::gpu::{Pci, VgpuHost};
use nvml_wrapper::Device;
use nvml_wrapper::struct_wrappers::device::PciInfo;

/// The host's `/sys`.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    devices: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self::at("/sys")
    }
}

impl Host {
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { devices: root.into().join("bus/pci/devices") }
    }

    /// Where a GPU sits.
    pub(super) fn pci(&self, info: &PciInfo) -> Pci {
        let bus_id = format!("{:04x}:{:02x}:{:02x}.0", info.domain, info.bus, info.device);
        // `0x030200`: base class, subclass, programming interface.
        let class = self.number(&bus_id, "class").and_then(|class| u16::try_from(class >> 8).ok());
        Pci { bus_id, device_id: info.pci_device_id, subsystem_id: info.pci_sub_system_id, class }
    }

    /// The NUMA node of a slot. A host that has but one says -1; where `/sys` does not show the slot, the driver is asked.
    pub(super) fn numa_node(&self, pci: &Pci, device: &Device<'_>) -> Option<u32> {
        /// `NVML_AFFINITY_SCOPE_NODE`.
        const NODE: u32 = 0;
        /// Room for 1,024 nodes, the most that Linux knows.
        const WORDS: usize = 16;
        if let Ok(text) = fs::read_to_string(self.file(&pci.bus_id, "numa_node")) {
            return text.trim().parse().ok();
        }
        only_node(&device.memory_affinity(WORDS, NODE).ok()?)
    }

    /// The driver of the host that lends a virtual GPU; reading so far into the configuration space takes root.
    pub(super) fn vgpu_host(&self, pci: &Pci) -> Option<VgpuHost> {
        vgpu_host(&fs::read(self.file(&pci.bus_id, "config")).ok()?)
    }

    fn number(&self, bus_id: &str, name: &str) -> Option<u32> {
        let text = fs::read_to_string(self.file(bus_id, name)).ok()?;
        u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
    }

    fn file(&self, bus_id: &str, name: &str) -> PathBuf {
        self.devices.join(Path::new(bus_id)).join(name)
    }
}

/// The node of a set that has one.
fn only_node(words: &[u64]) -> Option<u32> {
    let count: u32 = words.iter().map(|word| word.count_ones()).sum();
    let (position, word) = words.iter().enumerate().find(|(_, word)| **word != 0)?;
    if count == 1 { Some(u32::try_from(position).ok()? * u64::BITS + word.trailing_zeros()) } else { None }
}

/// Offsets in a PCI configuration space, and the id of a vendor's own capability (PCI Local Bus Specification 3.0, 6.7).
const STATUS: usize = 0x06;
const HAS_CAPABILITIES: u8 = 0x10;
const FIRST_CAPABILITY: usize = 0x34;
const VENDOR_SPECIFIC: u8 = 0x09;

/// The vendor's capability of a virtual GPU: behind its length the letters `VF`, then records of id and length. The record
/// with id 0 holds 10 bytes of the host driver's version and 10 of its branch (NVIDIA's feature discovery reads it so).
fn vgpu_host(config: &[u8]) -> Option<VgpuHost> {
    let capability = vendor_capability(config)?;
    let mut records = capability.strip_prefix(b"VF")?;
    while *records.first()? != 0 {
        let length = usize::from(*records.get(1)?);
        records = records.get(length.max(1)..)?;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_matches('\0').to_owned();
    Some(VgpuHost { version: text(records.get(2..12)?), branch: text(records.get(12..22)?) })
}

/// What follows the header (id, next, length) of the first vendor-specific capability.
fn vendor_capability(config: &[u8]) -> Option<&[u8]> {
    if config.get(STATUS)? & HAS_CAPABILITIES == 0 {
        return None;
    }
    let mut at = usize::from(*config.get(FIRST_CAPABILITY)?);
    // A list that loops is longer than the space has room for.
    for _ in 0..64 {
        let [id, next, length] = *config.get(at..at + 3)? else { return None };
        if at == 0 || id == u8::MAX {
            return None;
        }
        if id == VENDOR_SPECIFIC {
            return config.get(at + 3..at + usize::from(length));
        }
        at = usize::from(next);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration space with a power-management capability and then the vendor's.
    fn config(vendor: &[u8]) -> Vec<u8> {
        let mut space = vec![0; 256];
        space[STATUS] = HAS_CAPABILITIES;
        space[FIRST_CAPABILITY] = 0x60;
        space[0x60..0x63].copy_from_slice(&[0x01, 0x80, 8]);
        space[0x80..0x83].copy_from_slice(&[VENDOR_SPECIFIC, 0, u8::try_from(vendor.len() + 3).expect("short")]);
        space[0x83..0x83 + vendor.len()].copy_from_slice(vendor);
        space
    }

    #[test]
    fn a_virtual_gpu_names_the_driver_of_its_host() {
        let mut vendor = b"VF".to_vec();
        vendor.extend([7, 4, 1, 1]);
        vendor.extend([0, 22]);
        vendor.extend(b"535.129.03");
        vendor.extend(b"r535_125\0\0");
        let host = vgpu_host(&config(&vendor)).expect("a virtual GPU");
        assert_eq!((host.version.as_str(), host.branch.as_str()), ("535.129.03", "r535_125"));
    }

    #[test]
    fn what_is_no_virtual_gpu_or_broken_is_none() {
        assert_eq!(vgpu_host(&config(b"\0\0\0\0")), None);
        assert_eq!(vgpu_host(&config(b"VF\x07\x00")), None);
        assert_eq!(vgpu_host(&config(b"VF\x07\xff")), None);
        assert_eq!(vgpu_host(&[0; 64]), None);
        let mut looped = config(b"");
        looped[0x61] = 0x60;
        assert_eq!(vgpu_host(&looped), None);
    }

    #[test]
    fn a_set_with_one_node_names_it() {
        assert_eq!(only_node(&[0, 1 << 3]), Some(67));
        assert_eq!((only_node(&[0, 0]), only_node(&[1, 1])), (None, None));
    }
}
