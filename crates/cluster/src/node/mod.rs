//! This node as the API server has it: its labels, and what they ask of the agent.

mod keeper;
mod labels;

use std::sync::Arc;

use futures_util::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use keeper::LabelKeeper;
pub use labels::{FIELD_MANAGER, LabelChange, Labels};

use crate::uninstall::{self, NodeUninstall};
use crate::{ApiError, Backoff, Client};

/// The label that names the configuration of a node, as NVIDIA's config manager reads it.
pub const CONFIG_LABEL: &str = "nvidia.com/device-plugin.config";
/// The label that names the MIG layout of a node, as NVIDIA's MIG manager reads it.
pub const MIG_CONFIG_LABEL: &str = "nvidia.com/mig.config";
/// How long one watch lasts, in seconds. A connection that died without a word is noticed when it ends.
const WATCH_SECONDS: u32 = 120;

/// What the API server says of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its identity; another one under the same name is another node.
    pub uid: String,
    /// All its labels.
    pub labels: Labels,
    /// What uninstalling asks of its agent.
    pub uninstall: Option<NodeUninstall>,
}

impl NodeFacts {
    fn new(metadata: ObjectMeta) -> Self {
        let annotations = metadata.annotations.unwrap_or_default();
        Self {
            uid: metadata.uid.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            uninstall: annotations.get(uninstall::ANNOTATION).map(|word| NodeUninstall::from_word(word)),
        }
    }

    /// The configuration that [`CONFIG_LABEL`] names.
    #[must_use]
    pub fn config(&self) -> Option<&str> {
        self.labels.get(CONFIG_LABEL).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The MIG layout that [`MIG_CONFIG_LABEL`] names.
    #[must_use]
    pub fn mig_config(&self) -> Option<&str> {
        self.labels.get(MIG_CONFIG_LABEL).map(String::as_str).filter(|name| !name.is_empty())
    }
}

/// Keeps [`NodeFacts`] of one node true. Only the node's metadata crosses the wire.
///
/// ```text
///            list              bookmark, change
/// Listing ────────▶ Watching ◀──────────────────┐
///    ▲  ▲ error: pause  │ │ └───────────────────┘
///    │  └───────────────┘ │
///    └────────────────────┘ 410 Gone
/// ```
#[derive(Debug)]
pub struct NodeWatch {
    client: Client,
    node: String,
    facts: Arc<watch::Sender<Option<NodeFacts>>>,
}

impl NodeWatch {
    /// A watch of `node`; it begins with [`NodeWatch::run`].
    #[must_use]
    pub fn new(client: Client, node: impl Into<String>) -> Self {
        Self { client, node: node.into(), facts: Arc::new(watch::Sender::new(None)) }
    }

    /// The facts: `None` until the API server was first reached, and while no such node is registered. What was last
    /// heard stands while it is away.
    #[must_use]
    pub fn facts(&self) -> watch::Receiver<Option<NodeFacts>> {
        self.facts.subscribe()
    }

    /// Watches until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let nodes: Api<PartialObjectMeta<Node>> = Api::all(self.client.kube());
        let config = watcher::Config::default()
            .fields(&format!("metadata.name={}", self.node))
            .timeout(WATCH_SECONDS)
            .any_semantic();
        let events = watcher(nodes, config).backoff(Backoff::default());
        pin_mut!(events);
        let mut listed = None;
        while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
            match event {
                Ok(event) => {
                    self.client.reachable();
                    self.apply(event, &mut listed);
                }
                Err(error) => note(&self.client, "watch", &self.node, error),
            }
        }
    }

    fn apply(&self, event: Event<PartialObjectMeta<Node>>, listed: &mut Option<NodeFacts>) {
        match event {
            Event::Init => *listed = None,
            Event::InitApply(node) => *listed = Some(NodeFacts::new(node.metadata)),
            Event::InitDone => self.publish(listed.take()),
            Event::Apply(node) => self.publish(Some(NodeFacts::new(node.metadata))),
            Event::Delete(_) => self.publish(None),
        }
    }

    /// Heartbeats change the node and none of its facts: nobody is woken for them.
    fn publish(&self, now: Option<NodeFacts>) {
        self.facts.send_if_modified(|last| {
            let changed = *last != now;
            *last = now;
            changed
        });
    }
}

/// Counts a watch's error towards reachability. A watch that the server ended as agreed, and a history that it no longer
/// has (410), are no faults.
pub(crate) fn note(client: &Client, verb: &str, what: &str, error: watcher::Error) {
    let error = understood(format!("{verb} {what}"), error);
    if !error.shows_reachable() {
        return client.unreachable(&error);
    }
    client.reachable();
    if error.is_forbidden() {
        tracing::warn!("{error}");
    }
}

fn understood(action: String, error: watcher::Error) -> ApiError {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => ApiError::new(action, error),
        watcher::Error::WatchError(status) => ApiError::new(action, kube::Error::Api(status)),
        watcher::Error::NoResourceVersion => {
            let status = kube::core::Status::failure("a list without a version", "not an answer of the API");
            ApiError::new(action, kube::Error::Api(status.boxed()))
        }
    }
}
