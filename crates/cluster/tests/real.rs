//! The same against a real API server, with etcd behind it and nothing else: no controllers, no nodes, no kubelet.
//!
//! `COTENANT_KUBECONFIG` names an administrator's kubeconfig. What is made is removed again.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod until;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cotenant_cluster::install::{Installation, Release, Values};
use cotenant_cluster::uninstall::{Installation as Presence, NodeOutcome, NodeUninstall};
use cotenant_cluster::{
    Client, Event, EventKind, EventReporter, Eviction, Labels, NodeWatch, PodWatch, Regarding, Source,
};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event as ApiEvent;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use until::until;

/// A namespace of this run: without controllers one that was deleted never quite goes.
fn namespace() -> String {
    format!("gpu-trial-{}", std::process::id())
}

fn kubeconfig() -> PathBuf {
    std::env::var_os("COTENANT_KUBECONFIG").map(PathBuf::from).expect("COTENANT_KUBECONFIG names a kubeconfig")
}

/// A client that asks without our code, to arrange and to look.
async fn administrator() -> kube::Client {
    let config = Kubeconfig::read_from(kubeconfig()).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.expect("usable");
    kube::Client::try_from(config).expect("a client")
}

fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

async fn make<K>(api: &Api<K>, object: Value)
where
    K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    match api.create(&PostParams::default(), &typed(object)).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        made => drop(made.unwrap_or_else(|error| panic!("{error}"))),
    }
}

fn pod(name: &str, on: &str, account: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"nodeName": on, "serviceAccountName": account,
        "containers": [{"name": "c", "image": "i"}]}})
}

/// A client with the rights of the agent's pod on `node`.
async fn agent(administrator: &kube::Client, node: &str) -> Client {
    let pods: Api<Pod> = Api::namespaced(administrator.clone(), &namespace());
    let name = format!("agent-{node}");
    make(&pods, pod(&name, node, "cotenant-service-account")).await;
    let uid = pods.get(&name).await.expect("the agent's pod").metadata.uid;
    let bound = BoundObjectReference {
        kind: Some("Pod".to_owned()),
        name: Some(name),
        uid,
        api_version: Some("v1".to_owned()),
    };
    let spec =
        TokenRequestSpec { bound_object_ref: Some(bound), audiences: Vec::new(), expiration_seconds: Some(3600) };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let accounts: Api<ServiceAccount> = Api::namespaced(administrator.clone(), &namespace());
    let granted = accounts.create_token_request("cotenant-service-account", &PostParams::default(), &request).await;
    let token = granted.expect("a token").status.expect("a token").token;
    let mut config: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(kubeconfig()).expect("read")).expect("YAML");
    config["users"][0]["user"] = json!({"token": token});
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("agent");
    std::fs::write(&path, config.to_string()).expect("written");
    Client::new(&Source::File(path)).await.expect("a client")
}

fn labels(count: &str) -> Labels {
    Labels::from([("nvidia.com/gpu.count".to_owned(), count.to_owned())])
}

async fn held(administrator: &kube::Client, node: &str) -> Option<String> {
    let nodes: Api<Node> = Api::all(administrator.clone());
    nodes.get(node).await.expect("the node").metadata.labels.unwrap_or_default().get("nvidia.com/gpu.count").cloned()
}

#[tokio::test]
#[ignore = "needs a real API server, named by COTENANT_KUBECONFIG"]
async fn a_real_api_server_takes_everything_and_lets_an_agent_touch_its_own_node_only() {
    let client = Client::new(&Source::File(kubeconfig())).await.expect("a client");
    let raw = administrator().await;
    let release = Release { name: "cotenant".to_owned(), namespace: namespace() };
    let installation = Installation::new(Values::new(&[]).expect("defaults"), release).expect("an installation");
    let objects: Vec<_> = [installation.namespace_object()].into_iter().chain(installation.objects()).collect();
    client.apply_objects(&objects).await.unwrap_or_else(|error| panic!("{error}"));
    client.apply_objects(&objects).await.expect("again");
    let nodes: Api<Node> = Api::all(raw.clone());
    for name in ["trial-1", "trial-2"] {
        make(&nodes, json!({"metadata": {"name": name}})).await;
    }

    let agent = agent(&raw, "trial-1").await;
    own_node_only(&raw, &agent).await;
    labels_of_its_own(&raw, &agent, &nodes).await;
    events(&raw, &agent).await;
    eviction(&raw, &agent).await;
    watches(&agent).await;
    assert_eq!(agent.installation(&namespace(), "cotenant").await, Presence::Present);
    uninstalling(&raw, &client, &agent, &installation).await;

    client.delete_objects(&objects).await.expect("deleted");
    assert!(matches!(agent.installation(&namespace(), "cotenant").await, Presence::Unknown(_)), "its rights went too");
    for name in ["trial-1", "trial-2"] {
        drop(nodes.delete(name, &DeleteParams::default()).await.expect("deleted"));
    }
}

async fn own_node_only(raw: &kube::Client, agent: &Client) {
    agent.set_labels("trial-1", &labels("2"), |_key| false).await.expect("its own");
    assert_eq!(held(raw, "trial-1").await.as_deref(), Some("2"));
    // An admission policy comes into force some time after it was made.
    let tries = AtomicU32::new(10);
    let denied = || async {
        let another = tries.fetch_add(1, Ordering::Relaxed).to_string();
        agent.set_labels("trial-2", &labels(&another), |_key| false).await.is_err()
    };
    until("the policy is in force", denied).await;
    let refused = agent.set_labels("trial-2", &labels("3"), |_key| false).await.expect_err("another's").to_string();
    assert!(refused.contains("an agent of cotenant may change its own node only"), "{refused}");
}

async fn labels_of_its_own(raw: &kube::Client, agent: &Client, nodes: &Api<Node>) {
    let change = agent.set_labels("trial-1", &labels("4"), |_key| false).await.expect("its own still");
    assert_eq!(change.set.into_iter().collect::<Vec<_>>(), ["nvidia.com/gpu.count"]);
    assert!(agent.set_labels("trial-1", &labels("4"), |_key| false).await.expect("the same").is_empty());
    let theirs = Patch::Merge(json!({"metadata": {"labels": {"zone": "a", "nvidia.com/gpu.count": "9"}}}));
    drop(nodes.patch("trial-1", &PatchParams::default(), &theirs).await.expect("somebody else's change"));
    agent.set_labels("trial-1", &labels("4"), |_key| false).await.expect("put back");
    assert_eq!(held(raw, "trial-1").await.as_deref(), Some("4"));
    let missing = agent.set_labels("trial-9", &labels("1"), |_key| false).await.expect_err("no such node");
    assert!(missing.is_not_found(), "{missing}");
}

async fn events(raw: &kube::Client, agent: &Client) {
    let (reporter, events) = EventReporter::new(agent.clone(), "trial-1");
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(reporter.run(stop.clone()));
    let about = |regarding: Regarding| Event {
        regarding,
        kind: EventKind::Warning,
        reason: "MpsFault",
        action: "Recovering",
        note: "a trial".to_owned(),
    };
    let pod = Regarding::Pod { namespace: namespace(), name: "p".to_owned(), uid: "u".to_owned() };
    events.report(about(pod.clone()));
    events.report(about(pod.clone()));
    events.report(about(Regarding::node("trial-1")));
    let told: Api<ApiEvent> = Api::namespaced(raw.clone(), &namespace());
    until("told", || async { told.list(&ListParams::default()).await.is_ok_and(|events| events.items.len() == 1) })
        .await;
    events.report(about(pod));
    let counted = || async {
        let list = told.list(&ListParams::default()).await.expect("a list");
        list.items.iter().any(|event| event.series.as_ref().is_some_and(|series| series.count == 3))
    };
    until("counted", counted).await;
    let about_node: Api<ApiEvent> = Api::namespaced(raw.clone(), "default");
    let list = about_node.list(&ListParams::default()).await.expect("a list");
    assert!(list.items.iter().any(|event| event.note.as_deref() == Some("a trial")));
    assert_eq!(events.dropped(), 0);
    stop.cancel();
    tasks.join_all().await;
}

async fn eviction(raw: &kube::Client, agent: &Client) {
    let pods: Api<Pod> = Api::namespaced(raw.clone(), &namespace());
    make(&pods, pod("chat", "trial-1", "cotenant-service-account")).await;
    let running = Patch::Merge(json!({"status": {"phase": "Running"}}));
    drop(pods.patch_status("chat", &PatchParams::default(), &running).await.expect("running"));
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(raw.clone(), &namespace());
    make(&budgets, json!({"metadata": {"name": "chat"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "chat"}}}})).await;
    let chat = agent.pod(&namespace(), "chat").await.expect("asked").expect("there");
    let blocked = agent.evict(&chat, None).await.expect("asked");
    assert!(matches!(blocked, Eviction::Blocked { .. }), "{blocked:?}");
    drop(budgets.delete("chat", &DeleteParams::default()).await.expect("deleted"));
    let another = cotenant_cluster::Pod { uid: "00000000-0000-0000-0000-000000000000".to_owned(), ..chat.clone() };
    assert_eq!(agent.evict(&another, None).await.expect("asked"), Eviction::Gone);
    assert_eq!(agent.evict(&chat, Some(Duration::ZERO)).await.expect("asked"), Eviction::Accepted);
    until("gone", || async { agent.pod(&namespace(), "chat").await.expect("asked").is_none() }).await;
}

async fn watches(agent: &Client) {
    let (nodes, pods) = (NodeWatch::new(agent.clone(), "trial-1"), PodWatch::new(agent.clone(), "trial-1"));
    let (facts, seen) = (nodes.facts(), pods.pods());
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(nodes.run(stop.clone()));
    tasks.spawn(pods.run(stop.clone()));
    until("heard", || async { facts.borrow().is_some() && seen.is_listed() }).await;
    assert!(seen.by_name(&namespace(), "agent-trial-1").is_some());
    stop.cancel();
    tasks.join_all().await;
}

async fn uninstalling(raw: &kube::Client, client: &Client, agent: &Client, installation: &Installation) {
    let pods: Api<Pod> = Api::namespaced(raw.clone(), &namespace());
    let running = json!({"metadata": {"labels": {"app.kubernetes.io/component": "agent",
        "app.kubernetes.io/instance": "cotenant", "app.kubernetes.io/name": "cotenant"}}});
    drop(pods.patch("agent-trial-1", &PatchParams::default(), &Patch::Merge(running)).await.expect("labelled"));
    let phase = Patch::Merge(json!({"status": {"phase": "Running"}}));
    drop(pods.patch_status("agent-trial-1", &PatchParams::default(), &phase).await.expect("running"));
    client.set_labels("trial-2", &labels("8"), |_key| false).await.expect("left by an agent that is gone");
    let nodes = NodeWatch::new(agent.clone(), "trial-1");
    let mut facts = nodes.facts();
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(nodes.run(stop.clone()));
    let agent = agent.clone();
    tasks.spawn(async move {
        let asked = facts
            .wait_for(|facts| facts.as_ref().is_some_and(|facts| facts.uninstall == Some(NodeUninstall::Requested)));
        drop(asked.await.expect("asked"));
        agent.acknowledge_uninstall("trial-1", &NodeUninstall::Done).await.expect("acknowledged");
    });
    let patience = Duration::from_secs(20);
    let selector = installation.agent_selector();
    let outcomes = client.uninstall_nodes(&namespace(), &selector, patience, |_line| {}).await.expect("uninstalled");
    assert_eq!(outcomes.get("trial-1"), Some(&NodeOutcome::Clean));
    assert_eq!(outcomes.get("trial-2"), Some(&NodeOutcome::NoAgent));
    for node in ["trial-1", "trial-2"] {
        assert_eq!(held(raw, node).await, None, "{node}");
    }
    stop.cancel();
    tasks.join_all().await;
}
