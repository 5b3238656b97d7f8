//! GPU identity, what a GPU and its driver say of themselves, and the ports to hardware and time.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bytes, Nanoseconds};

/// A GPU's or MIG device's UUID as the driver prints it, `GPU-…` or `MIG-…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct GpuUuid(pub String);

impl fmt::Display for GpuUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One GPU as the driver describes it; what the driver does not say is `None`, never zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// Index in NVML's order (PCI bus order).
    pub index: u32,
    /// UUID.
    pub uuid: GpuUuid,
    /// Product name, such as `NVIDIA H200`.
    pub name: String,
    /// Total memory.
    pub memory: Bytes,
    /// CUDA compute capability, major and minor.
    pub compute_capability: Option<(u32, u32)>,
    /// Compute mode: `default`, `exclusive-process` or `prohibited`.
    pub compute_mode: Option<ComputeMode>,
    /// Power limit in force, in milliwatts.
    pub power_limit_milliwatts: Option<u32>,
    /// Highest clock of the streaming multiprocessors, in MHz.
    pub max_sm_clock_mhz: Option<u32>,
    /// Whether MIG mode is on; `None` where the GPU cannot do MIG.
    pub mig: Option<bool>,
    /// MIG devices that exist on this GPU.
    pub mig_devices: Vec<MigDevice>,
    /// Memory that the driver keeps for itself, a part of `memory` (NVML's memory v2 `reserved`; driver 510 and newer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_reserved: Option<Bytes>,
    /// Number of its device file, `/dev/nvidia<minor>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<u32>,
    /// Where it sits on the PCI bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<Pci>,
    /// NUMA node that its PCI slot belongs to; `None` also where the host has but one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// The fabric of GPUs that it is part of, `<cluster UUID>.<clique id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fabric_clique: Option<String>,
    /// The driver of the hypervisor's host, where this is a virtual GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vgpu_host: Option<VgpuHost>,
    /// Whether MIG mode will be on after the next reset; differs from `mig` while a change waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig_pending: Option<bool>,
    /// MIG profiles that the GPU can do, in NVML's order; empty where it cannot do MIG.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mig_profiles: Vec<MigProfile>,
    /// GPU instances that exist, those without a MIG device among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mig_instances: Vec<MigInstance>,
}

impl Gpu {
    /// A GPU of which only this much is known.
    #[must_use]
    pub const fn new(index: u32, uuid: GpuUuid, name: String, memory: Bytes) -> Self {
        Self {
            index,
            uuid,
            name,
            memory,
            compute_capability: None,
            compute_mode: None,
            power_limit_milliwatts: None,
            max_sm_clock_mhz: None,
            mig: None,
            mig_devices: Vec::new(),
            memory_reserved: None,
            minor: None,
            pci: None,
            numa_node: None,
            fabric_clique: None,
            vgpu_host: None,
            mig_pending: None,
            mig_profiles: Vec::new(),
            mig_instances: Vec::new(),
        }
    }

    /// Whether its product name contains a text, letter case aside.
    #[must_use]
    pub fn is_product(&self, text: &str) -> bool {
        self.name.to_lowercase().contains(&text.to_lowercase())
    }
}

/// A GPU's place on the PCI bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pci {
    /// Address as Linux writes it below `/sys/bus/pci/devices`: `0000:0a:00.0`.
    pub bus_id: String,
    /// Device and vendor, `0xDDDDVVVV` as NVML's `pciDeviceId` and mig-parted's `device-filter` have them.
    pub device_id: u32,
    /// Device and vendor of the board, likewise (NVML's `pciSubSystemId`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsystem_id: Option<u32>,
    /// Base class and subclass: `0x0300` a VGA controller, `0x0302` a 3D controller (no display output).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<u16>,
}

/// The driver of the host that lends a virtual GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VgpuHost {
    /// Its version, such as `535.129.03`.
    pub version: String,
    /// Its branch, such as `r535_125`.
    pub branch: String,
}

/// A MIG device: a compute instance of a GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigDevice {
    /// UUID, `MIG-…`.
    pub uuid: GpuUuid,
    /// Profile, such as `1g.18gb`.
    pub profile: String,
    /// Memory of the instance.
    pub memory: Bytes,
    /// Index on its GPU, the second number of `0:1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Id of its GPU instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_instance: Option<u32>,
    /// Id of its compute instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_instance: Option<u32>,
    /// What it consists of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<MigAttributes>,
}

impl MigDevice {
    /// A MIG device of which only this much is known.
    #[must_use]
    pub const fn new(uuid: GpuUuid, profile: String, memory: Bytes) -> Self {
        Self { uuid, profile, memory, index: None, gpu_instance: None, compute_instance: None, attributes: None }
    }
}

/// What a MIG device consists of, as NVML's device attributes say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigAttributes {
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Slices of its GPU instance.
    pub gpu_slices: u32,
    /// Slices of its compute instance.
    pub compute_slices: u32,
    /// Copy engines (shared by the compute instances of a GPU instance, as the other engines are).
    pub copy_engines: u32,
    /// Video decoders.
    pub decoders: u32,
    /// Video encoders.
    pub encoders: u32,
    /// JPEG decoders.
    pub jpeg_engines: u32,
    /// Optical-flow accelerators.
    pub optical_flow_engines: u32,
}

/// A kind of GPU instance that a GPU can be cut into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigProfile {
    /// NVML's id of the profile on this GPU (`nvmlGpuInstanceProfileInfo_t.id`).
    pub id: u32,
    /// Name with its attributes, such as `1g.18gb` or `1g.18gb+me`.
    pub name: String,
    /// Memory of an instance.
    pub memory: Bytes,
    /// Compute slices of an instance.
    pub slices: u32,
    /// Streaming multiprocessors of an instance.
    pub multiprocessors: u32,
    /// Instances of it that an empty GPU holds.
    pub maximum: u32,
    /// Where an instance may lie, whatever lies there now.
    pub placements: Vec<MigPlacement>,
}

/// Memory slices that a GPU instance takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigPlacement {
    /// First memory slice.
    pub start: u32,
    /// Number of memory slices.
    pub size: u32,
}

/// A GPU instance that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigInstance {
    /// NVML's id of the instance.
    pub id: u32,
    /// Its profile, [`MigProfile::id`].
    pub profile: u32,
    /// Where it lies.
    pub placement: MigPlacement,
    /// Ids of its compute instances; empty when whoever made it did not come to the second step.
    pub compute_instances: Vec<u32>,
}

/// Who may have a context on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ComputeMode {
    /// Any number of processes.
    Default,
    /// One process at a time; under MPS that process is the server.
    ExclusiveProcess,
    /// None.
    Prohibited,
}

/// Versions of the driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Driver {
    /// Kernel driver, such as `580.159.04`.
    pub version: String,
    /// Newest CUDA version the driver runs, major and minor.
    pub cuda: Option<(u32, u32)>,
}

/// One reading of a GPU; a figure that could not be read is `None`, never zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuSample {
    /// Percent of the driver's last sample period (1/6 s to 1 s) in which any kernel ran; not a measure of how much of the
    /// GPU was used.
    pub gpu_utilization: Option<u32>,
    /// Percent of the same period in which device memory was read or written.
    pub memory_utilization: Option<u32>,
    /// Device memory in use.
    pub memory_used: Option<Bytes>,
    /// Board power in milliwatts (the driver averages over 1 s on most GPUs).
    pub power_milliwatts: Option<u32>,
    /// Energy since the driver was loaded, in millijoules.
    pub energy_millijoules: Option<u64>,
    /// Clock of the streaming multiprocessors in MHz.
    pub sm_clock_mhz: Option<u32>,
    /// Memory clock in MHz.
    pub memory_clock_mhz: Option<u32>,
    /// Temperature of the GPU in °C.
    pub temperature_celsius: Option<u32>,
    /// Throttle reasons in force, by NVML's names without the prefix (`SwPowerCap`, `HwThermalSlowdown`, …); idle and
    /// application-clock settings are not reasons.
    pub throttle_reasons: Option<Vec<String>>,
    /// Percent of streaming-multiprocessor time with a warp resident (GPM; Hopper and newer), since the last reading.
    pub sm_activity: Option<f64>,
    /// Percent of streaming-multiprocessor warp slots filled (GPM), since the last reading.
    pub sm_occupancy: Option<f64>,
    /// Percent of the peak device-memory bandwidth used (GPM), since the last reading.
    pub memory_bandwidth: Option<f64>,
    /// Percent of cycles in which a tensor core worked (GPM), since the last reading.
    pub tensor_activity: Option<f64>,
}

/// A process with a context on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuProcess {
    /// Process id as the driver sees it (the host's, also when read inside a container).
    pub pid: u32,
    /// Device memory it holds; `None` where the driver does not say.
    pub memory: Option<Bytes>,
    /// Which of the driver's lists names it.
    pub list: ProcessList,
    /// Percent of time its kernels ran; under MPS only the server has one.
    pub sm_utilization: Option<u32>,
}

/// The driver's process lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessList {
    /// A process with a compute context; the MPS server among them.
    Compute,
    /// A client of an MPS server.
    MpsClient,
    /// A process with a graphics context.
    Graphics,
}

/// Reads GPUs: the port to NVML.
pub trait GpuReader: Send {
    /// Why a reading failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Every GPU of the host in NVML's order.
    ///
    /// # Errors
    /// When the driver does not answer.
    fn gpus(&self) -> Result<Vec<Gpu>, Self::Error>;

    /// The driver's versions.
    ///
    /// # Errors
    /// When the driver does not answer.
    fn driver(&self) -> Result<Driver, Self::Error>;

    /// One reading of a GPU. GPM figures cover the time since the previous reading of the same GPU.
    ///
    /// # Errors
    /// When the GPU is unknown or lost.
    fn sample(&mut self, gpu: &GpuUuid) -> Result<GpuSample, Self::Error>;

    /// Processes on a GPU, each named once: a client that stands in the compute list and in the MPS list is an MPS client.
    ///
    /// # Errors
    /// When the GPU is unknown or lost.
    fn processes(&mut self, gpu: &GpuUuid) -> Result<Vec<GpuProcess>, Self::Error>;
}

/// Tells time: the port to the clocks.
pub trait Clock: Send + Sync {
    /// The host's monotonic clock, the same for every process of the host.
    fn monotonic(&self) -> Nanoseconds;
    /// Blocks until the monotonic clock has reached `instant`; returns at once when it has.
    fn sleep_until(&self, instant: Nanoseconds);
}
