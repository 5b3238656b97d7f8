//! What a container gets for its devices, by each of NVIDIA's device list strategies.

use std::path::Path;

use cotenant_model::sharing::config::{DeviceListStrategy, Extras};
use cotenant_model::sharing::{ResourceName, Share};

use super::answer::{Allocation, DeviceNode, Mount};
use super::socket::fnv1a;
use crate::{cdi, device_file};

/// The variable that NVIDIA's container runtime reads.
const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
/// A folder of whose entries the runtime makes a list, when the variable names the folder.
const VOLUME_MOUNTS: &str = "/var/run/nvidia-container-devices";

/// How containers are told their devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The strategies, several of which may be used at once.
    pub strategies: Vec<DeviceListStrategy>,
    /// `cdiAnnotationPrefix`, such as `cdi.k8s.io/`.
    pub cdi_annotation_prefix: String,
    /// CDI devices besides the GPUs, by their qualified names; only such as have a specification.
    pub cdi_extras: Vec<String>,
    /// GDRCopy, GPUDirect Storage and OFED, for the runtime's modes.
    pub extras: Extras,
    /// IMEX channels.
    pub imex_channels: Vec<u32>,
    /// With `passDeviceSpecs`: device files are handed out by the kubelet, too.
    pub device_files: Option<DeviceFiles>,
}

/// Which device files go with the devices' own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceFiles {
    /// `nvidiaDevRoot`: the host's folder that holds `dev`.
    pub dev_root: String,
    /// The control files that exist ([`device_file::control`]).
    pub control: Vec<String>,
}

/// A GPU or MIG device that a container is given, or of which it is given a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its UUID, or its index with `deviceIDStrategy: index`.
    pub name: String,
    /// Its device files ([`device_file::gpu`], [`device_file::MigMinors::device`]).
    pub files: Vec<String>,
}

impl Delivery {
    /// What a container needs for `devices`. One that stands twice, because two of its shares were given, counts once.
    #[must_use]
    pub fn allocation(&self, devices: &[Given]) -> Allocation {
        let mut unique: Vec<&Given> = Vec::with_capacity(devices.len());
        for device in devices {
            if unique.iter().all(|known| known.name != device.name) {
                unique.push(device);
            }
        }
        let mut allocation = Allocation::default();
        self.add_cdi(&mut allocation, &unique);
        self.add_extras(&mut allocation);
        if self.uses(DeviceListStrategy::Envvar) {
            self.add_environment(&mut allocation, &unique);
        }
        if self.uses(DeviceListStrategy::VolumeMounts) {
            self.add_volume_mounts(&mut allocation, &unique);
        }
        if self.uses(DeviceListStrategy::Envvar) || self.uses(DeviceListStrategy::VolumeMounts) {
            self.add_device_files(&mut allocation, &unique);
        }
        allocation
    }

    fn uses(&self, strategy: DeviceListStrategy) -> bool {
        self.strategies.contains(&strategy)
    }

    fn add_cdi(&self, allocation: &mut Allocation, devices: &[&Given]) {
        let gpus = devices.iter().map(|device| cdi::qualified(cdi::GPU, &device.name));
        let names: Vec<String> = gpus.chain(self.cdi_extras.iter().cloned()).collect();
        if self.uses(DeviceListStrategy::CdiAnnotations) {
            let value = names.join(",");
            let key = format!("{}nvidia-device-plugin_{}", self.cdi_annotation_prefix, identifier(&value));
            allocation.annotations.insert(key, value);
        }
        if self.uses(DeviceListStrategy::CdiCri) {
            allocation.cdi_devices = names;
        }
    }

    fn add_extras(&self, allocation: &mut Allocation) {
        let Extras { gdrcopy, gds, mofed } = self.extras;
        for (enabled, name) in [(gdrcopy, "NVIDIA_GDRCOPY"), (gds, "NVIDIA_GDS"), (mofed, "NVIDIA_MOFED")] {
            if enabled {
                allocation.environment.insert(name.to_owned(), "enabled".to_owned());
            }
        }
    }

    fn add_environment(&self, allocation: &mut Allocation, devices: &[&Given]) {
        let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
        allocation.environment.insert(VISIBLE_DEVICES.to_owned(), names.join(","));
        if !self.imex_channels.is_empty() {
            let channels: Vec<String> = self.imex_channels.iter().map(u32::to_string).collect();
            allocation.environment.insert("NVIDIA_IMEX_CHANNELS".to_owned(), channels.join(","));
        }
    }

    fn add_volume_mounts(&self, allocation: &mut Allocation, devices: &[&Given]) {
        allocation.environment.insert(VISIBLE_DEVICES.to_owned(), VOLUME_MOUNTS.to_owned());
        let gpus = devices.iter().map(|device| format!("{VOLUME_MOUNTS}/{}", device.name));
        let channels = self.imex_channels.iter().map(|channel| format!("{VOLUME_MOUNTS}/imex/{channel}"));
        let mount = |container| Mount { container, host: "/dev/null".to_owned(), read_only: false };
        allocation.mounts.extend(gpus.chain(channels).map(mount));
    }

    fn add_device_files(&self, allocation: &mut Allocation, devices: &[&Given]) {
        let Some(files) = &self.device_files else { return };
        let channels = self.imex_channels.iter().map(|channel| device_file::imex_channel(*channel));
        let own = devices.iter().flat_map(|device| device.files.iter().cloned());
        for container in files.control.iter().cloned().chain(own).chain(channels) {
            // MIG devices of one GPU share its file.
            if allocation.device_nodes.iter().any(|known| known.container == container) {
                continue;
            }
            let host = device_file::below(Path::new(&files.dev_root), &container).display().to_string();
            allocation.device_nodes.push(DeviceNode { container, host, permissions: "rw" });
        }
    }
}

/// An identifier in the shape of a UUID that follows from a text. Two resources of a container have different devices and
/// so different annotations; a fresh random one would say no more.
fn identifier(text: &str) -> String {
    let (high, low) = (fnv1a(text.as_bytes()), fnv1a(format!("{text}\n").as_bytes()));
    // Version 8, variant 1: bits of the maker's own choice (RFC 9562).
    let third = (high & 0x0fff) | 0x8000;
    let fourth = ((low >> 48) & 0x3fff) | 0x8000;
    let (first, second, fifth) = (high >> 32, (high >> 16) & 0xffff, low & 0xffff_ffff_ffff);
    format!("{first:08x}-{second:04x}-{third:04x}-{fourth:04x}-{fifth:012x}")
}

impl Allocation {
    /// Makes the container a client of the MPS control daemon whose pipe folder is `pipe` on the host, within `share`.
    ///
    /// In the container the pipe stands at `/mps/<resource>/pipe`, as with NVIDIA's plugin, but cannot be written to there: a pod
    /// must not put a socket of its own in the daemon's place, and clients connect all the same (seen on driver 580). `shm`, where given, is mounted
    /// over `/dev/shm`, which daemon and client must then share. The memory limit names device 0, the only one that the
    /// container sees: a limit for a device that a process cannot see makes the driver drop all of its limits (measured on
    /// driver 580). It is rounded down to whole MiB, and is never 0, which would not be a limit.
    pub fn add_mps(&mut self, resource: &ResourceName, pipe: &Path, shm: Option<&Path>, share: Share) {
        let container = format!("/mps/{resource}/pipe");
        let memory = (share.memory.0 >> 20).max(1);
        let variables = [
            ("CUDA_MPS_PIPE_DIRECTORY", container.clone()),
            ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", share.percent.get().to_string()),
            ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", format!("0={memory}M")),
        ];
        self.environment.extend(variables.map(|(name, value)| (name.to_owned(), value)));
        let mount =
            |container, host: &Path, read_only| Mount { container, host: host.display().to_string(), read_only };
        self.mounts.push(mount(container, pipe, true));
        self.mounts.extend(shm.map(|shm| mount("/dev/shm".to_owned(), shm, false)));
    }
}

#[cfg(test)]
#[path = "delivery/tests.rs"]
mod tests;
