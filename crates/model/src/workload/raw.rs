//! Workload files as they are written: the file's own names, quantities still as text.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// A workload: tenants that share one GPU, and the load each gets.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    /// `cotenant.dev/v1alpha1`.
    pub api_version: String,
    /// `Workload`.
    pub kind: String,
    /// Name and description.
    pub metadata: Metadata,
    /// Arms to run when the command line names none: `solo`, `time-slicing`, `mps`, `mps:50`, `mps:25/75`, `mps-memory`,
    /// `mig:PROFILE`. `solo` is always run.
    pub arms: Option<Vec<String>>,
    /// Times each arm runs, interleaved; 3 and more.
    pub repeats: Option<u32>,
    /// Length of each measured window, such as `5s`.
    pub duration: Option<String>,
    /// Load before each window that is not counted, such as `1s`.
    pub warmup: Option<String>,
    /// The tenants.
    pub tenants: Vec<Tenant>,
}

/// Name and description.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Lower-case letters, digits and `-`; names result folders.
    pub name: String,
    /// What the workload is about, in a sentence.
    pub description: Option<String>,
}

/// One tenant: exactly one of `kernel` and `server`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tenant {
    /// Unique in the workload.
    pub name: String,
    /// So many tenants like this one, named `NAME-1`, `NAME-2`, …
    pub count: Option<u32>,
    /// `protected` (has a latency target), `standard` (the default) or `best-effort` (may be paused).
    pub class: Option<Class>,
    /// A load kernel.
    pub kernel: Option<Kernel>,
    /// A real model server.
    pub server: Option<Server>,
    /// How requests arrive; a closed loop of one stream when left out.
    pub load: Option<Load>,
    /// Latency targets, all of which must hold.
    #[serde(default)]
    pub slo: Vec<Slo>,
    /// Device memory it may take under `mps-memory`, such as `8GiB`.
    pub memory: Option<String>,
}

/// How a tenant is treated.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "documented where the checked type is")]
pub enum Class {
    Protected,
    Standard,
    BestEffort,
}

/// A load kernel; which sizes apply depends on the kind.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kernel {
    /// Shape of the work.
    pub kind: KernelKind,
    /// decode: layers of the chain (24).
    pub layers: Option<u32>,
    /// decode: width of the residual stream, a multiple of 128 (2048).
    pub width: Option<u32>,
    /// decode: width of the feed-forward part, a multiple of 128 (5632); or give `weights`.
    pub hidden: Option<u32>,
    /// decode: size of all weights, such as `2GiB`; sets `hidden`.
    pub weights: Option<String>,
    /// decode: sequences decoded together, 1 to 8 (1).
    pub batch: Option<u32>,
    /// decode: tokens a request generates (128).
    pub tokens: Option<u32>,
    /// prefill, embed: rows and columns of each matrix, a multiple of 128 (8192 and 1024). bandwidth, memory: a size such
    /// as `1GiB`.
    pub size: Option<Size>,
    /// prefill, embed: products a request (1 and 16).
    pub products: Option<u32>,
    /// launch-bound: launches a request (500).
    pub launches: Option<u32>,
}

/// A number of rows, or a size with its unit.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Size {
    /// Rows and columns.
    Rows(u32),
    /// A size with its unit.
    Bytes(String),
}

/// Shapes of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "documented where the checked type is")]
pub enum KernelKind {
    Decode,
    Prefill,
    Embed,
    LaunchBound,
    Bandwidth,
    Memory,
    Fault,
}

/// A real model server: one that runs already at `endpoint`, or one that `command` starts.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    /// API it speaks.
    pub engine: ServerEngine,
    /// ollama: `chat` (the default) for `/api/chat`, `generate` for `/api/generate` with the prompt raw.
    pub api: Option<OllamaApi>,
    /// Base address, such as `http://127.0.0.1:11434`.
    pub endpoint: String,
    /// Program and arguments that start it on this machine. `${NAME}` in it and in `environment` is replaced by the
    /// environment variable, `${NAME:-text}` by the text where it is not set.
    pub command: Option<Vec<String>>,
    /// Environment of the command, over cotenant's own.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Longest wait for the command to be ready, model loaded (`120s`).
    pub ready: Option<String>,
    /// Model name sent with each request.
    pub model: String,
    /// Prompt sent with each request (the beginning of a story, which a model continues up to `maxTokens`).
    pub prompt: Option<String>,
    /// Most tokens a request generates (128).
    pub max_tokens: Option<u32>,
    /// Longest silence between two pieces of an answer (`30s`).
    pub timeout: Option<String>,
    /// ollama: options passed through (`num_ctx`, `num_batch`, `temperature`, `seed`, …).
    #[serde(default)]
    pub options: BTreeMap<String, serde_json::Value>,
}

/// Kinds of model server.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are those of the servers")]
pub enum ServerEngine {
    Ollama,
    Openai,
}

/// Ollama's two ways to ask.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are those of the paths")]
pub enum OllamaApi {
    Chat,
    Generate,
}

/// How requests arrive: exactly one of `closed`, `open` and `trace`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Load {
    /// Each stream sends its next request after the answer to the last.
    pub closed: Option<Closed>,
    /// Requests are due at their own times, whatever the answers do.
    pub open: Option<Open>,
    /// Requests are due at recorded times.
    pub trace: Option<Trace>,
}

/// A closed loop.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Closed {
    /// Streams (1).
    pub streams: Option<u32>,
    /// Pause between an answer and the stream's next request, such as `2ms`.
    pub think: Option<String>,
}

/// An open loop.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Open {
    /// `poisson` (the default) or `constant`.
    pub arrivals: Option<Arrivals>,
    /// Mean requests a second.
    pub requests_per_second: f64,
}

/// Spacing of arrivals.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "documented where the checked type is")]
pub enum Arrivals {
    Poisson,
    Constant,
}

/// Recorded arrivals.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trace {
    /// Text file beside the workload: one arrival a line, in seconds from the start, rising; `#` begins a comment.
    pub file: String,
}

/// A latency target: exactly one of `atMost` and `slowdownAtMost`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Slo {
    /// Which latency.
    pub metric: SloMetric,
    /// Percentile of it, above 0 and below 100 (99).
    pub percentile: Option<f64>,
    /// Limit as a duration, such as `250ms`.
    pub at_most: Option<String>,
    /// Limit as a multiple of the same percentile when the tenant runs alone, such as `1.2`.
    pub slowdown_at_most: Option<f64>,
}

/// Latencies that can have a target.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "documented where the checked type is")]
pub enum SloMetric {
    Ttft,
    Tpot,
    Itl,
    E2e,
}
