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
}

/// A MIG device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigDevice {
    /// UUID, `MIG-…`.
    pub uuid: GpuUuid,
    /// Profile, such as `1g.18gb`.
    pub profile: String,
    /// Memory of the instance.
    pub memory: Bytes,
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
