//! What the GPUs of this host are and do, as the driver tells it through NVML.
//!
//! This room owns the driver library: finding and loading it ([`Nvml`], [`OpenError`]), inventory and readings (it is the
//! [`cotenant_model::GpuReader`]), a background [`Sampler`] that measures windows, and the question who else is on this
//! host's GPUs ([`ProcessTable`]). It changes one setting, a GPU's compute
//! mode, and only when told to; it refuses to guess a figure that the driver does not tell
//! (that is `None`, never 0), and to attribute power or energy to single processes.
//!
//! A sampler's thread owns the reader; nothing else touches the driver while a measurement runs:
//!
//! ```text
//!            watch(start, end)                 reading at start, middle, end          finish()
//!  sampling ───────────────────▶ announced ───────────────────────────────▶ answered ──────────▶ Observation
//!     ▲                              │
//!     └── every interval, always ────┘        drop: the thread ends at once, open windows answer `Ended`
//! ```
//!
//! Where no driver is, tests load a simulated library through the very same path. An H200 with driver 580 gave every figure
//! of a reading, the energy counter and GPM's among them, and under MPS the lists that the simulation shows: the server in
//! the compute list, with the only utilisation, and each client with its memory in MPS's own. The simulation alone has
//! proven what a healthy machine cannot show: lost GPUs, a driver that refuses, MIG devices, and absurd or stale utilisation.

mod figures;
mod foreign;
mod history;
mod inventory;
mod open;
mod processes;
mod reader;
mod sampler;
mod setting;

pub use foreign::{ForeignProcess, ProcessTable};
pub use history::{EnergySource, Failure, Observation};
pub use open::OpenError;
pub use reader::{LIBRARY_VARIABLE, Nvml, ReadError};
pub use sampler::{Sampler, SamplerError, Watch};
pub use setting::SettingError;
