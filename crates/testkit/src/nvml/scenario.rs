//! The scenario file: what the simulated driver shows, and when it changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything a simulated host shows; the layout of the scenario file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Scenario {
    /// Version of the kernel driver.
    pub driver: String,
    /// Newest CUDA version the driver runs, major and minor.
    pub cuda: (u32, u32),
    /// Functions that fail, by their C name (`nvmlInit_v2`), with the code they fail with.
    pub errors: BTreeMap<String, ErrorCode>,
    /// GPUs in NVML's order.
    pub gpus: Vec<Gpu>,
    /// What happens later. New events go to the end of the list, also when the file is changed under a running program.
    pub events: Vec<Event>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            driver: "580.0.0-simulated".to_owned(),
            cuda: (13, 0),
            errors: BTreeMap::new(),
            gpus: Vec::new(),
            events: Vec::new(),
        }
    }
}

impl Scenario {
    /// A host with one GPU.
    #[must_use]
    pub fn of(gpu: Gpu) -> Self {
        Self { gpus: vec![gpu], ..Self::default() }
    }

    /// The same host with one more GPU.
    #[must_use]
    pub fn with_gpu(mut self, gpu: Gpu) -> Self {
        self.gpus.push(gpu);
        self
    }

    /// The same host on which a function, named as in C, fails with `code`.
    #[must_use]
    pub fn with_error(mut self, function: &str, code: ErrorCode) -> Self {
        self.errors.insert(function.to_owned(), code);
        self
    }

    /// The same host on which something happens to GPU number `gpu` so many milliseconds after `nvmlInit`.
    #[must_use]
    pub fn with_event(mut self, after_milliseconds: u64, gpu: usize, change: Change) -> Self {
        self.events.push(Event { after_milliseconds, gpu, change });
        self
    }
}

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
            mig: Some(Mig::default()),
            ..Self::bare(uuid)
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
        }
    }

    /// The same GPU with one more process.
    #[must_use]
    pub fn with_process(mut self, process: Process) -> Self {
        self.processes.push(process);
        self
    }

    /// The same GPU in MIG mode with these devices.
    #[must_use]
    pub fn with_mig_devices(mut self, devices: Vec<MigDevice>) -> Self {
        self.mig = Some(Mig { enabled: true, devices });
        self
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

/// MIG on a GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mig {
    /// Whether MIG mode is on.
    pub enabled: bool,
    /// Devices that exist.
    #[serde(default)]
    pub devices: Vec<MigDevice>,
}

/// A MIG device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MigDevice {
    /// UUID, `MIG-…`.
    pub uuid: String,
    /// Product name as the driver prints it, `NVIDIA … MIG 1g.18gb`; it must contain the word `Simulated`.
    pub name: String,
    /// Memory in bytes.
    pub memory: u64,
    /// Slices of the GPU instance.
    pub gpu_slices: u32,
    /// Slices of the compute instance.
    pub compute_slices: u32,
}

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
}

impl Process {
    /// A process of the compute list.
    #[must_use]
    pub fn compute(pid: u32, memory: u64) -> Self {
        Self { pid, memory: Some(memory), lists: vec![ProcessList::Compute], utilization: Vec::new() }
    }

    /// A client of an MPS server, which stands in the compute list too.
    #[must_use]
    pub fn mps_client(pid: u32, memory: u64) -> Self {
        Self { lists: vec![ProcessList::Compute, ProcessList::Mps], ..Self::compute(pid, memory) }
    }

    /// A process that has left, of which only a utilisation sample remains.
    #[must_use]
    pub fn gone(pid: u32, utilization: Utilization) -> Self {
        Self { pid, memory: None, lists: Vec::new(), utilization: vec![utilization] }
    }

    /// The same process with a utilisation sample so many milliseconds old.
    #[must_use]
    pub fn with_utilization(mut self, sm: u32, age_milliseconds: u64) -> Self {
        self.utilization.push(Utilization { sm, age_milliseconds });
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

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// When, after the process's first `nvmlInit`.
    pub after_milliseconds: u64,
    /// Position of the GPU it happens to.
    pub gpu: usize,
    /// What.
    pub change: Change,
}

/// What happens to a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A process appears.
    Appears(Process),
    /// The process of this id leaves the lists.
    Leaves(u32),
    /// Power becomes so many milliwatts.
    Power(u32),
    /// The driver reports an XID error.
    Xid(u64),
    /// The GPU falls off the bus.
    Lost,
}

/// NVML's error codes, written as in its header without `NVML_ERROR_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u32)]
pub enum ErrorCode {
    /// `nvmlInit` has not been called.
    Uninitialized = 1,
    /// An argument is wrong.
    InvalidArgument = 2,
    /// The GPU cannot do that.
    NotSupported = 3,
    /// The user may not do that.
    NoPermission = 4,
    /// There is no such object.
    NotFound = 6,
    /// The caller's buffer is too small.
    InsufficientSize = 7,
    /// The kernel driver is not loaded.
    DriverNotLoaded = 9,
    /// Nothing happened in time.
    Timeout = 10,
    /// The library could not find a library it needs.
    LibraryNotFound = 12,
    /// The driver does not know the function.
    FunctionNotFound = 13,
    /// The GPU fell off the bus.
    GpuIsLost = 15,
    /// The GPU must be reset.
    ResetRequired = 16,
    /// The operating system blocked the call.
    OperatingSystem = 17,
    /// The library does not fit the loaded kernel driver.
    LibRmVersionMismatch = 18,
    /// The GPU is in use.
    InUse = 19,
    /// Anything else.
    Unknown = 999,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_reads_what_it_writes() {
        let scenario =
            Scenario::of(Gpu::hopper("GPU-0").with_process(Process::mps_client(7, 1).with_utilization(5, 10)))
                .with_gpu(Gpu::bare("GPU-1"))
                .with_error("nvmlInit_v2", ErrorCode::NoPermission)
                .with_event(10, 0, Change::Xid(79))
                .with_event(20, 1, Change::Lost);
        let text = serde_json::to_string(&scenario).expect("serializable");
        assert_eq!(serde_json::from_str::<Scenario>(&text).expect("readable"), scenario);
        assert!(text.contains("NO_PERMISSION"), "{text}");
    }

    #[test]
    fn a_key_the_simulation_does_not_know_is_refused() {
        assert!(serde_json::from_str::<Scenario>(r#"{"gpuz": []}"#).is_err());
    }
}
