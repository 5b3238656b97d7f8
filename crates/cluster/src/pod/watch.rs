//! The pods of this node, kept by a watch.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures_util::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Pod;
use crate::{Backoff, Client};

/// How long one watch lasts, in seconds.
const WATCH_SECONDS: u32 = 120;
/// How many pods are listed at a time.
const PAGE: u32 = 50;
/// How many pods are remembered after they went.
const REMEMBERED: usize = 64;

/// Keeps the pods that are bound to one node.
#[derive(Debug)]
pub struct PodWatch {
    client: Client,
    node: String,
    known: Arc<watch::Sender<Known>>,
}

/// The pods of a node as last heard. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pods {
    known: watch::Receiver<Known>,
}

#[derive(Debug, Default)]
struct Known {
    listed: bool,
    by_uid: HashMap<String, Arc<Pod>>,
    /// The last that went, the newest at the back.
    gone: VecDeque<Arc<Pod>>,
}

impl PodWatch {
    /// A watch of the pods of `node`; it begins with [`PodWatch::run`].
    #[must_use]
    pub fn new(client: Client, node: impl Into<String>) -> Self {
        Self { client, node: node.into(), known: Arc::new(watch::Sender::new(Known::default())) }
    }

    /// The pods, to ask while the watch runs. What was last heard stands while the API server is away.
    #[must_use]
    pub fn pods(&self) -> Pods {
        Pods { known: self.known.subscribe() }
    }

    /// Watches until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let pods: Api<ApiPod> = Api::all(self.client.kube());
        let config = watcher::Config::default()
            .fields(&format!("spec.nodeName={}", self.node))
            .timeout(WATCH_SECONDS)
            .page_size(PAGE);
        let events = watcher(pods, config).backoff(Backoff::default());
        pin_mut!(events);
        let mut listed = HashMap::new();
        while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
            match event {
                Ok(event) => {
                    self.client.reachable();
                    self.apply(event, &mut listed);
                }
                Err(error) => crate::node::note(&self.client, "watch the pods of", &self.node, error),
            }
        }
    }

    fn apply(&self, event: Event<ApiPod>, listed: &mut HashMap<String, Arc<Pod>>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => {
                let pod = Arc::new(Pod::from(pod));
                listed.insert(pod.uid.clone(), pod);
            }
            Event::InitDone => {
                let listed = std::mem::take(listed);
                self.known.send_modify(|known| known.replace(listed));
            }
            Event::Apply(pod) => {
                let pod = Arc::new(Pod::from(pod));
                self.known.send_if_modified(|known| known.insert(pod));
            }
            Event::Delete(pod) => {
                let uid = pod.metadata.uid.unwrap_or_default();
                self.known.send_if_modified(|known| known.remove(&uid));
            }
        }
    }
}

impl Known {
    fn replace(&mut self, listed: HashMap<String, Arc<Pod>>) {
        let gone: Vec<String> = self.by_uid.keys().filter(|uid| !listed.contains_key(*uid)).cloned().collect();
        for uid in gone {
            self.remove(&uid);
        }
        self.by_uid = listed;
        self.listed = true;
    }

    fn insert(&mut self, pod: Arc<Pod>) -> bool {
        let changed = self.by_uid.get(&pod.uid) != Some(&pod);
        self.by_uid.insert(pod.uid.clone(), pod);
        changed
    }

    fn remove(&mut self, uid: &str) -> bool {
        let Some(pod) = self.by_uid.remove(uid) else { return false };
        if self.gone.len() == REMEMBERED {
            self.gone.pop_front();
        }
        self.gone.push_back(pod);
        true
    }
}

impl Pods {
    /// Whether a complete list has been read since the start.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.known.borrow().listed
    }

    /// The pod with this UID, also when it went a short while ago.
    #[must_use]
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        let known = self.known.borrow();
        known.by_uid.get(uid).or_else(|| known.gone.iter().rev().find(|pod| pod.uid == uid)).cloned()
    }

    /// The pod of this name that is there now.
    #[must_use]
    pub fn by_name(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let known = self.known.borrow();
        known.by_uid.values().find(|pod| pod.namespace == namespace && pod.name == name).cloned()
    }

    /// The pod and the name of the container with this runtime id, also when it went a short while ago.
    #[must_use]
    pub fn by_container(&self, id: &str) -> Option<(Arc<Pod>, String)> {
        let known = self.known.borrow();
        let mut pods = known.by_uid.values().chain(known.gone.iter().rev());
        pods.find_map(|pod| pod.containers.get(id).map(|name| (Arc::clone(pod), name.clone())))
    }

    /// Every pod that is there now, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.known.borrow().by_uid.values().cloned().collect()
    }

    /// Waits until something about the pods has changed since the last such wait; `false` when the watch has ended.
    pub async fn changed(&mut self) -> bool {
        self.known.changed().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str) -> Arc<Pod> {
        Arc::new(Pod { uid: uid.to_owned(), ..Pod::default() })
    }

    #[test]
    fn a_list_replaces_what_was_known_and_what_went_is_remembered_for_a_while() {
        let mut known = Known::default();
        assert!(known.insert(pod("a")) && !known.insert(pod("a")));
        known.replace(HashMap::from([("b".to_owned(), pod("b"))]));
        assert!(known.by_uid.contains_key("b") && !known.by_uid.contains_key("a"));
        assert_eq!(known.gone.len(), 1);
        for number in 0..2 * REMEMBERED {
            known.insert(pod(&number.to_string()));
            known.remove(&number.to_string());
        }
        assert_eq!(known.gone.len(), REMEMBERED);
        assert_eq!(known.gone.back(), Some(&pod("127")));
    }
}
