//! Processes on a simulated GPU.

use serde::{Deserialize, Serialize};

/// A process on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Device memory in bytes; `None` where the driver does not say.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Lists that name it; a process that has left stands in none but may still have utilisation samples.
    #[serde(default)]
    pub lists: Vec<ProcessList>,
    /// Its samples in the driver's utilisation buffer.
    #[serde(default)]
    pub utilization: Vec<Utilization>,
    /// The MIG device it runs on: ids of the GPU instance and the compute instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<(u32, u32)>,
}

impl Process {
    /// A process of the compute list.
    #[must_use]
    pub fn compute(pid: u32, memory: u64) -> Self {
        let lists = vec![ProcessList::Compute];
        Self { pid, memory: Some(memory), lists, utilization: Vec::new(), instance: None }
    }

    /// A client of an MPS server, which stands in the compute list too.
    #[must_use]
    pub fn mps_client(pid: u32, memory: u64) -> Self {
        Self { lists: vec![ProcessList::Compute, ProcessList::Mps], ..Self::compute(pid, memory) }
    }

    /// A process that has left, of which only a utilisation sample remains.
    #[must_use]
    pub fn gone(pid: u32, utilization: Utilization) -> Self {
        Self { pid, memory: None, lists: Vec::new(), utilization: vec![utilization], instance: None }
    }

    /// The same process with a utilisation sample so many milliseconds old.
    #[must_use]
    pub fn with_utilization(mut self, sm: u32, age_milliseconds: u64) -> Self {
        self.utilization.push(Utilization { sm, age_milliseconds });
        self
    }

    /// The same process on a MIG device, named by the ids of its instances.
    #[must_use]
    pub const fn on_instance(mut self, gpu_instance: u32, compute_instance: u32) -> Self {
        self.instance = Some((gpu_instance, compute_instance));
        self
    }
}

/// One of NVML's process lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessList {
    /// `nvmlDeviceGetComputeRunningProcesses`.
    Compute,
    /// `nvmlDeviceGetMPSComputeRunningProcesses`.
    Mps,
    /// `nvmlDeviceGetGraphicsRunningProcesses`.
    Graphics,
}

/// A sample of a process's utilisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Utilization {
    /// Percent of time its kernels ran; real drivers answer values far above 100 at times.
    pub sm: u32,
    /// Age of the sample whenever it is asked for.
    #[serde(default)]
    pub age_milliseconds: u64,
}
