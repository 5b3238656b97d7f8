//! What the comparison and a tenant's process say to each other: one JSON object a line.
//!
//! The comparison writes a [`TenantPlan`], then [`Command`]s, to the tenant's standard input; the tenant writes [`Event`]s
//! to its standard output and its last words to standard error. The end of standard input means stop.
//!
//! ```text
//! spawn ─ TenantPlan ─▶ preparing ─ Ready ─▶ idle ─ Run ─▶ loading ─ Measured ─▶ idle ─ Stop or end of input ─▶ exit 0
//!                           └─ Failed ─▶ exit 1             └─ Failed ─▶ exit 1
//! ```

use serde::{Deserialize, Serialize};

use cotenant_model::Nanoseconds;
use cotenant_model::kernel::WorkUnit;
use cotenant_model::run::{Process, Window};
use cotenant_model::workload::Tenant;

/// What a tenant's process is to be; the first line it reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantPlan {
    /// The tenant.
    pub tenant: Tenant,
    /// Seed of its weights, inputs and prompts.
    pub seed: u64,
    /// When its process was spawned, on the monotonic clock.
    pub spawned: Nanoseconds,
    /// File that takes the output of its server, where it starts one.
    pub server_log: Option<std::path::PathBuf>,
}

/// An order to a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// Load the GPU and measure.
    Run(WindowPlan),
    /// Leave with exit status 0, the GPU's memory freed and the server stopped.
    Stop,
}

/// When to load and when to measure, on the host's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowPlan {
    /// Load begins.
    pub warm: Nanoseconds,
    /// The measured window opens.
    pub open: Nanoseconds,
    /// The measured window closes; nothing is begun after it.
    pub close: Nanoseconds,
    /// Seed of this window's arrivals.
    pub seed: u64,
    /// Whether to keep the times of single tokens.
    pub trace: bool,
}

/// What a tenant has to say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// It has its memory, has run once with a checked result, or its server answers with the model loaded.
    Ready(Ready),
    /// A window is over.
    Measured(Box<Window>),
    /// It cannot go on; it leaves with exit status 1.
    Failed {
        /// Why, causes joined with `: `.
        message: String,
    },
}

/// A tenant that is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// Its process so far.
    pub process: Process,
    /// What its throughput counts.
    pub unit: WorkUnit,
    /// For a kernel whose result was checked: ‖out − reference‖ ÷ ‖reference‖, with fresh random input.
    pub relative_error: Option<f64>,
    /// What a reader of the run must know, for its notes: a model that lies partly on the CPU, say.
    #[serde(default)]
    pub notes: Vec<String>,
}
