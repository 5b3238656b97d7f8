//! Telling the kubelet of a resource.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cotenant_model::sharing::ResourceName;
use tokio::time::timeout;

use crate::channel::{ConnectError, connect};
use crate::wire::v1beta1 as wire;
use crate::wire::v1beta1::registration_client::RegistrationClient;

/// The version of the interface.
const VERSION: &str = "v1beta1";
const CONNECT: Duration = Duration::from_secs(5);
/// The kubelet dials back before it answers, and gives that 10 s.
const ANSWER: Duration = Duration::from_secs(15);

/// Why a kubelet does not know a resource.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegisterError {
    #[error("the kubelet cannot be reached")]
    Connect(#[source] ConnectError),
    #[error("the kubelet refuses {resource}: {}", status.message())]
    Refused { resource: ResourceName, status: tonic::Status },
    #[error("the kubelet at {socket} has not answered within {} s", ANSWER.as_secs())]
    Silent { socket: PathBuf },
}

/// What a kubelet is told of this plugin's abilities.
pub(super) const OPTIONS: wire::DevicePluginOptions =
    wire::DevicePluginOptions { pre_start_required: false, get_preferred_allocation_available: true };

/// Registers a resource that is served at the socket `endpoint`, a file name in the folder of `kubelet`.
pub(super) async fn register(kubelet: &Path, resource: ResourceName, endpoint: String) -> Result<(), RegisterError> {
    let channel = connect(kubelet, CONNECT).await.map_err(RegisterError::Connect)?;
    let request = wire::RegisterRequest {
        version: VERSION.to_owned(),
        endpoint,
        resource_name: resource.0.clone(),
        options: Some(OPTIONS),
    };
    match timeout(ANSWER, RegistrationClient::new(channel).register(request)).await {
        Ok(Ok(_empty)) => Ok(()),
        Ok(Err(status)) => Err(RegisterError::Refused { resource, status }),
        Err(_elapsed) => Err(RegisterError::Silent { socket: kubelet.to_owned() }),
    }
}
