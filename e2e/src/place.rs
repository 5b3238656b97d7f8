//! The place of one test in a cluster that all tests of a run share: a namespace of its own on nodes that were cleaned.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Event, Pod};

use crate::cluster::{Cluster, State};
use crate::wait::until;
use crate::{kubernetes::Kubernetes, own_folder};

/// Environment variable with the name of the cluster that tests use; `xtask e2e` sets it.
pub const CLUSTER_VARIABLE: &str = "COTENANT_E2E_CLUSTER";

/// Time for a namespace to come or go. Pods are killed at its end, which takes a kubelet a second or two.
const NAMESPACE: Duration = Duration::from_secs(90);
/// Time for a pod to be scheduled, admitted and started.
pub const POD: Duration = Duration::from_secs(60);

/// A namespace of a test. It is removed with all that is in it when dropped; after a failure its logs are kept.
#[derive(Debug)]
pub struct Place {
    cluster: Cluster,
    namespace: String,
    /// Tests of one cluster run one after another, whatever threads or processes they are in.
    _turn: File,
}

impl Place {
    /// Begins a test: waits for its turn, cleans the nodes and makes the namespace.
    ///
    /// # Errors
    /// When no cluster is up, or what an earlier test left cannot be removed.
    pub fn begin(test: &str) -> anyhow::Result<Self> {
        let name = std::env::var(CLUSTER_VARIABLE).ok().filter(|name| !name.is_empty());
        let name = name.with_context(|| format!("{CLUSTER_VARIABLE} names no cluster: run `cargo xtask e2e`"))?;
        let state = State::new(&name)?;
        let turn = File::create(state.folder().join("turn.lock")).context("no cluster is up: run `cargo xtask e2e`")?;
        turn.lock()?;
        let place = Self { cluster: Cluster::attach(&state)?, namespace: format!("e2e-{test}"), _turn: turn };
        place.clean()?;
        place.kubernetes().kubectl(&["create", "namespace", &place.namespace])?;
        place.kubernetes().wait_for_account(&place.namespace, NAMESPACE)?;
        Ok(place)
    }

    /// Repairs and removes what a test before this one left when it failed or was killed.
    fn clean(&self) -> anyhow::Result<()> {
        self.cluster.repair()?;
        for left in self.namespaces()? {
            self.remove_namespace(&left)?;
        }
        until(&format!("the end of an earlier {}", self.namespace), NAMESPACE, || {
            anyhow::ensure!(!self.namespaces()?.contains(&self.namespace), "it is there");
            Ok(())
        })?;
        self.cluster.nodes().iter().try_for_each(|node| node.world().reset())
    }

    /// The namespaces of tests, those that are about to go too.
    fn namespaces(&self) -> anyhow::Result<Vec<String>> {
        let names = self.kubernetes().kubectl(&["get", "namespaces", "--output=name"])?;
        let names = names.lines().filter_map(|name| name.strip_prefix("namespace/"));
        Ok(names.filter(|name| name.starts_with("e2e-")).map(str::to_owned).collect())
    }

    /// Ends the pods of a namespace and lets it go; that takes its controller seconds that nobody needs to wait for.
    fn remove_namespace(&self, name: &str) -> anyhow::Result<()> {
        let kubernetes = self.kubernetes();
        kubernetes.kubectl(&["delete", "namespace", name, "--wait=false", "--ignore-not-found"])?;
        // Nobody waits for a pod of a test to end well.
        kubernetes.kubectl(&["delete", "pods", "--all", "--namespace", name, "--grace-period=1", "--wait=false"])?;
        until(&format!("the end of the pods of {name}"), NAMESPACE, || {
            let pods: Vec<Pod> = kubernetes.objects(name, "")?;
            anyhow::ensure!(pods.is_empty(), "there are {}", pods.len());
            Ok(())
        })
    }

    /// The cluster.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The cluster's API.
    #[must_use]
    pub const fn kubernetes(&self) -> &Kubernetes {
        self.cluster.kubernetes()
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Applies objects to the namespace.
    ///
    /// # Errors
    /// When the API server refuses one of them.
    pub fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        self.kubernetes().apply(&self.namespace, yaml)
    }

    /// A pod.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn pod(&self, name: &str) -> anyhow::Result<Pod> {
        let pod = self.kubernetes().object(&self.namespace, name)?;
        pod.with_context(|| format!("there is no pod {name}"))
    }

    /// Waits until a pod is in a phase: `Pending`, `Running`, `Succeeded` or `Failed`.
    ///
    /// # Errors
    /// When it is in another one at the end of `limit`, with what is known of why.
    pub fn wait_for_phase(&self, name: &str, phase: &str, limit: Duration) -> anyhow::Result<Pod> {
        let waited = until(&format!("the pod {name} in phase {phase}"), limit, || {
            let pod = self.pod(name)?;
            let found = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
            anyhow::ensure!(found == phase, "it is {found}");
            Ok(pod)
        });
        waited.map_err(|error| match self.events_of(name) {
            Ok(events) => error.context(events.join("\n")),
            Err(_no_answer) => error,
        })
    }

    /// Waits until a pod runs.
    ///
    /// # Errors
    /// When it does not in time, with what is known of why.
    pub fn wait_until_running(&self, name: &str) -> anyhow::Result<Pod> {
        self.wait_for_phase(name, "Running", POD)
    }

    /// What the cluster said about an object, oldest first: `Reason: message`.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn events_of(&self, object: &str) -> anyhow::Result<Vec<String>> {
        let events: Vec<Event> = self.kubernetes().objects(&self.namespace, "")?;
        let about = events.into_iter().filter(|event| event.involved_object.name.as_deref() == Some(object));
        let told =
            |event: Event| format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default());
        Ok(about.map(told).collect())
    }

    /// Waits for an event about an object whose `Reason: message` holds `text`.
    ///
    /// # Errors
    /// When none comes within `limit`, with those that came.
    pub fn wait_for_event(&self, object: &str, text: &str, limit: Duration) -> anyhow::Result<String> {
        until(&format!("an event about {object} with `{text}`"), limit, || {
            let events = self.events_of(object)?;
            let found = events.iter().find(|event| event.contains(text)).cloned();
            found.with_context(|| format!("there are: {}", events.join("; ")))
        })
    }

    /// What a pod's container printed.
    ///
    /// # Errors
    /// When it has not started.
    pub fn logs(&self, pod: &str) -> anyhow::Result<String> {
        self.kubernetes().kubectl(&["logs", "--namespace", &self.namespace, pod])
    }

    /// Runs a command in a pod's container and gives back what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn exec(&self, pod: &str, words: &[&str]) -> anyhow::Result<String> {
        let kubectl = ["exec", "--namespace", &self.namespace, pod, "--"];
        self.kubernetes().kubectl(&[&kubectl, words].concat())
    }

    /// Deletes a pod and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub fn delete_pod(&self, name: &str) -> anyhow::Result<()> {
        let gone = ["delete", "pod", name, "--namespace", &self.namespace, "--grace-period=1", "--timeout=60s"];
        self.kubernetes().kubectl(&gone).map(|_said| ())
    }

    /// Where the logs of a failed test are kept.
    fn failure_folder(&self) -> anyhow::Result<PathBuf> {
        Ok(own_folder()?.join("e2e-failures").join(&self.namespace))
    }

    #[expect(clippy::print_stderr, reason = "the reader of a failed test needs to know where to look")]
    fn keep_logs(&self) {
        let kept = self.failure_folder().and_then(|folder| self.cluster.collect_logs(&folder).map(|()| folder));
        match kept {
            Ok(folder) => eprintln!("simulated GPUs; the logs of the cluster are in {}", folder.display()),
            Err(error) => eprintln!("the logs of the cluster could not be kept: {error:#}"),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_logs();
            drop(self.cluster.repair());
        }
        // What cannot be removed now is tried again by the next test, which then fails for it.
        drop(self.remove_namespace(&self.namespace));
    }
}
