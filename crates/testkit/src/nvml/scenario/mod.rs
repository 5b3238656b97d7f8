//! The scenario file: what the simulated driver shows, and when it changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod gpu;
mod mig;
mod process;

pub use gpu::{ComputeMode, Fabric, Gpu, Monitoring, Pci};
pub(in crate::nvml) use mig::uuid;
pub use mig::{ComputeInstance, GpuInstance, Mig, MigHabit, MigProfile};
pub use process::{Process, ProcessList, Utilization};

/// Everything a simulated host shows; the layout of the scenario file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Scenario {
    /// Version of the kernel driver.
    pub driver: String,
    /// Newest CUDA version the driver runs, major and minor.
    pub cuda: (u32, u32),
    /// Whether the kernel driver is loaded. A program that was running when it went has to start NVML again.
    pub driver_loaded: bool,
    /// Whether settings that programs make (compute mode, MIG) hold for every program of the host and outlive them, in a
    /// file `settings.json` beside the scenario; otherwise each program has its own until the scenario changes.
    pub shared_settings: bool,
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
            driver_loaded: true,
            shared_settings: false,
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

    /// The same host whose settings hold for every program and outlive them.
    #[must_use]
    pub const fn with_shared_settings(mut self) -> Self {
        self.shared_settings = true;
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
    /// The driver reports an XID error of a MIG device: XID, GPU instance, compute instance.
    InstanceXid(u64, u32, u32),
    /// The driver reports a memory error that ECC corrected.
    SingleBitError,
    /// The driver reports a memory error that ECC could not correct.
    DoubleBitError,
    /// What the driver asks for to recover becomes this number of `nvmlDeviceGpuRecoveryAction_t`.
    RecoveryAction(u32),
    /// The GPU falls off the bus. Programs that saw it go have to start NVML again once it is back.
    Lost,
    /// The GPU is there again.
    Back,
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
    /// No room is left for what was asked.
    InsufficientResources = 23,
    /// The structure's version is not known.
    ArgumentVersionMismatch = 25,
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
