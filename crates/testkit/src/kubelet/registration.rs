//! The service at which plugins register.

use std::path::PathBuf;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::plugins;
use super::state::{Registered, State};
use super::wire::v1beta1 as wire;
use super::wire::v1beta1::registration_server;

const VERSION: &str = "v1beta1";

pub(super) struct Registration {
    pub(super) state: Arc<State>,
    /// The folder of the plugins' sockets.
    pub(super) directory: PathBuf,
}

#[tonic::async_trait]
impl registration_server::Registration for Registration {
    async fn register(&self, request: Request<wire::RegisterRequest>) -> Result<Response<wire::Empty>, Status> {
        let request = request.into_inner();
        let behaviour = self.state.read(|inner| inner.behaviour.clone());
        tokio::time::sleep(behaviour.answer_after).await;
        if let Some(words) = behaviour.refuse {
            return Err(Status::unknown(words));
        }
        if request.version != VERSION {
            return Err(Status::unknown(format!("version {} is not supported", request.version)));
        }
        if !is_extended_resource(&request.resource_name) {
            return Err(Status::unknown(format!("{} is not the name of an extended resource", request.resource_name)));
        }
        let can_choose = request.options.is_some_and(|options| options.get_preferred_allocation_available);
        let socket = self.directory.join(&request.endpoint);
        let options = plugins::connect(&self.state, &request.resource_name, &socket, &request.endpoint).await?;
        let registered = Registered {
            resource: request.resource_name,
            endpoint: request.endpoint,
            version: request.version,
            can_choose: (can_choose, options.get_preferred_allocation_available),
        };
        self.state.change(|inner| inner.registrations.push(registered));
        Ok(Response::new(wire::Empty {}))
    }
}

/// `domain/name`, where the domain is not Kubernetes' own.
fn is_extended_resource(name: &str) -> bool {
    let is_word = |text: &str| {
        let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        is_edge(text.chars().next())
            && is_edge(text.chars().next_back())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    name.split_once('/').is_some_and(|(domain, rest)| {
        is_word(domain) && is_word(rest) && rest.len() <= 63 && !domain.ends_with("kubernetes.io")
    })
}
