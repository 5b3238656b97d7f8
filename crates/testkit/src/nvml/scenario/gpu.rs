//! Simulated GPUs.

use serde::{Deserialize, Serialize};

use super::mig::Mig;
use super::process::Process;

/// One simulated GPU; a figure that is `None` is answered with `NOT_SUPPORTED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gpu {
    /// Product name; it must contain the word `Simulated`.
    pub name: String,
    /// UUID, `GPU-…`.
    pub uuid: String,
    /// Total memory in bytes.
    pub memory: u64,
    /// Memory in use in bytes.
    #[serde(default)]
    pub memory_used: u64,
    /// CUDA compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// Who may have a context.
    #[serde(default)]
    pub compute_mode: ComputeMode,
    /// Power in milliwatts.
    #[serde(default)]
    pub power_milliwatts: Option<u32>,
    /// Power limit in force in milliwatts.
    #[serde(default)]
    pub power_limit_milliwatts: Option<u32>,
    /// Energy counter at time zero in millijoules; it grows with power.
    #[serde(default)]
    pub energy_millijoules: Option<u64>,
    /// Clock of the streaming multiprocessors in MHz.
    #[serde(default)]
    pub sm_clock_mhz: Option<u32>,
    /// Highest clock of the streaming multiprocessors in MHz.
    #[serde(default)]
    pub max_sm_clock_mhz: Option<u32>,
    /// Memory clock in MHz.
    #[serde(default)]
    pub memory_clock_mhz: Option<u32>,
    /// Temperature in °C.
    #[serde(default)]
    pub temperature_celsius: Option<u32>,
    /// NVML's bit mask of throttle reasons in force.
    #[serde(default)]
    pub throttle_reasons: Option<u64>,
    /// GPU and memory utilisation in percent.
    #[serde(default)]
    pub utilization: Option<(u32, u32)>,
    /// Figures of GPM; `None` on a GPU older than Hopper.
    #[serde(default)]
    pub monitoring: Option<Monitoring>,
    /// MIG; `None` on a GPU that cannot do it.
    #[serde(default)]
    pub mig: Option<Mig>,
    /// Processes.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// Whether the driver hands out its whole buffer of process utilisation, whatever time it was asked for (seen on real
    /// drivers).
    #[serde(default)]
    pub whole_utilization_buffer: bool,
    /// Whether the GPU fell off the bus.
    #[serde(default)]
    pub lost: bool,
    /// Memory in bytes that the driver keeps for itself.
    #[serde(default)]
    pub memory_reserved: u64,
    /// Number of its device file; `None` is its position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<u32>,
    /// Where it sits; `None` is a bus of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<Pci>,
    /// NUMA node that it is close to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// The fabric it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fabric: Option<Fabric>,
    /// What the driver asks for to recover, a number of `nvmlDeviceGpuRecoveryAction_t`; `None` on a driver that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_action: Option<u32>,
}

/// A place on the PCI bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pci {
    /// Domain, bus and device.
    pub address: (u32, u32, u32),
    /// Device and vendor, `0xDDDDVVVV`.
    pub device_id: u32,
}

/// A fabric of GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fabric {
    /// UUID of the cluster, 16 bytes.
    pub cluster: [u8; 16],
    /// Clique.
    pub clique: u32,
}

impl Gpu {
    /// A GPU with every figure, MIG-capable and with GPM.
    #[must_use]
    pub fn hopper(uuid: &str) -> Self {
        Self {
            name: "NVIDIA Simulated Hopper".to_owned(),
            memory: 141 << 30,
            memory_used: 1 << 30,
            compute_capability: (9, 0),
            power_milliwatts: Some(300_000),
            power_limit_milliwatts: Some(700_000),
            energy_millijoules: Some(5_000_000),
            sm_clock_mhz: Some(1_980),
            max_sm_clock_mhz: Some(1_980),
            memory_clock_mhz: Some(3_201),
            temperature_celsius: Some(41),
            throttle_reasons: Some(0),
            utilization: Some((80, 40)),
            monitoring: Some(Monitoring {
                sm_activity: 71.5,
                sm_occupancy: 33.0,
                tensor_activity: 12.5,
                memory_bandwidth: 64.0,
            }),
            mig: Some(Mig::hopper()),
            memory_reserved: 600 << 20,
            recovery_action: Some(0),
            ..Self::bare(uuid)
        }
    }

    /// A GPU like an A100 with 40 GB: MIG whose mode waits for a reset, no GPM.
    #[must_use]
    pub fn ampere(uuid: &str) -> Self {
        Self {
            name: "NVIDIA Simulated Ampere".to_owned(),
            memory: 40 << 30,
            compute_capability: (8, 0),
            monitoring: None,
            mig: Some(Mig::ampere()),
            recovery_action: None,
            ..Self::hopper(uuid)
        }
    }

    /// A GPU like a T4 with 16 GB: no MIG, no GPM.
    #[must_use]
    pub fn turing(uuid: &str) -> Self {
        Self {
            name: "NVIDIA Simulated Turing".to_owned(),
            memory: 15 << 30,
            compute_capability: (7, 5),
            power_limit_milliwatts: Some(70_000),
            mig: None,
            ..Self::ampere(uuid)
        }
    }

    /// A GPU that says its name, UUID, memory and compute capability and nothing else.
    #[must_use]
    pub fn bare(uuid: &str) -> Self {
        Self {
            name: "NVIDIA Simulated Bare".to_owned(),
            uuid: uuid.to_owned(),
            memory: 16 << 30,
            memory_used: 0,
            compute_capability: (7, 5),
            compute_mode: ComputeMode::Default,
            power_milliwatts: None,
            power_limit_milliwatts: None,
            energy_millijoules: None,
            sm_clock_mhz: None,
            max_sm_clock_mhz: None,
            memory_clock_mhz: None,
            temperature_celsius: None,
            throttle_reasons: None,
            utilization: None,
            monitoring: None,
            mig: None,
            processes: Vec::new(),
            whole_utilization_buffer: false,
            lost: false,
            memory_reserved: 0,
            minor: None,
            pci: None,
            numa_node: None,
            fabric: None,
            recovery_action: None,
        }
    }

    /// The same GPU with one more process.
    #[must_use]
    pub fn with_process(mut self, process: Process) -> Self {
        self.processes.push(process);
        self
    }

    /// The same GPU in MIG mode, cut into instances of these profiles in order, a compute instance in each.
    ///
    /// # Panics
    /// When the GPU cannot be cut so.
    #[must_use]
    pub fn with_instances(mut self, profiles: &[&str]) -> Self {
        let mig = self.mig.take().unwrap_or_default();
        let cut = profiles.iter().fold(mig, |mig, profile| mig.with(&self.uuid, profile));
        self.mig = Some(Mig { enabled: true, ..cut });
        self
    }

    /// The same GPU close to a NUMA node.
    #[must_use]
    pub const fn on_numa_node(mut self, node: u32) -> Self {
        self.numa_node = Some(node);
        self
    }

    /// Its place on the PCI bus: where nothing else is said, a bus of its own.
    #[must_use]
    pub fn pci_at(&self, position: usize) -> Pci {
        let bus = u32::try_from(position).unwrap_or(0) + 0x10;
        self.pci.clone().unwrap_or(Pci { address: (0, bus, 0), device_id: 0x1eb8_10de })
    }
}

/// NVML's compute modes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComputeMode {
    /// Any number of processes.
    #[default]
    Default,
    /// Deprecated by the driver.
    ExclusiveThread,
    /// None.
    Prohibited,
    /// One process.
    ExclusiveProcess,
}

/// Figures of GPM in percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Monitoring {
    /// `SM_UTIL`.
    pub sm_activity: f64,
    /// `SM_OCCUPANCY`.
    pub sm_occupancy: f64,
    /// `ANY_TENSOR_UTIL`.
    pub tensor_activity: f64,
    /// `DRAM_BW_UTIL`.
    pub memory_bandwidth: f64,
}
