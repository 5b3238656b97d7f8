//! The API of a cluster as tests use it: every call blocks, and ends in time.

use std::fmt;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::cluster::{Record, State, kubectl};
use crate::process;
use crate::wait::until;

/// Time for an answer of the API server.
const ANSWER: Duration = Duration::from_secs(15);
/// Time for a command of `kubectl`.
const KUBECTL: Duration = Duration::from_secs(120);

/// A client that may do everything.
pub struct Kubernetes {
    runtime: Runtime,
    client: Client,
    programs: PathBuf,
    state: State,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Kubernetes {
    pub(crate) fn connect(state: &State, record: &Record) -> anyhow::Result<Self> {
        // Calls run on the caller's thread, but connections are kept by a task of their own.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let kubeconfig = Kubeconfig::read_from(state.kubeconfig())?;
        let client = runtime.block_on(async {
            let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            config.read_timeout = Some(ANSWER);
            anyhow::Ok(Client::try_from(config)?)
        })?;
        Ok(Self { runtime, client, programs: record.kubernetes.clone(), state: state.clone() })
    }

    fn answer<T>(&self, call: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
        let timed = async { tokio::time::timeout(ANSWER, call).await };
        Ok(self.runtime.block_on(timed).context("the API server did not answer in time")??)
    }

    /// Whether the API server is ready.
    ///
    /// # Errors
    /// When it is not, or cannot be reached.
    pub fn ready(&self) -> anyhow::Result<()> {
        self.text("/readyz").map(|_ok| ())
    }

    /// What the API server answers to a GET of `path`. `/api/v1/namespaces/N/pods/P:PORT/proxy/…` asks a pod's own server.
    ///
    /// # Errors
    /// When the answer is not a success.
    pub fn text(&self, path: &str) -> anyhow::Result<String> {
        let request = http_get(path)?;
        self.answer(self.client.request_text(request)).with_context(|| format!("GET {path}"))
    }

    /// Runs `kubectl` and gives back what it prints.
    ///
    /// # Errors
    /// When it fails or does not end in time.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        process::run(kubectl(&self.programs, &self.state).args(arguments).stdin(Stdio::null()), KUBECTL)
    }

    /// Applies objects written in YAML.
    ///
    /// # Errors
    /// When the API server refuses one of them.
    pub fn apply(&self, namespace: &str, yaml: &str) -> anyhow::Result<()> {
        let mut file: File = tempfile::tempfile()?;
        file.write_all(yaml.as_bytes())?;
        file.rewind()?;
        let mut apply = kubectl(&self.programs, &self.state);
        apply.args(["apply", "--server-side", "--namespace", namespace, "--filename", "-"]).stdin(Stdio::from(file));
        process::run(&mut apply, KUBECTL).with_context(|| format!("applying\n{yaml}")).map(|_said| ())
    }

    /// A node.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn node(&self, name: &str) -> anyhow::Result<Node> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        self.answer(nodes.get(name))
    }

    /// An object of a namespace; `None` where there is none of this name.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn object<K>(&self, namespace: &str, name: &str) -> anyhow::Result<Option<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + fmt::Debug,
    {
        let objects: Api<K> = Api::namespaced(self.client.clone(), namespace);
        self.answer(objects.get_opt(name))
    }

    /// The objects of a namespace that bear these labels (`a=b,c=d`; all of them where it is empty).
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn objects<K>(&self, namespace: &str, labels: &str) -> anyhow::Result<Vec<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + fmt::Debug,
    {
        let objects: Api<K> = Api::namespaced(self.client.clone(), namespace);
        Ok(self.answer(objects.list(&ListParams::default().labels(labels)))?.items)
    }

    /// Every pod.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn all_pods(&self) -> anyhow::Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::all(self.client.clone());
        Ok(self.answer(pods.list(&ListParams::default()))?.items)
    }

    /// Waits until a node says that it is Ready.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn wait_until_node_ready(&self, name: &str, limit: Duration) -> anyhow::Result<()> {
        until(&format!("the node {name}"), limit, || {
            let status = self.node(name)?.status.unwrap_or_default();
            let ready = status.conditions.unwrap_or_default().into_iter().find(|condition| condition.type_ == "Ready");
            let ready = ready.context("it has not said whether it is Ready")?;
            anyhow::ensure!(ready.status == "True", "{}", ready.message.unwrap_or_default());
            Ok(())
        })
    }

    /// Waits until a node has so much of a resource that pods may ask for.
    ///
    /// # Errors
    /// When it has another amount at the end of `limit`.
    pub fn wait_for_allocatable(&self, node: &str, resource: &str, amount: u32, limit: Duration) -> anyhow::Result<()> {
        until(&format!("{amount} of {resource} on {node}"), limit, || {
            let found = self.allocatable(node, resource)?;
            anyhow::ensure!(found == amount, "it has {found}");
            Ok(())
        })
    }

    /// How much of a resource pods on a node may ask for; 0 where the node does not know it.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn allocatable(&self, node: &str, resource: &str) -> anyhow::Result<u32> {
        let allocatable = self.node(node)?.status.and_then(|status| status.allocatable).unwrap_or_default();
        allocatable.get(resource).map_or(Ok(0), |amount| amount.0.parse().context("an amount that is no number"))
    }

    /// Labels of a node by name.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn labels(&self, node: &str) -> anyhow::Result<std::collections::BTreeMap<String, String>> {
        Ok(self.node(node)?.metadata.labels.unwrap_or_default())
    }

    /// Waits until a namespace has the account that its pods run as.
    pub(crate) fn wait_for_account(&self, namespace: &str, limit: Duration) -> anyhow::Result<()> {
        until(&format!("the service account of {namespace}"), limit, || {
            let account: Option<ServiceAccount> = self.object(namespace, "default")?;
            account.map(|_account| ()).context("there is none")
        })
    }
}

fn http_get(path: &str) -> anyhow::Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}
