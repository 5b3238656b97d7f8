//! What is heard of the node and its pods, whatever the API server does.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;
mod until;

use std::net::TcpListener;

use cotenant_cluster::{Client, NodeFacts, NodeWatch, PodWatch, Reachability, Source};
use cotenant_testkit::api_server::Answer;
use serde_json::{Value, json};
use support::{NODES, cluster, node};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use until::until;

const PODS: &str = "/api/v1/namespaces/ai/pods";

fn pod(name: &str, uid: &str, on: &str) -> Value {
    let status = json!({"phase": "Running", "containerStatuses": [{"name": "server", "image": "", "imageID": "",
        "ready": true, "restartCount": 0, "containerID": format!("containerd://{name}-container")}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": uid},
        "spec": {"nodeName": on, "containers": []}, "status": status})
}

fn config(facts: &watch::Receiver<Option<NodeFacts>>) -> Option<String> {
    facts.borrow().as_ref().and_then(|facts| facts.config().map(str::to_owned))
}

fn labelled(config: &str) -> Value {
    node("n1", &json!({"nvidia.com/device-plugin.config": config, "nvidia.com/mig.config": "all-1g.10gb"}))
}

#[tokio::test]
async fn the_labels_that_choose_a_configuration_are_followed_and_other_nodes_are_not() {
    let (server, client) = cluster().await;
    server.put(NODES, labelled("a"));
    server.put(NODES, node("n2", &json!({"nvidia.com/device-plugin.config": "other"})));
    let nodes = NodeWatch::new(client, "n1");
    let (facts, stop, mut tasks) = (nodes.facts(), CancellationToken::new(), JoinSet::new());
    tasks.spawn(nodes.run(stop.clone()));
    until("a", || async { config(&facts).as_deref() == Some("a") }).await;
    assert_eq!(
        facts.borrow().as_ref().and_then(|facts| facts.mig_config().map(str::to_owned)).as_deref(),
        Some("all-1g.10gb")
    );
    server.put(NODES, labelled("b"));
    until("b", || async { config(&facts).as_deref() == Some("b") }).await;
    server.delete(NODES, "n1");
    until("gone", || async { facts.borrow().is_none() }).await;
    stop.cancel();
    tasks.join_all().await;
    let asked = server.requests();
    assert!(asked.iter().all(|request| request.request.contains("fieldSelector=metadata.name%3Dn1")), "{asked:?}");
}

#[tokio::test]
async fn a_watch_survives_lost_history_pages_of_a_proxy_and_an_absence() {
    let (mut server, client) = cluster().await;
    server.put(NODES, labelled("a"));
    let reachability = client.reachability();
    let nodes = NodeWatch::new(client, "n1");
    let (facts, stop, mut tasks) = (nodes.facts(), CancellationToken::new(), JoinSet::new());
    tasks.spawn(nodes.run(stop.clone()));
    until("a", || async { config(&facts).as_deref() == Some("a") }).await;
    assert_eq!(*reachability.borrow(), Reachability::Reachable);

    server.forget_history();
    server.put(NODES, labelled("b"));
    until("b after 410", || async { config(&facts).as_deref() == Some("b") }).await;

    server.stop();
    until("away", || async { matches!(*reachability.borrow(), Reachability::Unreachable(_)) }).await;
    assert_eq!(config(&facts).as_deref(), Some("b"), "what was last heard stands");
    server.put(NODES, labelled("c"));
    server.answer("GET", 2, Answer::page(502));
    server.start_again().expect("started");
    until("c", || async { config(&facts).as_deref() == Some("c") }).await;
    assert_eq!(*reachability.borrow(), Reachability::Reachable);
    stop.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn an_agent_that_starts_while_the_api_server_is_away_hears_of_its_node_later() {
    let (mut server, client) = cluster().await;
    server.put(NODES, labelled("a"));
    server.stop();
    let nodes = NodeWatch::new(client, "n1");
    let (facts, stop, mut tasks) = (nodes.facts(), CancellationToken::new(), JoinSet::new());
    tasks.spawn(nodes.run(stop.clone()));
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    assert!(facts.borrow().is_none());
    server.start_again().expect("started");
    until("a", || async { config(&facts).as_deref() == Some("a") }).await;
    stop.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn pods_of_this_node_are_found_by_uid_name_and_container_also_just_after_they_went() {
    let (server, client) = cluster().await;
    server.put(PODS, pod("chat", "u1", "n1"));
    server.put(PODS, pod("elsewhere", "u2", "n2"));
    let watch = PodWatch::new(client, "n1");
    let (pods, stop, mut tasks) = (watch.pods(), CancellationToken::new(), JoinSet::new());
    assert!(!pods.is_listed());
    tasks.spawn(watch.run(stop.clone()));
    until("listed", || async { pods.is_listed() }).await;
    assert_eq!(pods.by_name("ai", "chat").map(|pod| pod.uid.clone()).as_deref(), Some("u1"));
    assert!(pods.by_uid("u2").is_none());
    server.put(PODS, pod("batch", "u3", "n1"));
    until("batch", || async { pods.by_uid("u3").is_some() }).await;
    server.delete(PODS, "chat");
    until("chat went", || async { pods.by_name("ai", "chat").is_none() }).await;
    let (pod, container) = pods.by_container("chat-container").expect("remembered");
    assert_eq!((pod.uid.as_str(), container.as_str()), ("u1", "server"));
    stop.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn pods_that_went_while_the_api_server_was_away_are_gone_after_it_is_back() {
    let (mut server, client) = cluster().await;
    server.put(PODS, pod("chat", "u1", "n1"));
    let watch = PodWatch::new(client, "n1");
    let (pods, stop, mut tasks) = (watch.pods(), CancellationToken::new(), JoinSet::new());
    tasks.spawn(watch.run(stop.clone()));
    until("listed", || async { pods.is_listed() }).await;
    server.stop();
    server.delete(PODS, "chat");
    server.put(PODS, pod("chat", "u9", "n1"));
    server.forget_history();
    server.start_again().expect("started");
    until("the new one", || async { pods.by_name("ai", "chat").is_some_and(|pod| pod.uid == "u9") }).await;
    assert_eq!(pods.all().len(), 1);
    stop.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn a_server_that_takes_a_connection_and_says_nothing_is_given_up_after_ten_seconds() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kubeconfig");
    let text = format!(
        "clusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]\nusers: [{{name: u, user: {{}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
    );
    std::fs::write(&path, text).expect("written");
    let client = Client::new(&Source::File(path)).await.expect("a client");
    let reachability = client.reachability();
    assert_eq!(*reachability.borrow(), Reachability::Unknown);
    let error = client.server_version().await.expect_err("silent");
    assert_eq!(error.to_string(), "cannot ask for the version: no answer of the API server within 10 s");
    assert!(error.is_transient() && matches!(*reachability.borrow(), Reachability::Unreachable(_)));
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kubeconfig");
    let missing = Client::new(&Source::File(path.clone())).await.expect_err("missing").to_string();
    assert_eq!(missing, format!("cannot use the kubeconfig {}", path.display()));
    std::fs::write(&path, "{nonsense").expect("written");
    Client::new(&Source::File(path)).await.expect_err("no YAML");
}
