//! Objects, their versions, and what watches are told.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::sync::watch;

/// Every object by collection and name.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<(String, String), Value>,
    version: u64,
    /// Changes that watches can still be told: version, collection, kind of change, object.
    history: Vec<Change>,
    /// Watches from before this version are refused.
    forgotten: u64,
    /// Tells watches to look again.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) collection: String,
    pub(super) kind: &'static str,
    pub(super) object: Value,
}

impl Store {
    pub(super) fn put(&mut self, collection: &str, mut object: Value) -> Value {
        self.version += 1;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let namespace = collection.split_once("/namespaces/").and_then(|(_, rest)| rest.split('/').next());
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let before = self.objects.insert((collection.to_owned(), name), object.clone());
        self.record(collection, if before.is_some() { "MODIFIED" } else { "ADDED" }, object.clone());
        object
    }

    pub(super) fn delete(&mut self, collection: &str, name: &str) -> bool {
        let Some(mut object) = self.objects.remove(&(collection.to_owned(), name.to_owned())) else { return false };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.record(collection, "DELETED", object);
        true
    }

    fn record(&mut self, collection: &str, kind: &'static str, object: Value) {
        self.history.push(Change { version: self.version, collection: collection.to_owned(), kind, object });
        self.changed.send_replace(self.version);
    }

    pub(super) fn object(&self, collection: &str, name: &str) -> Option<Value> {
        self.objects.get(&(collection.to_owned(), name.to_owned())).cloned()
    }

    /// A collection; one without a namespace has those of every namespace.
    pub(super) fn list(&self, collection: &str) -> Vec<Value> {
        let held = self.objects.iter().filter(|((held, _), _)| covers(collection, held));
        held.map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn forget_history(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
        self.history.clear();
        self.changed.send_replace(self.version);
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What happened in `collection` after `version`; `None` when that is forgotten.
    pub(super) fn since(&self, collection: &str, version: u64) -> Option<Vec<Change>> {
        if version < self.forgotten {
            return None;
        }
        let new = self.history.iter().filter(|change| change.version > version);
        Some(new.filter(|change| covers(collection, &change.collection)).cloned().collect())
    }
}

/// Whether a request for `asked` is about objects in `held`: `/api/v1/pods` covers `/api/v1/namespaces/NS/pods`.
fn covers(asked: &str, held: &str) -> bool {
    if asked == held {
        return true;
    }
    let Some((group, rest)) = held.split_once("/namespaces/") else { return false };
    rest.split_once('/').is_some_and(|(_namespace, plural)| asked == format!("{group}/{plural}"))
}
