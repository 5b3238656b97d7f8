//! What the GPUs of this host are and do, as the driver tells it through NVML.
//!
//! This room owns the driver library: finding and loading it ([`Nvml`], [`OpenError`]), inventory and readings (it is the
//! [`cotenant_model::GpuReader`]), a background [`Sampler`] that measures windows, the question who else is on this host's
//! GPUs ([`ProcessTable`]), and the [`XidWatch`], from whose notices [`Health`] follows. It changes two settings, and only
//! when told to: a GPU's compute mode, and what a GPU is cut into ([`Nvml::apply_mig`]). It refuses to guess a figure that the
//! driver does not tell (that is `None`, never 0), to attribute power or energy to single processes, and to reset a GPU.
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
//! What is healthy, and how the watch goes about it, is drawn in `health`. `unsafe` stands in `raw` alone.
//!
//! Where no driver is, tests load a simulated library through the very same path. An H200 with driver 580 gave every figure
//! of a reading, the energy counter and GPM's among them, and under MPS the lists that the simulation shows: the server in
//! the compute list, with the only utilisation, and each client with its memory in MPS's own. An H100 with driver 580 told
//! the watch of the XID 31 that a real illegal access made, its recovery action, and its MIG profiles with MIG mode off; a list
//! of processes took 2.7 ms there and the inventory 39 ms. The simulation alone has proven what a healthy machine that is not to
//! be reconfigured cannot show: other XID errors, lost GPUs that come back, a driver that refuses or goes, cutting GPUs into
//! MIG devices, and absurd or stale utilisation.

mod driver;
mod figures;
mod foreign;
mod health;
mod history;
mod inventory;
mod mig;
mod open;
mod processes;
mod raw;
mod reader;
mod sampler;
mod setting;

pub use foreign::{ForeignProcess, ProcessTable};
pub use health::{
    Cause, DISABLE_VARIABLE, ENABLE_VARIABLE, Ends, Happening, Health, HealthChange, InstanceIds, InvalidXid, Notice,
    Place, QUIET, RecoveryAction, Trouble, WatchError, XidPolicy, XidRecovery, XidWatch, xid_name, xid_recovery,
};
pub use history::{EnergySource, Failure, Observation};
pub use mig::{MigError, MigOutcome, MigState};
pub use open::OpenError;
pub use reader::{LIBRARY_VARIABLE, Nvml, ReadError};
pub use sampler::{Sampler, SamplerError, Watch};
pub use setting::SettingError;
