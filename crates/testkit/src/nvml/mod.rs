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
//! - Settings written through the library (compute mode, MIG mode) last as long as the process, and until the file changes.
//! - A function that the scenario lists under `errors` fails with that code; a GPU that is `lost` answers nothing else.
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
mod simulation;

pub use library::{Library, SCENARIO_VARIABLE};
pub use scenario::{
    Change, ComputeMode, ErrorCode, Event, Gpu, Mig, MigDevice, Monitoring, Process, ProcessList, Scenario, Utilization,
};
