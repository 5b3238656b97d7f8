//! Workload files: the tenants that share a GPU and the load each gets.
//!
//! [`raw`] holds the file's own field names and texts; [`Workload::parse`] turns a file into the checked types here and
//! reports every problem at once, each with its line and the fix.

mod check;
pub mod raw;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::Problems;
use crate::run::Metric;
use crate::{Arm, Bytes, Kernel, Nanoseconds};

/// A checked workload file.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Name, for titles and result folders: lower-case letters, digits and `-`.
    pub name: String,
    /// What the workload is about, in a sentence.
    pub description: Option<String>,
    /// Arms to run when the command line names none.
    pub arms: Option<Vec<Arm>>,
    /// Repeats when the command line gives none.
    pub repeats: Option<u32>,
    /// Length of a measured window when the command line gives none.
    pub duration: Option<Nanoseconds>,
    /// Load before each window that is not counted.
    pub warmup: Option<Nanoseconds>,
    /// The tenants, at least one, names unique.
    pub tenants: Vec<Tenant>,
}

/// One process or model server on the GPU, with its load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// Name, unique in the workload.
    pub name: String,
    /// Class.
    pub class: Class,
    /// What it runs.
    pub engine: Engine,
    /// How requests arrive; `None` for a tenant that serves none.
    pub load: Option<Load>,
    /// Latency targets, all of which must hold.
    #[serde(default)]
    pub slo: Vec<Slo>,
    /// Device memory it may take under `mps-memory`.
    #[serde(default)]
    pub memory: Option<Bytes>,
}

/// How a tenant is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Has a latency target.
    Protected,
    /// Neither protected nor paused.
    Standard,
    /// May be paused.
    BestEffort,
}

/// What a tenant runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// A load kernel.
    Kernel(Kernel),
    /// A real model server.
    Server(Server),
}

/// A real model server and what it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// API it speaks.
    pub api: Api,
    /// Base address, such as `http://127.0.0.1:11434`.
    pub endpoint: String,
    /// Program and arguments that start it; `None` when it runs already (then no arm can change its environment).
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Environment of the command, over cotenant's own.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Longest wait for the command to be ready, model loaded.
    pub ready: Nanoseconds,
    /// Model name sent with each request.
    pub model: String,
    /// Prompt sent with each request.
    pub prompt: String,
    /// Most tokens a request generates.
    pub max_tokens: u32,
    /// Longest silence between two pieces of an answer before the request counts as failed.
    pub timeout: Nanoseconds,
    /// For Ollama: options passed through as they are (`num_ctx`, `num_batch`, `temperature`, `seed`, …).
    #[serde(default)]
    pub options: BTreeMap<String, serde_json::Value>,
}

/// The APIs of model servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// Ollama's `/api/chat`.
    OllamaChat,
    /// Ollama's `/api/generate`, the prompt raw.
    OllamaGenerate,
    /// OpenAI's `/v1/chat/completions`, as llama-server and vLLM serve it.
    OpenaiChat,
}

/// How requests arrive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Closed loop: each stream sends its next request when the answer to the last has come and `think` has passed.
    #[serde(rename_all = "camelCase")]
    Closed {
        /// Streams.
        streams: u32,
        /// Pause between an answer and the next request of the stream.
        think: Nanoseconds,
    },
    /// Open loop: requests are due at their own times, whatever the answers do; latency counts from when they were due.
    #[serde(rename_all = "camelCase")]
    Open {
        /// Spacing of arrivals.
        arrivals: Arrivals,
        /// Mean requests a second.
        requests_per_second: f64,
    },
    /// Open loop with recorded arrivals.
    #[serde(rename_all = "camelCase")]
    Trace {
        /// File the arrivals came from, as written.
        file: String,
        /// Arrivals from the start of the load, rising; repeated from the start when the load lasts longer.
        arrivals: Vec<Nanoseconds>,
    },
}

/// Spacing of open-loop arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// Exponential gaps: independent users.
    Poisson,
    /// Equal gaps.
    Constant,
}

/// A latency target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slo {
    /// The latency.
    pub metric: Metric,
    /// The percentile of it, above 0 and below 100.
    pub percentile: f64,
    /// What it may be at most.
    pub limit: Limit,
}

/// How large a latency may be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// So long.
    AtMost(Nanoseconds),
    /// So many times the same percentile when the tenant runs alone.
    Slowdown(f64),
}

impl Workload {
    /// Reads a workload file.
    ///
    /// `file` names it in problems. A trace's `file` stays unread: its `arrivals` are empty until the caller fills them.
    ///
    /// # Errors
    /// Every problem of the file at once.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        let (raw, lines) = crate::document::parse::<raw::Workload>(file, text)?;
        check::workload(raw, lines)
    }

    /// The JSON schema of workload files.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        crate::document::schema::<raw::Workload>()
    }
}

impl Tenant {
    /// Device memory the tenant's buffers take, as far as it is known before it runs: a kernel's buffers, a server's
    /// stated `memory`.
    #[must_use]
    pub fn expected_memory(&self) -> Option<Bytes> {
        match &self.engine {
            Engine::Kernel(kernel) => Some(kernel.device_bytes()),
            Engine::Server(_) => self.memory,
        }
    }

    /// Whether two tenants do the same work under the same load, so that one's solo figures are the other's too.
    #[must_use]
    pub fn same_work(&self, other: &Self) -> bool {
        matches!((&self.engine, &other.engine), (Engine::Kernel(mine), Engine::Kernel(theirs)) if mine == theirs)
            && self.load == other.load
    }
}
