//! Labels of a node: ours, and nobody else's.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;
mod until;

use cotenant_cluster::{Client, LabelChange, LabelKeeper, Labels, NodeWatch};
use cotenant_testkit::api_server::{Answer, ApiServer};
use serde_json::{Value, json};
use support::{NODES, cluster, node};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use until::until;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn held(server: &ApiServer) -> Value {
    server.object(NODES, "n1").map_or(Value::Null, |node| node["metadata"]["labels"].clone())
}

fn owned(key: &str) -> bool {
    key.starts_with("nvidia.com/gpu.")
}

async fn set(client: &Client, wanted: &Labels) -> LabelChange {
    client.set_labels("n1", wanted, owned).await.expect("set")
}

#[tokio::test]
async fn labels_are_set_changed_and_removed_and_those_of_others_stay() {
    let (server, client) = cluster().await;
    server.put(NODES, node("n1", &json!({"zone": "a", "nvidia.com/gpu.stale": "x", "nvidia.com/mig.config": "m"})));
    let change = set(&client, &labels(&[("nvidia.com/gpu.count", "2"), ("nvidia.com/mps.capable", "true")])).await;
    assert_eq!(change.set.into_iter().collect::<Vec<_>>(), ["nvidia.com/gpu.count", "nvidia.com/mps.capable"]);
    assert_eq!(change.removed.into_iter().collect::<Vec<_>>(), ["nvidia.com/gpu.stale"]);
    set(&client, &labels(&[("nvidia.com/gpu.count", "4")])).await;
    assert_eq!(held(&server), json!({"zone": "a", "nvidia.com/mig.config": "m", "nvidia.com/gpu.count": "4"}));
    client.remove_labels("n1", |_key| false).await.expect("removed");
    assert_eq!(held(&server), json!({"zone": "a", "nvidia.com/mig.config": "m"}));
}

#[tokio::test]
async fn nothing_is_written_when_everything_is_as_wanted() {
    let (server, client) = cluster().await;
    server.put(NODES, node("n1", &json!({})));
    let wanted = labels(&[("nvidia.com/gpu.count", "2")]);
    set(&client, &wanted).await;
    let before = server.requests().len();
    assert!(set(&client, &wanted).await.is_empty());
    let requests = server.requests();
    assert!(requests[before..].iter().all(|request| request.request.starts_with("GET")), "{requests:?}");
}

#[tokio::test]
async fn a_label_that_stood_before_becomes_ours_and_goes_with_us() {
    let (server, client) = cluster().await;
    server.put(NODES, node("n1", &json!({"nvidia.com/gpu.count": "2"})));
    assert!(set(&client, &labels(&[("nvidia.com/gpu.count", "2")])).await.is_empty());
    client.remove_labels("n1", |_key| false).await.expect("removed");
    assert_eq!(held(&server), json!({}));
}

#[tokio::test]
async fn a_conflict_is_tried_again_and_a_refusal_is_told() {
    let (server, client) = cluster().await;
    server.put(NODES, node("n1", &json!({})));
    server.answer("PATCH /api/v1/nodes/n1", 2, Answer::status(409, "Conflict", "the object has been modified"));
    set(&client, &labels(&[("nvidia.com/gpu.count", "2")])).await;
    assert_eq!(held(&server), json!({"nvidia.com/gpu.count": "2"}));
    server.answer("PATCH", 1, Answer::status(403, "Forbidden", "nodes \"n1\" is forbidden"));
    let error = client.set_labels("n1", &labels(&[]), owned).await.expect_err("refused");
    assert!(error.is_forbidden() && !error.is_transient());
    assert_eq!(
        error.to_string(),
        "cannot set the labels of node n1: the API server answered 403 Forbidden: nodes \"n1\" is forbidden"
    );
}

#[tokio::test]
async fn a_node_that_is_gone_has_no_labels_to_remove_and_none_can_be_set() {
    let (_server, client) = cluster().await;
    assert!(client.remove_labels("n1", owned).await.expect("nothing to do").is_empty());
    assert!(client.set_labels("n1", &labels(&[]), owned).await.expect_err("no node").is_not_found());
}

#[tokio::test]
async fn the_keeper_puts_labels_back_that_somebody_changed_and_survives_an_absence() {
    let (mut server, client) = cluster().await;
    server.put(NODES, node("n1", &json!({})));
    let (wish, wanted) = watch::channel(Some(labels(&[("nvidia.com/gpu.count", "2")])));
    let nodes = NodeWatch::new(client.clone(), "n1");
    let keeper = LabelKeeper { client, node: "n1".to_owned(), facts: nodes.facts(), wanted, owned };
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(nodes.run(stop.clone()));
    tasks.spawn(keeper.run(stop.clone()));
    until("set", || async { held(&server) == json!({"nvidia.com/gpu.count": "2"}) }).await;
    server.put(NODES, node("n1", &json!({"nvidia.com/gpu.count": "7", "nvidia.com/gpu.old": "1"})));
    until("put back", || async { held(&server) == json!({"nvidia.com/gpu.count": "2"}) }).await;
    server.stop();
    wish.send_replace(Some(labels(&[("nvidia.com/gpu.count", "8")])));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    server.start_again().expect("started");
    until("set after the absence", || async { held(&server) == json!({"nvidia.com/gpu.count": "8"}) }).await;
    stop.cancel();
    tasks.join_all().await;
}
