//! Who holds which device, asked of the kubelet's pod-resources socket.
//!
//! The kubelet names each container of each pod that it has admitted and whose resources are not free again. Every question
//! opens a connection of its own, so a kubelet that was restarted in between is no matter.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cotenant_model::sharing::{DeviceId, ResourceName};
use tokio::time::timeout;

use crate::channel::{ConnectError, connect};
use crate::wire::v1 as wire;
use crate::wire::v1::pod_resources_lister_client::PodResourcesListerClient;

/// The kubelet's socket.
pub const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";

/// Time for an answer, connection included: the kubelet answers from memory, a kubelet that hangs may not hang others.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of an answer: a thousand containers with a few hundred ids and CPUs each take less.
const LARGEST: usize = 16 << 20;

/// Devices that a container holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Namespace of the pod.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// Of which resource they are.
    pub resource: ResourceName,
    /// The devices.
    pub devices: Vec<DeviceId>,
}

/// Why it is not known who holds what.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The socket cannot be reached.
    #[error("the kubelet does not say who holds which device")]
    Connect(#[source] ConnectError),
    /// The kubelet answers with an error.
    #[error("the kubelet does not say who holds which device: {}", status.message())]
    Refused {
        /// Its answer.
        status: Box<tonic::Status>,
    },
    /// The kubelet does not answer.
    #[error("the kubelet at {socket} has not said within {} s who holds which device", ANSWER.as_secs())]
    Silent {
        /// The socket.
        socket: PathBuf,
    },
}

/// Lists the devices that containers hold, in the kubelet's order; those of the plugins of others are among them.
///
/// # Errors
/// When the socket is not there, or no answer comes within 5 s.
pub async fn list(socket: &Path) -> Result<Vec<Held>, ListError> {
    match timeout(ANSWER, ask(socket)).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(ListError::Silent { socket: socket.to_owned() }),
    }
}

async fn ask(socket: &Path) -> Result<Vec<Held>, ListError> {
    let channel = connect(socket, ANSWER).await.map_err(ListError::Connect)?;
    let mut client = PodResourcesListerClient::new(channel).max_decoding_message_size(LARGEST);
    let answer = client.list(wire::ListPodResourcesRequest {}).await;
    let pods = answer.map_err(|status| ListError::Refused { status: Box::new(status) })?.into_inner().pods;
    Ok(pods.into_iter().flat_map(held).collect())
}

/// What the containers of a pod hold. A kubelet names the devices of a resource once for each NUMA node.
fn held(pod: wire::PodResources) -> Vec<Held> {
    let mut found: Vec<Held> = Vec::new();
    for container in pod.containers {
        let first = found.len();
        for wire::ContainerDevices { resource_name, device_ids, topology: _ } in container.devices {
            let ids = device_ids.into_iter().map(DeviceId);
            match found.iter_mut().skip(first).find(|held| held.resource.0 == resource_name) {
                Some(held) => held.devices.extend(ids),
                None => found.push(Held {
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    container: container.name.clone(),
                    resource: ResourceName(resource_name),
                    devices: ids.collect(),
                }),
            }
        }
    }
    found
}
