//! The task that keeps the labels of this node as they should be.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{LabelChange, Labels, NodeFacts};
use crate::{ApiError, Backoff, Client};

/// How long a correction is left alone: whoever else writes the same labels must not be fought at full speed.
const CORRECTION_PAUSE: Duration = Duration::from_secs(5);

/// Sets the labels of one node whenever they are not what is wanted: at the start, after a change of what is wanted,
/// after somebody else changed them, after the API server was away.
#[derive(Debug)]
pub struct LabelKeeper {
    /// The way to the API server.
    pub client: Client,
    /// The node.
    pub node: String,
    /// What the node looks like.
    pub facts: watch::Receiver<Option<NodeFacts>>,
    /// What it should be labelled with; `None` leaves the labels alone.
    pub wanted: watch::Receiver<Option<Labels>>,
    /// Which other keys are ours, whoever set them.
    pub owned: fn(&str) -> bool,
}

impl LabelKeeper {
    /// Works until `stop`, or until nobody can want anything any more.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&mut self) -> Option<()> {
        let mut backoff = Backoff::default();
        let mut told = None;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            self.facts.mark_unchanged();
            let Some(wanted) = wanted else {
                self.wanted.changed().await.ok()?;
                continue;
            };
            match self.client.set_labels(&self.node, &wanted, self.owned).await {
                Ok(change) => {
                    backoff.reset();
                    told = None;
                    say(&self.node, &change);
                    self.until_something_is_off(&wanted).await?;
                }
                Err(error) => {
                    tell_once(&mut told, &error);
                    self.pause(backoff.pause()).await?;
                }
            }
        }
    }

    /// Waits for another wish, or for labels that are no longer as wished.
    async fn until_something_is_off(&mut self, wanted: &Labels) -> Option<()> {
        if self.pause(CORRECTION_PAUSE).await? {
            return Some(());
        }
        loop {
            if self.is_off(wanted) {
                return Some(());
            }
            tokio::select! {
                changed = self.wanted.changed() => return changed.ok(),
                changed = self.facts.changed() => changed.ok()?,
            }
        }
    }

    fn is_off(&self, wanted: &Labels) -> bool {
        let facts = self.facts.borrow();
        let Some(facts) = facts.as_ref() else { return false };
        wanted.iter().any(|(key, value)| facts.labels.get(key) != Some(value))
            || facts.labels.keys().any(|key| (self.owned)(key) && !wanted.contains_key(key))
    }

    /// Sleeps, unless something else is wanted meanwhile; says whether that was so.
    async fn pause(&mut self, pause: Duration) -> Option<bool> {
        tokio::select! {
            () = sleep(pause) => Some(false),
            changed = self.wanted.changed() => changed.ok().map(|()| true),
        }
    }
}

fn say(node: &str, change: &LabelChange) {
    if !change.is_empty() {
        let listed = |keys: &std::collections::BTreeSet<String>| keys.iter().cloned().collect::<Vec<_>>().join(", ");
        tracing::info!(node, set = listed(&change.set), removed = listed(&change.removed), "labels changed");
    }
}

/// The same refusal is said once, not at every try; silences are said by the client.
fn tell_once(told: &mut Option<String>, error: &ApiError) {
    let text = error.to_string();
    if error.shows_reachable() && told.as_ref() != Some(&text) {
        tracing::warn!("{text}; it is tried again");
        *told = Some(text);
    }
}
