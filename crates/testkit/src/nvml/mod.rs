//! A simulated `libnvidia-ml.so.1`.
//!
//! The shared library of this crate carries NVML's C symbols and answers them from a scenario: a JSON file with GPUs,
//! their processes and a script of what happens to them. The file is named by the environment variable
//! [`SCENARIO_VARIABLE`], or is the `scenario.json` beside the library. It is read again whenever it changes, so a test can
//! change the world under a running program.
//!
//! Product names contain the word `Simulated`, so that no simulated figure can be taken for a real one; a scenario with
//! another name is refused.
//!
//! What is simulated, and what is not:
//! - Time zero of the script is the first `nvmlInit` in each process; energy grows with power from there on.
//! - Settings written through the library (compute mode, MIG) last as long as the process, and until the file changes; with
//!   [`Scenario::with_shared_settings`] they hold for every program of the host and outlive them all, as the real ones do.
//! - A function that the scenario lists under `errors` fails with that code; a GPU that is `lost` answers nothing else.
//! - A program that saw a GPU fall off the bus sees it again only after it has started NVML again.
//! - The figures of MIG profiles are near those of an A100 and an H200; a MIG device's UUID follows from its place.
//! - Symbols that are not here are absent, as on an older driver.
//!
//! ```no_run
//! use cotenant_testkit::nvml::{Gpu, Process, Scenario};
//!
//! # fn main() -> anyhow::Result<()> {
//! let library = Scenario::of(Gpu::hopper("GPU-0").with_process(Process::compute(4242, 1 << 30))).install()?;
//! println!("COTENANT_NVML={}", library.path().display());
//! # Ok(())
//! # }
//! ```

mod c_abi;
mod library;
mod scenario;
mod settings;
mod simulation;

pub use library::{Library, SCENARIO_VARIABLE};
pub use scenario::{
    Change, ComputeInstance, ComputeMode, ErrorCode, Event, Fabric, Gpu, GpuInstance, Mig, MigHabit, MigProfile,
    Monitoring, Pci, Process, ProcessList, Scenario, Utilization,
};
