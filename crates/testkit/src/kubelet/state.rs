//! What the kubelet knows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::plugins::Plugin;
use super::pods::Pod;

/// How the kubelet behaves towards plugins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// Refuses registrations with these words.
    pub refuse: Option<String>,
    /// Answers registrations so much later.
    pub answer_after: Duration,
    /// Agrees to registrations and never asks for the devices.
    pub ignore_devices: bool,
    /// Rests so long after each list that it reads.
    pub read_after: Duration,
}

/// A registration that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The resource.
    pub resource: String,
    /// File name of the plugin's socket.
    pub endpoint: String,
    /// Version of the interface.
    pub version: String,
    /// Whether the plugin can choose devices, by what it said when it registered and when it was dialled back.
    pub can_choose: (bool, bool),
}

/// A device as a plugin tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: String,
    /// Whether a pod may get it.
    pub healthy: bool,
    /// NUMA nodes that it is near to.
    pub numa_nodes: Vec<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) behaviour: Behaviour,
    pub(super) registrations: Vec<Registered>,
    /// By resource.
    pub(super) plugins: BTreeMap<String, Plugin>,
    pub(super) devices: BTreeMap<String, Vec<Device>>,
    pub(super) lists: BTreeMap<String, u64>,
    pub(super) pods: Vec<Pod>,
}

pub(super) struct State {
    inner: Mutex<Inner>,
    changes: watch::Sender<u64>,
}

impl Default for State {
    fn default() -> Self {
        Self { inner: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read(|inner| inner.fmt(f))
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read<T>(&self, reader: impl FnOnce(&Inner) -> T) -> T {
        reader(&self.lock())
    }

    /// Changes what is known, and wakes who waits for it.
    pub(super) fn change<T>(&self, writer: impl FnOnce(&mut Inner) -> T) -> T {
        let result = writer(&mut self.lock());
        self.changes.send_modify(|number| *number += 1);
        result
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// A kubelet that comes up knows pods, but no plugin.
    pub(super) fn forget_plugins(&self) {
        self.change(|inner| {
            inner.plugins.clear();
            inner.devices.clear();
        });
    }
}
