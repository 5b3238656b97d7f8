//! What a device plugin answers the kubelet with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cotenant_model::sharing::DeviceId;

use crate::wire::v1beta1 as wire;

/// What a container needs for the devices that it was given.
///
/// The kubelet keeps the answer and does not ask again, however often the container restarts: what it names must stay
/// where it is for as long as the pod lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Environment of its processes; what the pod sets itself wins.
    pub environment: BTreeMap<String, String>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Device files.
    pub device_nodes: Vec<DeviceNode>,
    /// Annotations for the container runtime.
    pub annotations: BTreeMap<String, String>,
    /// CDI devices by their qualified names, `vendor/class=name`.
    pub cdi_devices: Vec<String>,
}

/// A folder or file of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Path in the container.
    pub container: String,
    /// Path on the host.
    pub host: String,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// A device file of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Path in the container.
    pub container: String,
    /// Path on the host.
    pub host: String,
    /// Any of `r` (read), `w` (write) and `m` (make).
    pub permissions: &'static str,
}

/// Why devices are not handed out; the kubelet shows the text in the pod's status and does not try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// A choice that the kubelet lets a plugin make; it may choose otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Devices to choose from.
    pub available: Vec<DeviceId>,
    /// Devices that must be among the chosen.
    pub must_include: Vec<DeviceId>,
    /// How many to choose.
    pub size: usize,
}

/// Answers [`Allocation`] or [`Refusal`] to the ids of a container's devices. It is called on the thread that serves the
/// kubelet, so it must not block.
pub type Allocate = Arc<dyn Fn(&[DeviceId]) -> Result<Allocation, Refusal> + Send + Sync>;

/// Chooses among devices. An empty answer leaves the choice to the kubelet. It must not block, either.
pub type Prefer = Arc<dyn Fn(&Choice) -> Vec<DeviceId> + Send + Sync>;

/// Who answers the kubelet's questions about a resource.
#[derive(Clone)]
pub struct Answers {
    /// Hands out devices.
    pub allocate: Allocate,
    /// Chooses devices.
    pub prefer: Prefer,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

impl From<Allocation> for wire::ContainerAllocateResponse {
    fn from(allocation: Allocation) -> Self {
        let Allocation { environment, mounts, device_nodes, annotations, cdi_devices } = allocation;
        Self {
            environment: environment.into_iter().collect(),
            mounts: mounts.into_iter().map(wire::Mount::from).collect(),
            devices: device_nodes.into_iter().map(wire::DeviceSpec::from).collect(),
            annotations: annotations.into_iter().collect(),
            cdi_devices: cdi_devices.into_iter().map(|name| wire::CdiDevice { name }).collect(),
        }
    }
}

impl From<Mount> for wire::Mount {
    fn from(Mount { container, host, read_only }: Mount) -> Self {
        Self { container_path: container, host_path: host, read_only }
    }
}

impl From<DeviceNode> for wire::DeviceSpec {
    fn from(DeviceNode { container, host, permissions }: DeviceNode) -> Self {
        Self { container_path: container, host_path: host, permissions: permissions.to_owned() }
    }
}

impl From<wire::ContainerPreferredAllocationRequest> for Choice {
    fn from(request: wire::ContainerPreferredAllocationRequest) -> Self {
        Self {
            available: ids(request.available),
            must_include: ids(request.must_include),
            size: usize::try_from(request.size).unwrap_or_default(),
        }
    }
}

pub(super) fn ids(texts: Vec<String>) -> Vec<DeviceId> {
    texts.into_iter().map(DeviceId).collect()
}
