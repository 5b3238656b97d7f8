//! How the agents of a cluster are told that they are being uninstalled, and tell that nothing of them is left.
//!
//! Whoever uninstalls writes [`ANNOTATION`] on the nodes; the agent, which watches its node anyway, cleans up and writes
//! back. `docs/design/0004-install.md` says why it is not done otherwise.
//!
//! ```text
//! (none) ── ask ──▶ requested ── agent ──▶ done ──┐
//!   ▲                   │                         ├─▶ (none), then the objects go
//!   │                   └── agent ──▶ failed: … ──┘
//!   └───────────────────────── forget ─────────────
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod as ApiPod};
use kube::Api;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{ApiError, Client, FIELD_MANAGER, Pod};

/// The annotation of a node by which its agent is asked to clean up.
pub const ANNOTATION: &str = "cotenant.dev/uninstall";
/// How often the nodes are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What stands in [`ANNOTATION`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeUninstall {
    /// The agent shall clean up.
    Requested,
    /// It has, and offers nothing any more until it is started again.
    Done,
    /// It has tried; this is left.
    Failed(String),
}

impl NodeUninstall {
    /// Reads the annotation: an unknown word is a request too, for whoever wrote it wants the agent gone.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        match word.split_once(": ") {
            Some(("failed", why)) => Self::Failed(why.to_owned()),
            _ if word == "done" => Self::Done,
            _ => Self::Requested,
        }
    }

    /// The annotation's value.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Requested => "requested".to_owned(),
            Self::Done => "done".to_owned(),
            Self::Failed(why) => format!("failed: {why}"),
        }
    }
}

/// Whether the agent's own `DaemonSet` is there, as the agent asks on SIGTERM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installation {
    /// It is: this is an upgrade, a drain or a restart, and everything stays for the next agent.
    Present,
    /// It is not, or is being deleted: nothing may be left behind.
    Removed,
    /// Nobody knows, for this reason: everything stays, because running pods may need it.
    Unknown(String),
}

/// What became of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeOutcome {
    /// Nothing is left.
    Clean,
    /// The agent says what is left.
    Failed(String),
    /// The agent has not answered in time.
    Silent,
    /// No agent runs there: labels are gone, but files, daemons and compute modes may be left.
    NoAgent,
}

impl Client {
    /// Whether the `DaemonSet` `name` is there, asked within the client's limit of ten seconds.
    pub async fn installation(&self, namespace: &str, name: &str) -> Installation {
        let sets: Api<DaemonSet> = Api::namespaced(self.kube(), namespace);
        match self.call(format!("look up DaemonSet {namespace}/{name}"), sets.get_metadata_opt(name)).await {
            Ok(Some(set)) if set.metadata.deletion_timestamp.is_none() => Installation::Present,
            Ok(_) => Installation::Removed,
            Err(error) => Installation::Unknown(cotenant_model::cause::chain(&error, ": ")),
        }
    }

    /// Takes every label of ours off `node` and writes `outcome`, in one request.
    ///
    /// # Errors
    /// When the API server refuses or cannot be asked.
    pub async fn acknowledge_uninstall(&self, node: &str, outcome: &NodeUninstall) -> Result<(), ApiError> {
        let annotations = BTreeMap::from([(ANNOTATION, outcome.word())]);
        let action = format!("acknowledge uninstalling on node {node}");
        self.apply_to_node(action, node, json!({"annotations": annotations})).await.map(|_node| ())
    }

    /// Asks every node to be cleaned up and waits for it, at most `patience`. `agents` is the label selector of the
    /// agents' pods in `namespace`; `say` hears what happens, a line at a time. The labels of ours go from every node, also
    /// from those whose agent is away. Asking again after a failure goes on where it stopped.
    ///
    /// # Errors
    /// When the nodes or pods cannot be listed.
    pub async fn uninstall_nodes(
        &self,
        namespace: &str,
        agents: &str,
        patience: Duration,
        say: impl Fn(&str),
    ) -> Result<BTreeMap<String, NodeOutcome>, ApiError> {
        let with_agent = self.nodes_with_agent(namespace, agents).await?;
        let mut outcomes = BTreeMap::new();
        for node in self.nodes().await? {
            if with_agent.contains(&node.name) {
                self.request_uninstall(&node.name).await?;
                say(&format!("node {}: asked its agent to clean up", node.name));
                outcomes.insert(node.name, NodeOutcome::Silent);
            } else if node.is_ours {
                say(&format!("node {}: no agent runs there; only its labels are taken off", node.name));
                outcomes.insert(node.name, NodeOutcome::NoAgent);
            }
        }
        self.wait_for(&mut outcomes, patience, &say).await?;
        for node in outcomes.keys() {
            self.forget(node).await?;
        }
        Ok(outcomes)
    }

    async fn wait_for(
        &self,
        outcomes: &mut BTreeMap<String, NodeOutcome>,
        patience: Duration,
        say: &impl Fn(&str),
    ) -> Result<(), ApiError> {
        let end = Instant::now() + patience;
        while outcomes.values().any(|outcome| *outcome == NodeOutcome::Silent) && Instant::now() < end {
            sleep(LOOK).await;
            let nodes = match self.nodes().await {
                Err(error) if error.is_transient() => continue,
                nodes => nodes?,
            };
            for node in nodes {
                let Some(outcome) = outcomes.get_mut(&node.name).filter(|known| **known == NodeOutcome::Silent) else {
                    continue;
                };
                match node.uninstall {
                    Some(NodeUninstall::Done) => {
                        say(&format!("node {}: nothing is left", node.name));
                        *outcome = NodeOutcome::Clean;
                    }
                    Some(NodeUninstall::Failed(why)) => {
                        say(&format!("node {}: {why}", node.name));
                        *outcome = NodeOutcome::Failed(why);
                    }
                    Some(NodeUninstall::Requested) | None => {}
                }
            }
        }
        Ok(())
    }

    /// Gives up what the API server records as ours on `node`, and removes the request.
    async fn forget(&self, node: &str) -> Result<(), ApiError> {
        match self.apply_to_node(format!("take the labels off node {node}"), node, json!({})).await {
            Err(error) if error.is_not_found() || error.is_forbidden() => {
                // A node that went meanwhile; the API server says 403 because applying would create it.
                tracing::debug!("{error}");
                Ok(())
            }
            applied => {
                applied?;
                self.annotate(node, None).await
            }
        }
    }

    async fn request_uninstall(&self, node: &str) -> Result<(), ApiError> {
        self.annotate(node, Some(&NodeUninstall::Requested.word())).await
    }

    async fn annotate(&self, node: &str, word: Option<&str>) -> Result<(), ApiError> {
        let metadata = json!({"annotations": {ANNOTATION: word}});
        match self.merge_into_node(format!("annotate node {node}"), node, metadata).await {
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer.map(|_node| ()),
        }
    }

    async fn nodes_with_agent(&self, namespace: &str, agents: &str) -> Result<BTreeSet<String>, ApiError> {
        let pods: Api<ApiPod> = Api::namespaced(self.kube(), namespace);
        let parameters = ListParams::default().labels(agents);
        let pods = self.call(format!("list the agents in namespace {namespace}"), pods.list(&parameters)).await?;
        let running = pods.items.into_iter().map(Pod::from).filter(|pod| pod.phase == "Running" && !pod.terminating);
        Ok(running.filter_map(|pod| pod.node).collect())
    }

    async fn nodes(&self) -> Result<Vec<ListedNode>, ApiError> {
        let nodes: Api<PartialObjectMeta<Node>> = Api::all(self.kube());
        let nodes = self.call("list the nodes", nodes.list(&ListParams::default())).await?;
        Ok(nodes.items.into_iter().map(ListedNode::new).collect())
    }
}

/// A node, as far as uninstalling goes.
#[derive(Debug)]
struct ListedNode {
    name: String,
    /// Whether the API server records anything on it as ours.
    is_ours: bool,
    uninstall: Option<NodeUninstall>,
}

impl ListedNode {
    fn new(node: PartialObjectMeta<Node>) -> Self {
        let metadata = node.metadata;
        let managers = metadata.managed_fields.iter().flatten();
        let annotations = metadata.annotations.unwrap_or_default();
        Self {
            is_ours: managers.into_iter().any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER)),
            name: metadata.name.unwrap_or_default(),
            uninstall: annotations.get(ANNOTATION).map(|word| NodeUninstall::from_word(word)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_as_they_were_written() {
        for state in [NodeUninstall::Requested, NodeUninstall::Done, NodeUninstall::Failed("GPU-1: busy".to_owned())] {
            assert_eq!(NodeUninstall::from_word(&state.word()), state);
        }
        assert_eq!(NodeUninstall::from_word("please"), NodeUninstall::Requested);
    }
}
