//! What a node offers: resources, their devices, and the share of a GPU that each device stands for.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bytes, GpuUuid, Percent};

/// How the tenants of one GPU share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One container has the whole GPU.
    Exclusive,
    /// Containers take turns; nothing limits their memory.
    TimeSlicing,
    /// Containers are clients of one MPS server, with limits.
    Mps,
    /// The GPU is cut into MIG devices (which may themselves be time-sliced).
    Mig,
}

impl Strategy {
    /// The word of files, labels and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::TimeSlicing => "time-slicing",
            Self::Mps => "mps",
            Self::Mig => "mig",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// An extended resource's full name, such as `nvidia.com/gpu.shared`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ResourceName(pub String);

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a device towards the kubelet, at most 63 characters: `UUID` of a GPU or MIG device that is not shared,
/// `UUID::N` of an equal share of one, as NVIDIA's plugin writes it, `UUID::CLASS-N` of a share of a size class. `N` counts
/// from 0. No two devices of a node have the same id, and the shares of a class keep theirs when another class comes or goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DeviceId(pub String);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl DeviceId {
    /// Longest id in characters, the kubelet's limit.
    pub const LONGEST: usize = 63;

    /// The id of a GPU or MIG device that is not shared.
    #[must_use]
    pub fn whole(uuid: &GpuUuid) -> Self {
        Self(uuid.0.clone())
    }

    /// The id of share number `replica` of a GPU or MIG device.
    #[must_use]
    pub fn share(uuid: &GpuUuid, replica: u32) -> Self {
        Self(format!("{uuid}::{replica}"))
    }

    /// The id of share number `replica` of a size class on a GPU.
    #[must_use]
    pub fn of_class(uuid: &GpuUuid, class: &str, replica: u32) -> Self {
        Self(format!("{uuid}::{class}-{replica}"))
    }

    /// Whether it is a share.
    #[must_use]
    pub fn is_share(&self) -> bool {
        self.0.contains("::")
    }

    /// The GPU or MIG device that it is, or is a share of.
    #[must_use]
    pub fn uuid(&self) -> GpuUuid {
        let uuid = self.0.split_once("::").map_or(self.0.as_str(), |(uuid, _replica)| uuid);
        GpuUuid(uuid.to_owned())
    }
}

/// What one device may use of its GPU, enforced under MPS only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// Device memory.
    pub memory: Bytes,
    /// Share of the streaming multiprocessors: a cap, not a reservation.
    pub percent: Percent,
}

impl Share {
    /// Both shares together; no more than all of the multiprocessors.
    #[must_use]
    pub fn sum(self, other: Self) -> Self {
        let percent = self.percent.get().saturating_add(other.percent.get()).min(100);
        Self {
            memory: Bytes(self.memory.0.saturating_add(other.memory.0)),
            percent: Percent::try_from(percent).unwrap_or(Percent::ALL),
        }
    }

    /// The larger memory and the larger percentage.
    #[must_use]
    pub fn largest(self, other: Self) -> Self {
        Self { memory: self.memory.max(other.memory), percent: self.percent.max(other.percent) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB and {} % of the multiprocessors", self.memory.to_mebibytes(), self.percent)
    }
}

/// One device of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its id towards the kubelet.
    pub id: DeviceId,
    /// The GPU or MIG device it is, or is a share of.
    pub uuid: GpuUuid,
    /// The GPU; the parent where `uuid` is a MIG device.
    pub gpu: GpuUuid,
    /// Index as NVML counts and `deviceIDStrategy: index` hands out: `0`, or `0:1` for a MIG device.
    pub index: String,
    /// How it is shared; a MIG device that is not shared is `mig`, a time-sliced one `time-slicing`.
    pub strategy: Strategy,
    /// Its limits; `None` where nothing limits it.
    pub share: Option<Share>,
    /// Its size class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// NUMA node of its GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
}

/// A resource with its devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Name towards the kubelet.
    pub name: ResourceName,
    /// Whether a container may ask for one device at most (`failRequestsGreaterThanOne`).
    pub one_per_container: bool,
    /// Devices in order of GPU index and replica; may be empty (a name that an edit retired).
    pub devices: Vec<Device>,
}

/// What one GPU contributes, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuOffer {
    /// The GPU.
    pub gpu: GpuUuid,
    /// Its index in NVML's order.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// How it is shared.
    pub strategy: Strategy,
    /// Resources with the number of devices that it contributes to each.
    pub devices: Vec<(ResourceName, u32)>,
    /// Memory kept back for the driver and the server's context; zero where nothing is limited.
    pub reserve: Bytes,
    /// The control daemon it needs; `None` without MPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<MpsDaemon>,
    /// Why it is so, a sentence a line.
    pub reasons: Vec<String>,
}

/// What a GPU's MPS control daemon is started with. Another value means another daemon and the end of this one's clients,
/// but for `limit`, which a running daemon is told anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MpsDaemon {
    /// Folder below which its pipe folder lies.
    pub root: String,
    /// One server for every user.
    pub multi_user: bool,
    /// Protocol of the dialogue as configured: `automatic`, `2` or `3`.
    pub protocol: String,
    /// The most that one container can be given: what a client without variables of its own is limited to.
    pub limit: Share,
}

/// What a node offers under a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// Resources in order of name.
    pub resources: Vec<Resource>,
    /// Every GPU in NVML's order.
    pub gpus: Vec<GpuOffer>,
    /// What works but may not be what was meant, a sentence a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Offer {
    /// A resource by its name.
    #[must_use]
    pub fn resource(&self, name: &ResourceName) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.name == *name)
    }

    /// A GPU by its UUID.
    #[must_use]
    pub fn gpu(&self, uuid: &GpuUuid) -> Option<&GpuOffer> {
        self.gpus.iter().find(|gpu| gpu.gpu == *uuid)
    }

    /// Every device that is, is a part of, or is a share of a GPU, with its resource.
    pub fn devices_of<'a>(&'a self, gpu: &'a GpuUuid) -> impl Iterator<Item = (&'a Resource, &'a Device)> {
        let all =
            self.resources.iter().flat_map(|resource| resource.devices.iter().map(move |device| (resource, device)));
        all.filter(move |(_, device)| device.gpu == *gpu)
    }

    /// The most of a GPU that one container can be given through MPS: a share where its resource gives one at most, all shares
    /// of the resource elsewhere; memory and percent each the largest over all resources. `None` where MPS does not share it.
    #[must_use]
    pub fn most_for_one(&self, gpu: &GpuUuid) -> Option<Share> {
        let of_resource = |resource: &Resource| {
            let shares = resource.devices.iter().filter(|device| device.gpu == *gpu).filter_map(|device| device.share);
            shares.reduce(if resource.one_per_container { Share::largest } else { Share::sum })
        };
        self.resources.iter().filter_map(of_resource).reduce(Share::largest)
    }

    /// A device by its id, with its resource.
    #[must_use]
    pub fn device(&self, id: &DeviceId) -> Option<(&Resource, &Device)> {
        self.resources.iter().find_map(|resource| {
            resource.devices.iter().find(|device| device.id == *id).map(|device| (resource, device))
        })
    }
}
