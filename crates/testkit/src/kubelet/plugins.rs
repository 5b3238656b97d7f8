//! Plugins that have registered: connections to them, and the lists they send.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::state::{Device, State};
use super::wire::v1beta1 as wire;
use super::wire::v1beta1::device_plugin_client::DevicePluginClient;

/// How long a plugin may take to be reached.
const DIAL: Duration = Duration::from_secs(10);

/// A plugin that is registered for a resource.
#[derive(Debug, Clone)]
pub(super) struct Plugin {
    pub(super) client: DevicePluginClient<Channel>,
    pub(super) endpoint: String,
    pub(super) can_choose: bool,
    /// Cancelled when the kubelet hangs up.
    pub(super) watching: CancellationToken,
}

/// Dials a plugin and watches it from then on.
pub(super) async fn connect(
    state: &Arc<State>,
    resource: &str,
    socket: &Path,
    endpoint: &str,
) -> Result<wire::DevicePluginOptions, Status> {
    let mut client = DevicePluginClient::new(dial(socket).await?);
    let options = client.get_device_plugin_options(wire::Empty {}).await?.into_inner();
    let plugin = Plugin {
        client: client.clone(),
        endpoint: endpoint.to_owned(),
        can_choose: options.get_preferred_allocation_available,
        watching: CancellationToken::new(),
    };
    let watching = plugin.watching.clone();
    let ignores = state.change(|inner| {
        inner.plugins.insert(resource.to_owned(), plugin);
        inner.behaviour.ignore_devices
    });
    if !ignores {
        let (state, resource) = (Arc::clone(state), resource.to_owned());
        // It ends with the kubelet's runtime.
        tokio::runtime::Handle::current().spawn(async move {
            watching.run_until_cancelled(watch(&state, &resource, client)).await;
            disconnect(&state, &resource);
        });
    }
    Ok(options)
}

async fn dial(socket: &Path) -> Result<Channel, Status> {
    let failed = |error: tonic::transport::Error| Status::unknown(format!("cannot dial {}: {error}", socket.display()));
    let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).map_err(failed)?;
    let origin = "http://localhost".parse().map_err(|_invalid| Status::internal("the name of the host is valid"))?;
    endpoint.origin(origin).connect_timeout(DIAL).connect().await.map_err(failed)
}

/// Reads lists until the stream ends.
async fn watch(state: &State, resource: &str, mut client: DevicePluginClient<Channel>) {
    let Ok(stream) = client.list_and_watch(wire::Empty {}).await else { return };
    let mut stream: Streaming<wire::ListAndWatchResponse> = stream.into_inner();
    while let Ok(Some(list)) = stream.message().await {
        let rest = state.change(|inner| {
            *inner.lists.entry(resource.to_owned()).or_default() += 1;
            inner.devices.insert(resource.to_owned(), list.devices.into_iter().map(Device::from).collect());
            inner.behaviour.read_after
        });
        tokio::time::sleep(rest).await;
    }
}

/// Hangs up on whoever is registered now, which need not be who was watched, and holds its devices for unhealthy.
fn disconnect(state: &State, resource: &str) {
    state.change(|inner| {
        if let Some(plugin) = inner.plugins.remove(resource) {
            plugin.watching.cancel();
        }
        for device in inner.devices.get_mut(resource).into_iter().flatten() {
            device.healthy = false;
        }
    });
}

impl From<wire::Device> for Device {
    fn from(wire::Device { id, health, topology }: wire::Device) -> Self {
        let numa_nodes = topology.map(|topology| topology.nodes.iter().map(|node| node.id).collect());
        Self { id, healthy: health == "Healthy", numa_nodes: numa_nodes.unwrap_or_default() }
    }
}
