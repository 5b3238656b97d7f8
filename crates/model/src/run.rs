//! The record of a comparison, `run.json`: everything measured, from which every table, plot and prediction is derived.
//!
//! A record is written once and never changed. Readers refuse a `schema` above [`Run::SCHEMA`]; a field is only ever added
//! with a default.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gpu::{Driver, Gpu, GpuProcess, GpuSample};
use crate::kernel::WorkUnit;
use crate::workload::Tenant;
use crate::{Arm, Bytes, Histogram, MicroUsd, Nanoseconds, Percent};

/// One comparison, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Version of this layout, [`Run::SCHEMA`] when written by this program.
    pub schema: u32,
    /// Name of the workload.
    pub name: String,
    /// What the workload is about, in a sentence, from its file.
    #[serde(default)]
    pub description: Option<String>,
    /// Version and commit of the program that measured.
    pub program: Program,
    /// When the run began, RFC 3339 in UTC.
    pub started: String,
    /// Where it ran.
    pub host: Host,
    /// How it was measured.
    pub settings: Settings,
    /// The tenants in file order, every default filled in.
    pub tenants: Vec<Tenant>,
    /// Every arm in the order asked for, also those that failed or could not run.
    pub arms: Vec<ArmRecord>,
    /// What the tuner tried, when it ran.
    #[serde(default)]
    pub tuning: Option<Tuning>,
    /// What a reader must know: foreign processes seen, gaps in telemetry, clocks that moved.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The program that measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Program {
    /// Its version.
    pub version: String,
    /// Its commit, with `-dirty` after it when the tree was changed; `None` where it was built without git.
    pub commit: Option<String>,
}

/// Where a run ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// The GPU that was shared.
    pub gpu: Gpu,
    /// Its streaming multiprocessors, as CUDA counts them; `None` when no kernel tenant ran.
    #[serde(default)]
    pub multiprocessors: Option<u32>,
    /// The driver.
    pub driver: Driver,
    /// Logical processors of the host.
    pub processors: u32,
    /// Kernel release of the host.
    pub kernel: Option<String>,
}

/// How a run was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Times each arm ran, in interleaved order.
    pub repeats: u32,
    /// Length of each measured window.
    pub duration: Nanoseconds,
    /// Load before each window that is not counted.
    pub warmup: Nanoseconds,
    /// Seed of arrivals and prompts.
    pub seed: u64,
    /// Time between telemetry readings.
    pub telemetry_interval: Nanoseconds,
    /// What the GPU costs an hour; `None` when neither given nor bundled.
    pub price: Option<Price>,
}

/// A GPU's price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// Micro-dollars an hour for the whole GPU.
    pub per_hour: MicroUsd,
    /// Where the figure comes from.
    pub source: String,
}

/// All passes of one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArmRecord {
    /// The arm.
    pub arm: Arm,
    /// Why the arm could not run at all on this GPU; then it has no passes.
    #[serde(default)]
    pub refused: Option<String>,
    /// Its passes in the order they ran. A pass of `solo` has one tenant; of any other arm, all of them.
    pub passes: Vec<Pass>,
}

/// One arm started, measured and stopped once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pass {
    /// Repeat it belongs to, from 0.
    pub repeat: u32,
    /// Start of the measured window, counted from the start of the run.
    pub start: Nanoseconds,
    /// Each tenant's window in file order.
    pub windows: Vec<Window>,
    /// What the GPU did during the measured window.
    pub telemetry: Telemetry,
}

/// What one tenant did in one measured window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// The tenant's name.
    pub tenant: String,
    /// Why the tenant's figures do not count: its last words. `None` when it ran to the end.
    #[serde(default)]
    pub failure: Option<String>,
    /// Length of the window as the tenant measured it.
    pub length: Nanoseconds,
    /// Work done inside the window.
    pub work: Work,
    /// Histograms of every request (of every token for [`Metric::Itl`]) that ended inside the window.
    #[serde(default)]
    pub histograms: BTreeMap<Metric, Histogram>,
    /// Ages, at the window's close, of open-loop requests that were due before it and had not ended: lower bounds of
    /// their E2E, without which a queue that grows would look fast. Empty in a closed loop.
    #[serde(default)]
    pub unfinished: Histogram,
    /// Single requests, for figures that join several metrics.
    #[serde(default)]
    pub requests: RequestSamples,
    /// Times of the first tokens or steps of the window, for timelines; only in the first repeat.
    #[serde(default)]
    pub trace: Option<Trace>,
    /// The tenant's process.
    #[serde(default)]
    pub process: Option<Process>,
}

/// Counts of what a tenant did in a window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// Unit of `units`.
    pub unit: Option<WorkUnit>,
    /// Units completed inside the window, also of requests that ended after it; a step that spans an edge of the window
    /// counts by the fraction inside.
    pub units: f64,
    /// Requests that ended well inside the window.
    pub completed: u64,
    /// Requests that ended in an error inside the window.
    pub failed: u64,
    /// Messages of failed requests with how often each came, at most 8 of them.
    #[serde(default)]
    pub errors: BTreeMap<String, u64>,
}

/// A latency that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Time to first token: first token − intended start.
    Ttft,
    /// Time per output token of a request: (E2E − TTFT) / (tokens − 1), for requests of two tokens and more.
    Tpot,
    /// Gap between one token and the next.
    Itl,
    /// End to end: last token − intended start.
    E2e,
    /// How late the load generator itself began a request that was free to begin.
    Lag,
}

impl Metric {
    /// The short name for tables: `TTFT`, `TPOT`, `ITL`, `E2E`, `lag`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ttft => "TTFT",
            Self::Tpot => "TPOT",
            Self::Itl => "ITL",
            Self::E2e => "E2E",
            Self::Lag => "lag",
        }
    }
}

/// Requests that ended well inside a window, in columns of equal length; microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestSamples {
    /// Every how many requests one was kept; 0 and 1 mean every one.
    pub stride: u64,
    /// Intended start, from the start of the window; negative when it was intended before.
    pub start: Vec<i64>,
    /// TTFT.
    pub ttft: Vec<u64>,
    /// TPOT; 0 for a request of one token.
    pub tpot: Vec<u64>,
    /// E2E.
    pub e2e: Vec<u64>,
    /// The request's own 99th percentile of ITL (its largest where it has fewer than 100 gaps); 0 for one token.
    pub itl: Vec<u64>,
}

/// When tokens (or steps of a kernel without tokens) were done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Microseconds from the start of the window to the first event.
    pub first: u64,
    /// Microseconds from each event to the next.
    pub gaps: Vec<u64>,
    /// Positions (0 = the first event) at which a request ended.
    pub ends: Vec<u32>,
}

impl Trace {
    /// Times of the events in microseconds from the start of the window.
    pub fn times(&self) -> impl Iterator<Item = u64> + '_ {
        std::iter::once(0).chain(self.gaps.iter().copied()).scan(self.first, |time, gap| {
            *time += gap;
            Some(*time)
        })
    }
}

/// A tenant's process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// From spawning it to its first completed step or its server's readiness.
    pub startup: Nanoseconds,
    /// Resident host memory of the tenant's process (of its server, where it has one) at the end of the window.
    pub resident: Bytes,
    /// Of that, what is the program's own: anonymous and private memory not mapped from the driver.
    #[serde(default)]
    pub own: Option<Bytes>,
    /// Device memory, as the driver counts it.
    pub device_memory: Option<Bytes>,
    /// Streaming multiprocessors the process may use, as CUDA tells it; smaller under an MPS percentage.
    #[serde(default)]
    pub multiprocessors: Option<u32>,
}

/// What the GPU did in a window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Telemetry {
    /// Readings with their time from the start of the window.
    pub samples: Vec<(Nanoseconds, GpuSample)>,
    /// Energy over the window in millijoules: the counter's difference between the readings nearest to its edges, scaled to
    /// the window's length.
    pub energy_millijoules: Option<u64>,
    /// Processes on the GPU, read once in the middle of the window.
    #[serde(default)]
    pub processes: Vec<GpuProcess>,
    /// Longest time between two readings when it was more than twice the interval: the sampler was held up.
    #[serde(default)]
    pub gap: Option<Nanoseconds>,
}

/// What the tuner tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tuning {
    /// Every point in the order measured.
    pub points: Vec<TuningPoint>,
    /// Position in `points` of the one chosen; `None` when no point kept every SLO.
    pub chosen: Option<usize>,
    /// Positions in `points` of those that no other point beats in both aggregate and worst SLO ratio.
    pub front: Vec<usize>,
    /// GPU time the search took.
    pub spent: Nanoseconds,
    /// Points of the exhaustive grid, when it was measured too.
    #[serde(default)]
    pub grid: Vec<TuningPoint>,
}

/// One setting the tuner measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TuningPoint {
    /// Percentage of each tenant in file order.
    pub percent: Vec<Percent>,
    /// Sum of every tenant's throughput ÷ its solo throughput.
    pub aggregate: f64,
    /// Worst ratio of a measured SLO percentile to its limit; above 1 an SLO is broken. 0 when no tenant has an SLO.
    pub worst_slo: f64,
    /// Each tenant's throughput ÷ its solo throughput.
    pub progress: Vec<f64>,
}

impl Run {
    /// The layout this program writes, and the newest it reads.
    pub const SCHEMA: u32 = 1;

    /// The record of an arm.
    #[must_use]
    pub fn arm(&self, arm: &Arm) -> Option<&ArmRecord> {
        self.arms.iter().find(|record| record.arm == *arm)
    }
}
