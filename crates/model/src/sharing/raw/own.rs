//! The key `cotenant`, and mig-parted's file: unknown keys are problems here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Devices;
use crate::document::Items;
use crate::sharing::Strategy;

/// What cotenant adds to the file.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cotenant {
    /// Rules for single GPUs; the first that selects a GPU holds for it, the rest follow `sharing`.
    pub gpus: Option<Items<GpuRule>>,
    /// Sizes of MPS shares by name: `small: {memory: 8GiB, percent: 15}`.
    pub classes: Option<BTreeMap<String, SizeClass>>,
    /// How GPUs are shared through MPS.
    pub mps: Option<Mps>,
    /// What is done when a client breaks an MPS server.
    pub faults: Option<Faults>,
    /// Whether an edit may evict the pods that it disturbs: `deny` (the default: it waits until they are gone) or `allow`.
    pub drain: Option<Drain>,
    /// MIG layouts by name, as mig-parted's files have them; the node label `nvidia.com/mig.config` selects one.
    #[serde(rename = "mig-configs")]
    pub mig_configs: Option<BTreeMap<String, Items<MigConfig>>>,
}

/// How some GPUs of the node are shared.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GpuRule {
    /// Which GPUs: `all` (the default), how many, or a list of indices, UUIDs and parts of product names (`[0, H200]`).
    pub devices: Option<Devices>,
    /// `exclusive`, `time-slicing`, `mps` or `mig`.
    pub strategy: Strategy,
    /// Name offered: `nvidia.com/gpu` for exclusive GPUs, `nvidia.com/gpu.shared` for shares, unless this says otherwise.
    pub resource: Option<String>,
    /// Equal shares of each GPU (of each MIG device under `mig`).
    pub replicas: Option<u32>,
    /// mps: how many shares of each class a GPU has: `{small: 4, large: 1}`.
    pub classes: Option<BTreeMap<String, u32>>,
    /// mig: how many devices of each profile a GPU has: `{"1g.18gb": 7}`; left out, the devices that are there.
    pub layout: Option<BTreeMap<String, u32>>,
    /// Refuse a container that asks for more than one share (`false` for time slicing, `true` for MPS).
    pub fail_requests_greater_than_one: Option<bool>,
}

/// A size of MPS share.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SizeClass {
    /// Device memory, such as `8GiB`.
    pub memory: String,
    /// Percentage of the streaming multiprocessors, 1 to 100.
    pub percent: u32,
    /// Name offered (`nvidia.com/gpu.CLASS`).
    pub resource: Option<String>,
}

/// How GPUs are shared through MPS.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mps {
    /// How often the streaming multiprocessors are handed out, 1 and more (1): with 2, each of 4 shares may use half of
    /// them. Memory is never oversubscribed.
    pub oversubscription: Option<f64>,
    /// Memory of each GPU that no share gets, such as `1GiB`: the driver's own and the MPS server's.
    pub reserve: Option<String>,
    /// One server for clients of every user (`false`); they are then not isolated from each other by user.
    pub multi_user: Option<bool>,
    /// `exclusive-process` (the default: a process without MPS cannot use the GPU) or `keep`.
    pub compute_mode: Option<ComputeMode>,
    /// Protocol of the control daemon: `auto` (the default), `2` or `3` (driver 615 and newer).
    pub protocol: Option<Protocol>,
    /// `mount` (the default: the daemon's shared memory stands at the container's `/dev/shm`) or `none`.
    pub shared_memory: Option<SharedMemory>,
}

/// Whether the compute mode is set.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "documented where it is used")]
pub enum ComputeMode {
    ExclusiveProcess,
    Keep,
}

/// A protocol version.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Protocol {
    /// 2 or 3.
    Version(u32),
    /// `auto`, `2` or `3`.
    Word(String),
}

/// What stands at the container's `/dev/shm`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "documented where it is used")]
pub enum SharedMemory {
    Mount,
    None,
}

/// What is done when a client breaks an MPS server.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Faults {
    /// Time that affected containers have to end by themselves, such as `10s` (the default).
    pub grace: Option<String>,
    /// When a repeat offender is kept off shared GPUs; never when left out.
    pub quarantine: Option<Quarantine>,
}

/// When a repeat offender is kept off shared GPUs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quarantine {
    /// Faults after which it is (3).
    pub after: Option<u32>,
    /// Time in which they count, such as `1h` (the default).
    pub within: Option<String>,
    /// For how long, such as `1h` (the default).
    pub lasts: Option<String>,
    /// `report` (the default: an Event says so) or `evict`.
    pub action: Option<QuarantineAction>,
}

/// What is done about a repeat offender.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "documented where the checked type is")]
pub enum QuarantineAction {
    Report,
    Evict,
}

/// Whether an edit may evict pods.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "documented where the checked type is")]
pub enum Drain {
    Deny,
    Allow,
}

/// A file of mig-parted.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MigFile {
    /// `v1`.
    pub version: String,
    /// MIG layouts by name.
    pub mig_configs: BTreeMap<String, Items<MigConfig>>,
}

/// The layout of some GPUs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MigConfig {
    /// PCI device ids of the GPUs that it is for, one or a list: `0x233510DE`; every GPU when left out.
    pub device_filter: Option<DeviceFilter>,
    /// `all`, or a list of GPU indices.
    pub devices: MigDevices,
    /// Whether MIG mode is on.
    pub mig_enabled: bool,
    /// How many devices of each profile a GPU has: `{"1g.18gb": 7}`.
    pub mig_devices: Option<BTreeMap<String, u32>>,
}

/// One PCI device id or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DeviceFilter {
    /// One.
    One(String),
    /// Any of these.
    Several(Vec<String>),
}

/// Which GPUs have a MIG layout.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MigDevices {
    /// `all`.
    Word(String),
    /// These indices.
    List(Vec<u32>),
}
