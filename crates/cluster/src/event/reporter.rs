//! The task that writes events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event as ApiEvent, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ledger::{Due, Ledger};
use super::{Event, EventKind, Regarding, cut};
use crate::{ApiError, Backoff, Client};

/// Who speaks, in every event.
const CONTROLLER: &str = "cotenant.dev/node";
/// How many events can be on their way to the task.
const QUEUE: usize = 64;
/// How long the task tries to tell what is left when it is stopped.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long nothing is looked at when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// The way to say something; never blocks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    queue: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
}

impl Events {
    /// Says `event`, now or when the API server is back. What is said too often is counted or dropped.
    pub fn report(&self, event: Event) {
        let note = cut(event.note);
        let event = Event { note, ..event };
        tracing::info!(reason = event.reason, regarding = ?event.regarding, "event: {}", event.note);
        if self.queue.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events were dropped since the start, for a metric.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Writes the events of one node.
#[derive(Debug)]
pub struct EventReporter {
    client: Client,
    node: String,
    queue: mpsc::Receiver<Event>,
    dropped: Arc<AtomicU64>,
    ledger: Ledger,
}

impl EventReporter {
    /// A reporter for the agent of `node`, and the way to it.
    #[must_use]
    pub fn new(client: Client, node: impl Into<String>) -> (Self, Events) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let events = Events { queue: sender, dropped: Arc::clone(&dropped) };
        (Self { client, node: node.into(), queue, dropped, ledger: Ledger::default() }, events)
    }

    /// Writes events until `stop`, and then what is left for at most two seconds.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.work()).await;
        while let Ok(event) = self.queue.try_recv() {
            self.observe(event);
        }
        drop(tokio::time::timeout(LAST_WORDS, self.tell_all()).await);
    }

    async fn work(&mut self) {
        let mut backoff = Backoff::default();
        let mut wake = Instant::now() + IDLE;
        loop {
            tokio::select! {
                event = self.queue.recv() => match event {
                    Some(event) => self.observe(event),
                    None => return,
                },
                () = sleep_until(wake) => {}
            }
            wake = if self.tell_all().await {
                backoff.reset();
                let next = self.ledger.next_due(Timestamp::now()).and_then(|due| Duration::try_from(due).ok());
                Instant::now() + next.unwrap_or(IDLE)
            } else {
                Instant::now() + backoff.pause()
            };
        }
    }

    fn observe(&mut self, event: Event) {
        let before = self.ledger.dropped();
        self.ledger.observe(event, Timestamp::now());
        self.dropped.fetch_add(self.ledger.dropped() - before, Ordering::Relaxed);
    }

    /// Tells everything that is due; `false` when the API server has no ear for it.
    async fn tell_all(&mut self) -> bool {
        while let Some(due) = self.ledger.due(Timestamp::now()) {
            match self.tell(&due).await {
                Ok(()) => self.ledger.told(&due, Timestamp::now()),
                Err(error) if due.stands && error.is_not_found() => self.ledger.lost(&due, Timestamp::now()),
                // The answer to an earlier try was lost: it stands.
                Err(error) if error.is_conflict() && !due.stands => self.ledger.told(&due, Timestamp::now()),
                Err(error) if error.is_transient() => return false,
                Err(error) => {
                    tracing::warn!("{error}");
                    self.ledger.give_up(&due);
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        true
    }

    async fn tell(&self, due: &Due) -> Result<(), ApiError> {
        let namespace = namespace(&due.event.regarding);
        let events: Api<ApiEvent> = Api::namespaced(self.client.kube(), namespace);
        let action = format!("tell event {} in namespace {namespace}", due.event.reason);
        if due.stands {
            let patch = Patch::Merge(json!({"series": series(due)}));
            self.client.call(action, events.patch(&due.name, &PatchParams::default(), &patch)).await?;
        } else {
            let event = self.object(due, namespace);
            self.client.call(action, events.create(&PostParams::default(), &event)).await?;
        }
        Ok(())
    }

    fn object(&self, due: &Due, namespace: &str) -> ApiEvent {
        let Event { regarding, kind, reason, action, note } = &due.event;
        let kind = match kind {
            EventKind::Normal => "Normal",
            EventKind::Warning => "Warning",
        };
        ApiEvent {
            metadata: ObjectMeta {
                name: Some(due.name.clone()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(due.first)),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.node.chars().take(128).collect()),
            regarding: Some(reference(regarding)),
            type_: Some(kind.to_owned()),
            reason: Some((*reason).to_owned()),
            action: Some((*action).to_owned()),
            note: Some(note.clone()),
            series: series(due),
            ..ApiEvent::default()
        }
    }
}

/// The API server takes counts from 2 on.
fn series(due: &Due) -> Option<EventSeries> {
    (due.count > 1).then_some(EventSeries { count: due.count, last_observed_time: MicroTime(due.last) })
}

/// Events about a node stand in the namespace `default`: a node has none.
fn namespace(regarding: &Regarding) -> &str {
    match regarding {
        Regarding::Node { .. } => "default",
        Regarding::Pod { namespace, .. } => namespace,
    }
}

fn reference(regarding: &Regarding) -> ObjectReference {
    match regarding {
        // `kubectl describe node` looks for the name in the place of the UID, where the kubelet puts it.
        Regarding::Node { name } => ObjectReference {
            kind: Some("Node".to_owned()),
            api_version: Some("v1".to_owned()),
            name: Some(name.clone()),
            uid: Some(name.clone()),
            ..ObjectReference::default()
        },
        Regarding::Pod { namespace, name, uid } => ObjectReference {
            kind: Some("Pod".to_owned()),
            api_version: Some("v1".to_owned()),
            namespace: Some(namespace.clone()),
            name: Some(name.clone()),
            uid: Some(uid.clone()),
            ..ObjectReference::default()
        },
    }
}
