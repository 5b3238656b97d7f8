//! The node's labels that choose a configuration, remembered for a start while the API server is away: without them another
//! configuration would be chosen, and running pods be in its way.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cotenant_cluster::NodeFacts;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long the API server may take at the start before what is remembered stands in, and where nothing is: then what is
/// chosen without labels would be taken back a moment later.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(20));

/// Values of the labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Labels {
    /// `nvidia.com/device-plugin.config`.
    pub(super) config: Option<String>,
    /// `nvidia.com/mig.config`.
    pub(super) mig: Option<String>,
}

impl Labels {
    fn of(facts: &NodeFacts) -> Self {
        Self { config: facts.config().map(str::to_owned), mig: facts.mig_config().map(str::to_owned) }
    }
}

/// The labels of a node as its API server last told them.
#[derive(Debug)]
pub(super) struct Chosen {
    facts: Option<watch::Receiver<Option<NodeFacts>>>,
    file: PathBuf,
    known: Labels,
    is_remembered: bool,
}

impl Chosen {
    /// Of a node whose facts come from there; without an API server it has no labels.
    pub(super) fn new(facts: Option<watch::Receiver<Option<NodeFacts>>>, state: &Path) -> Self {
        let file = file(state);
        let remembered = || fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let remembered = facts.as_ref().and_then(|_| remembered());
        Self { facts, file, is_remembered: remembered.is_some(), known: remembered.unwrap_or_default() }
    }

    /// Waits for the API server's first word, for a while.
    pub(super) async fn await_first(&mut self) {
        let Some(facts) = &mut self.facts else { return };
        let patience = if self.is_remembered { PATIENCE.0 } else { PATIENCE.1 };
        let heard = timeout(patience, facts.wait_for(Option::is_some)).await.is_ok_and(|heard| heard.is_ok());
        if !heard {
            tracing::warn!(known = ?self.known, "the API server has not told the node's labels; the last known ones stand in");
        }
    }

    /// The labels now.
    pub(super) fn labels(&mut self) -> Labels {
        let facts = self.facts.as_mut().and_then(|facts| facts.borrow_and_update().clone());
        if let Some(told) = facts.as_ref().map(Labels::of)
            && (told != self.known || !self.is_remembered)
        {
            self.known = told;
            self.remember();
        }
        self.known.clone()
    }

    fn remember(&mut self) {
        self.is_remembered = true;
        let draft = self.file.with_extension("draft");
        let written = serde_json::to_vec(&self.known)
            .map_err(std::io::Error::other)
            .and_then(|text| fs::write(&draft, text))
            .and_then(|()| fs::rename(&draft, &self.file));
        if let Err(error) = written {
            tracing::warn!(path = %self.file.display(), %error, "the node's labels are not remembered");
        }
    }

    /// Waits until they are others.
    pub(super) async fn changed(&mut self) {
        let known = self.known.clone();
        let Some(facts) = &mut self.facts else { return std::future::pending().await };
        let is_other = |facts: &Option<NodeFacts>| facts.as_ref().is_some_and(|facts| Labels::of(facts) != known);
        if facts.wait_for(is_other).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn file(state: &Path) -> PathBuf {
    state.join("labels.json")
}

/// Forgets them.
pub(super) fn forget(state: &Path) {
    drop(fs::remove_file(file(state)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(config: &str) -> NodeFacts {
        let labels = [(cotenant_cluster::CONFIG_LABEL.to_owned(), config.to_owned())].into();
        NodeFacts { labels, ..NodeFacts::default() }
    }

    #[tokio::test]
    async fn labels_are_remembered_for_a_start_without_the_api_server() {
        let folder = tempfile::tempdir().unwrap();
        let sender = watch::Sender::new(None);
        let mut chosen = Chosen::new(Some(sender.subscribe()), folder.path());
        assert_eq!(chosen.labels(), Labels::default());
        sender.send_replace(Some(facts("shared")));
        timeout(Duration::from_secs(5), chosen.changed()).await.unwrap();
        assert_eq!(chosen.labels().config.as_deref(), Some("shared"));
        let silent = watch::Sender::new(None);
        let mut next = Chosen::new(Some(silent.subscribe()), folder.path());
        assert_eq!(next.labels().config.as_deref(), Some("shared"));
        silent.send_replace(Some(NodeFacts::default()));
        assert_eq!(next.labels(), Labels::default(), "the API server's word counts once it comes");
        let mut without = Chosen::new(None, folder.path());
        assert_eq!(without.labels(), Labels::default());
    }
}
