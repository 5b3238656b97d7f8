//! The end of an installation: nothing is left behind.

use std::collections::BTreeMap;
use std::time::Duration;

use cotenant_cluster::uninstall::{Installation, NodeUninstall};
use cotenant_kubelet::cdi;
use cotenant_model::cause::chain;

use super::{Agent, chosen, memory};
use crate::keeper::client::KeeperCallError;
use crate::keeper::protocol::Ask;

/// How long the keeper may take: a daemon whose clients stay takes 18 s at most.
const KEEPER: Duration = Duration::from_secs(60);

impl Agent {
    /// Whether the installation that this agent is a part of is gone.
    pub(super) async fn is_removed(&self) -> bool {
        let (Some((client, _)), Some((namespace, name))) = (&self.hands.api, &self.options.daemon_set) else {
            return false;
        };
        matches!(client.installation(namespace, name).await, Installation::Removed)
    }

    /// Leaves nothing behind and says so.
    pub(super) async fn uninstall(&mut self) {
        if std::mem::replace(&mut self.uninstalled, true) {
            return;
        }
        tracing::info!("uninstalling: devices, daemons, CDI files, labels and what was remembered go");
        self.labels.send_replace(None);
        self.plugins.publish(BTreeMap::new());
        let mut left = Vec::new();
        left.extend(self.end_keeper().await);
        if let Err(error) = cdi::remove(&self.options.paths.cdi) {
            left.push(chain(&error, ": "));
        }
        chosen::forget(&self.options.paths.state);
        memory::remove(&self.options.paths.state);
        let outcome = if left.is_empty() { NodeUninstall::Done } else { NodeUninstall::Failed(left.join("; ")) };
        self.acknowledge(&outcome).await;
    }

    /// Has the keeper put everything back; what went wrong, if anything did.
    async fn end_keeper(&self) -> Option<String> {
        let keeper = self.hands.keeper.as_ref()?;
        match keeper.ask(Ask::Shutdown { cleanup: true }, KEEPER).await {
            Ok(_) | Err(KeeperCallError::Away { .. }) => None,
            Err(error) => Some(chain(&error, ": ")),
        }
    }

    async fn acknowledge(&self, outcome: &NodeUninstall) {
        let Some((client, _)) = &self.hands.api else { return };
        if let Err(error) = client.acknowledge_uninstall(&self.options.node, outcome).await {
            tracing::warn!(error = chain(&error, ": "), "the end of uninstalling cannot be told");
        }
    }
}
