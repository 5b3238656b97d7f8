//! What the agent shows of itself: one picture, made anew when something changes, from which metrics, probes and the status
//! are all read.

use std::collections::BTreeMap;

use cotenant_model::sharing::{DeviceId, ResourceName, Share, Strategy};
use cotenant_model::{Bytes, GpuUuid};
use serde::{Deserialize, Serialize};

/// The picture.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Version of this program.
    pub version: String,
    /// Name of the node.
    pub node: String,
    /// Version of the driver; `None` while there is none.
    pub driver: Option<String>,
    /// What keeps the node from serving all that it advertises; ready where this is empty.
    pub unready: Vec<String>,
    /// The configuration in force.
    pub configuration: Configuration,
    /// Whether the API server answers; `None` before it was tried, and where labels and events are off.
    pub api: Option<bool>,
    /// Whether the keeper answers; `None` where no GPU needs it.
    pub keeper: Option<bool>,
    /// Resources in order of name.
    pub resources: Vec<ResourceView>,
    /// GPUs in NVML's order.
    pub gpus: Vec<GpuView>,
    /// Containers that hold devices, in order of GPU, namespace, pod and container.
    pub tenants: Vec<TenantView>,
}

/// The configuration in force, and the one that waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// Its name among several; `None` where a single file was given, or none.
    pub name: Option<String>,
    /// Why the last one that was read is not in force: it has problems. The one before it stays.
    pub refused: Option<String>,
    /// Whom an edit waits for, each as people would say it; empty where none waits.
    pub waits_for: Vec<String>,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceView {
    /// Name towards the kubelet.
    pub name: ResourceName,
    /// Devices.
    pub devices: u32,
    /// Those of them that are healthy.
    pub healthy: u32,
    /// Those of them that a container holds.
    pub allocated: u32,
    /// Why the kubelet does not have it; `None` where it is registered.
    pub unregistered: Option<String>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuView {
    /// UUID.
    pub uuid: GpuUuid,
    /// Index in NVML's order.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// How it is shared.
    pub strategy: Strategy,
    /// Where it stands, in a word.
    pub phase: String,
    /// Why its devices are unhealthy; `None` where they are healthy.
    pub unhealthy: Option<String>,
    /// Device memory.
    pub memory: Bytes,
    /// Device memory in use.
    pub memory_used: Option<Bytes>,
    /// Failures since the agent started, by kind (`mps`, `daemon`, `xid`, `lost`).
    pub faults: BTreeMap<String, u64>,
    /// Recoveries since the agent started, and the seconds from the failure to healthy, summed.
    pub recoveries: u64,
    /// See `recoveries`.
    pub recovery_seconds: f64,
    /// Whether a control daemon serves it; `None` where it needs none.
    pub daemon: Option<bool>,
    /// Clients of its MPS server, as last asked.
    pub clients: Option<u32>,
}

/// A container that holds devices of one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantView {
    /// The GPU.
    pub gpu: GpuUuid,
    /// Index of the GPU.
    pub index: u32,
    /// How it is shared.
    pub strategy: Strategy,
    /// Namespace of its pod.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its name.
    pub container: String,
    /// The resource that it asked for.
    pub resource: ResourceName,
    /// Its size class.
    pub class: Option<String>,
    /// Its devices.
    pub devices: Vec<DeviceId>,
    /// What they may use together.
    pub share: Option<Share>,
    /// Device memory of its processes; `None` where the driver does not say.
    pub memory: Option<Bytes>,
    /// Percent of time that its kernels ran; `None` under MPS, where the driver knows the server's only.
    pub sm_utilization: Option<u32>,
    /// Its processes on the GPU.
    pub processes: u32,
    /// What is wrong with it, a sentence each.
    pub warnings: Vec<String>,
}

impl View {
    /// Whether everything that is advertised is served.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.unready.is_empty()
    }
}
