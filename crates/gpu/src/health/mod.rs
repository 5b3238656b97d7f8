//! Whether a GPU may be given to containers: XID errors, loss and return, and what the driver asks for.
//!
//! ```text
//!                      critical XID that passes                quiet for a while, and it answers
//!            ┌────────────────────────────────────▶ waiting ─────────────────────────────────────┐
//!            │         critical XID that needs a reset,         driver asks for it no more,      ▼
//!  healthy ──┼───────── or the driver asks for one ──▶ to be reset ───── or somebody said so ──▶ healthy
//!            │              it answers no more                             it answers            ▲
//!            └──────────────────────────────────────▶ lost ──────────────────────────────────────┘
//! ```
//!
//! A worse state replaces a milder one, never the other way round. What happens in a MIG device and passes concerns that
//! device alone; a reset and a loss concern the GPU with all its devices.

mod catalog;
mod policy;
mod step;
mod watch;

use std::fmt;

use cotenant_model::{GpuUuid, Nanoseconds};

pub use catalog::{XidRecovery, xid_name, xid_recovery};
pub use policy::{DISABLE_VARIABLE, ENABLE_VARIABLE, InvalidXid, XidPolicy};
pub use step::{Cause, Ends, Health, HealthChange, QUIET, Trouble};
pub use watch::{WatchError, XidWatch};

/// Something that the watch saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// When, on the host's monotonic clock.
    pub at: Nanoseconds,
    /// The GPU; a MIG device's parent.
    pub gpu: GpuUuid,
    /// What.
    pub what: Happening,
}

/// What the watch saw of a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// The driver reports an XID error.
    Xid {
        /// Its number.
        xid: u64,
        /// The MIG device, where it happened in one.
        instance: Option<InstanceIds>,
    },
    /// The driver reports a memory error; one that was not corrected comes with an XID error too.
    MemoryError {
        /// Whether ECC corrected it.
        corrected: bool,
    },
    /// MIG devices came or went, whoever did it; drivers that do not tell leave it to be found out.
    MigChanged,
    /// It answers. Told every second, so that time passes, and at once when a lost GPU is back or a new one appears.
    Answered {
        /// What the driver asks for to recover; `None` where it does not say (drivers before 570).
        recovery: Option<RecoveryAction>,
    },
    /// It does not answer any more: it fell off the bus, must be reset before it does, or the driver is gone.
    Lost {
        /// What the driver says.
        reason: String,
    },
}

/// Ids of the GPU instance and the compute instance that make a MIG device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceIds {
    /// GPU instance.
    pub gpu_instance: u32,
    /// Compute instance.
    pub compute_instance: u32,
}

/// A GPU, or one of its MIG devices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The GPU.
    pub gpu: GpuUuid,
    /// The MIG device; `None` is the GPU with all of them.
    pub instance: Option<InstanceIds>,
}

/// What the driver asks for so that a GPU recovers (`nvmlDeviceGpuRecoveryAction_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecoveryAction {
    /// Nothing: the GPU is well.
    Nothing,
    /// Reset the GPU.
    GpuReset,
    /// Reboot the node.
    NodeReboot,
    /// End what uses peer-to-peer traffic.
    DrainPeerToPeer,
    /// End what uses peer-to-peer traffic, then reset the GPU.
    DrainAndReset,
    /// A number that this program does not know.
    Other(u32),
}

impl RecoveryAction {
    /// From NVML's number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Nothing,
            1 => Self::GpuReset,
            2 => Self::NodeReboot,
            3 => Self::DrainPeerToPeer,
            4 => Self::DrainAndReset,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for RecoveryAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::GpuReset => f.write_str("a reset of the GPU"),
            Self::NodeReboot => f.write_str("a reboot of the node"),
            Self::DrainPeerToPeer => f.write_str("an end of peer-to-peer traffic"),
            Self::DrainAndReset => f.write_str("an end of peer-to-peer traffic and a reset of the GPU"),
            Self::Other(number) => write!(f, "recovery action {number}"),
        }
    }
}
