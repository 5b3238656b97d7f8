//! What is said about pods and nodes, and asked of pods: events, evictions, look-ups, uninstalling.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;
mod until;

use std::sync::Mutex;
use std::time::Duration;

use cotenant_cluster::uninstall::{ANNOTATION, Installation, NodeOutcome, NodeUninstall};
use cotenant_cluster::{Client, Event, EventKind, EventReporter, Events, Eviction, Labels, NodeWatch, Pod, Regarding};
use cotenant_testkit::api_server::{Answer, ApiServer};
use serde_json::{Value, json};
use support::{NODES, cluster, node};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use until::until;

const PODS: &str = "/api/v1/namespaces/ai/pods";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/ai/events";
const NODE_EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const SETS: &str = "/apis/apps/v1/namespaces/gpu/daemonsets";
const AGENTS: &str = "/api/v1/namespaces/gpu/pods";

fn pod() -> Pod {
    Pod { namespace: "ai".to_owned(), name: "chat".to_owned(), uid: "u1".to_owned(), ..Pod::default() }
}

fn event(regarding: Regarding, note: &str) -> Event {
    Event { regarding, kind: EventKind::Warning, reason: "MpsFault", action: "Recovering", note: note.to_owned() }
}

fn reporting(client: &Client) -> (Events, CancellationToken, JoinSet<()>) {
    let (reporter, events) = EventReporter::new(client.clone(), "n1");
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(reporter.run(stop.clone()));
    (events, stop, tasks)
}

#[tokio::test]
async fn an_event_is_complete_and_a_repeat_becomes_its_count() {
    let (server, client) = cluster().await;
    let (events, stop, mut tasks) = reporting(&client);
    events.report(event(Regarding::from(&pod()), "a process of it faulted"));
    until("told", || async { server.objects(EVENTS).len() == 1 }).await;
    let told = server.objects(EVENTS).remove(0);
    assert_eq!(
        told["regarding"],
        json!({"apiVersion": "v1", "kind": "Pod", "namespace": "ai", "name": "chat", "uid": "u1"})
    );
    for (field, wanted) in [
        ("type", "Warning"),
        ("reason", "MpsFault"),
        ("action", "Recovering"),
        ("note", "a process of it faulted"),
        ("reportingController", "cotenant.dev/node"),
        ("reportingInstance", "n1"),
    ] {
        assert_eq!(told[field], wanted, "{field}");
    }
    assert!(told["eventTime"].is_string() && told["series"].is_null(), "{told}");
    events.report(event(Regarding::from(&pod()), "a process of it faulted"));
    until("counted", || async { server.objects(EVENTS)[0]["series"]["count"] == 2 }).await;
    assert_eq!(server.objects(EVENTS).len(), 1);
    events.report(event(Regarding::node("n1"), "GPU-1 is lost"));
    until("about the node", || async { server.objects(NODE_EVENTS).len() == 1 }).await;
    stop.cancel();
    tasks.join_next().await;
}

#[tokio::test]
async fn what_is_said_while_the_api_server_is_away_is_told_once_it_is_back_with_its_count() {
    let (mut server, client) = cluster().await;
    server.stop();
    let (events, stop, mut tasks) = reporting(&client);
    for _time in 0..5 {
        events.report(event(Regarding::from(&pod()), "a process of it faulted"));
    }
    events.report(event(Regarding::from(&pod()), "another"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.answer("POST", 1, Answer::page(503));
    server.start_again().expect("started");
    until("both", || async { server.objects(EVENTS).len() == 2 }).await;
    let counts: Vec<Value> = server.objects(EVENTS).into_iter().map(|told| told["series"]["count"].clone()).collect();
    assert_eq!(counts, [json!(5), Value::Null]);
    assert_eq!(events.dropped(), 0);
    stop.cancel();
    tasks.join_next().await;
}

#[tokio::test]
async fn an_event_that_can_never_be_told_does_not_hold_up_the_next_and_what_is_left_is_told_at_the_end() {
    let (server, client) = cluster().await;
    let (events, stop, mut tasks) = reporting(&client);
    server.answer("POST", 1, Answer::status(403, "Forbidden", "the namespace is being terminated"));
    events.report(event(Regarding::from(&pod()), "lost"));
    until("dropped", || async { events.dropped() == 1 }).await;
    events.report(event(Regarding::from(&pod()), "last words"));
    stop.cancel();
    tasks.join_next().await;
    assert_eq!(server.objects(EVENTS)[0]["note"], "last words");
}

#[tokio::test]
async fn an_eviction_carries_the_uid_and_the_grace_period() {
    let (server, client) = cluster().await;
    server.put(PODS, json!({"metadata": {"name": "chat", "uid": "u1"}}));
    let outcome = client.evict(&pod(), Some(Duration::from_secs(5))).await.expect("asked");
    assert_eq!(outcome, Eviction::Accepted);
    let body = server.requests().pop().expect("a request").body;
    assert_eq!(body["deleteOptions"], json!({"gracePeriodSeconds": 5, "preconditions": {"uid": "u1"}}));
    assert!(client.pod("ai", "chat").await.expect("asked").is_some_and(|pod| pod.terminating));
}

#[tokio::test]
async fn a_budget_blocks_an_eviction_and_another_pod_of_the_same_name_is_left_alone() {
    let (server, client) = cluster().await;
    server.put(PODS, json!({"metadata": {"name": "chat", "uid": "u1"}}));
    let mut refusal: Value = serde_json::from_str(
        &Answer::status(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.")
            .body,
    )
    .expect("JSON");
    refusal["details"] = json!({"retryAfterSeconds": 10, "causes": []});
    server.answer("eviction", 1, Answer { body: refusal.to_string(), ..Answer::status(429, "", "") });
    let Eviction::Blocked { why, retry_after } = client.evict(&pod(), None).await.expect("asked") else {
        panic!("not blocked");
    };
    assert!(why.contains("disruption budget") && retry_after == Some(Duration::from_secs(10)), "{why} {retry_after:?}");
    server.put(PODS, json!({"metadata": {"name": "chat", "uid": "u2"}}));
    assert_eq!(client.evict(&pod(), None).await.expect("asked"), Eviction::Gone);
    server.delete(PODS, "chat");
    assert_eq!(client.evict(&pod(), None).await.expect("asked"), Eviction::Gone);
    assert_eq!(client.pod("ai", "chat").await.expect("asked"), None);
    server.answer(
        "eviction",
        1,
        Answer::status(500, "InternalError", "This pod has more than one PodDisruptionBudget"),
    );
    let error = client.evict(&pod(), None).await.expect_err("two budgets").to_string();
    assert!(error.starts_with("cannot evict pod ai/chat: ") && error.contains("more than one"), "{error}");
}

#[tokio::test]
async fn an_agent_tells_an_upgrade_from_its_removal_and_from_not_knowing() {
    let (mut server, client) = cluster().await;
    assert_eq!(client.installation("gpu", "cotenant").await, Installation::Removed);
    server.put(SETS, json!({"metadata": {"name": "cotenant"}}));
    assert_eq!(client.installation("gpu", "cotenant").await, Installation::Present);
    server.put(SETS, json!({"metadata": {"name": "cotenant", "deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert_eq!(client.installation("gpu", "cotenant").await, Installation::Removed);
    server.answer("daemonsets", 1, Answer::status(403, "Forbidden", "daemonsets.apps is forbidden"));
    assert!(matches!(client.installation("gpu", "cotenant").await, Installation::Unknown(_)));
    server.stop();
    assert!(matches!(client.installation("gpu", "cotenant").await, Installation::Unknown(_)));
}

fn agent(server: &ApiServer, on: &str) {
    server.put(
        AGENTS,
        json!({"metadata": {"name": format!("agent-{on}"), "labels": {"role": "agent"}},
        "spec": {"nodeName": on, "containers": []}, "status": {"phase": "Running"}}),
    );
}

#[tokio::test]
async fn uninstalling_waits_for_every_agent_and_takes_labels_off_nodes_that_have_none() {
    let (server, client) = cluster().await;
    let ours = Labels::from([("nvidia.com/gpu.count".to_owned(), "2".to_owned())]);
    for name in ["n1", "dead", "broken"] {
        server.put(NODES, node(name, &json!({"zone": "a"})));
        client.set_labels(name, &ours, |_key| false).await.expect("set");
    }
    server.put(NODES, node("without", &json!({"zone": "a"})));
    agent(&server, "n1");
    agent(&server, "broken");
    let mut agents = JoinSet::new();
    let stop = CancellationToken::new();
    for (name, answer) in [("n1", NodeUninstall::Done), ("broken", NodeUninstall::Failed("GPU-1 is busy".to_owned()))] {
        let (client, nodes) = (client.clone(), NodeWatch::new(client.clone(), name));
        let mut facts = nodes.facts();
        agents.spawn(nodes.run(stop.clone()));
        agents.spawn(async move {
            let asked = |facts: &Option<cotenant_cluster::NodeFacts>| {
                facts.as_ref().is_some_and(|facts| facts.uninstall == Some(NodeUninstall::Requested))
            };
            facts.wait_for(asked).await.expect("asked");
            client.acknowledge_uninstall(name, &answer).await.expect("acknowledged");
        });
    }
    let said = Mutex::new(Vec::new());
    let say = |line: &str| said.lock().expect("no panic").push(line.to_owned());
    let patience = Duration::from_secs(20);
    let outcomes = client.uninstall_nodes("gpu", "role=agent", patience, say).await.expect("uninstalled");
    let outcome = |name: &str| outcomes.get(name).cloned();
    assert_eq!(outcome("n1"), Some(NodeOutcome::Clean));
    assert_eq!(outcome("broken"), Some(NodeOutcome::Failed("GPU-1 is busy".to_owned())));
    assert_eq!(outcome("dead"), Some(NodeOutcome::NoAgent));
    assert_eq!(outcome("without"), None);
    for node in server.objects(NODES) {
        assert_eq!(node["metadata"]["labels"], json!({"zone": "a"}), "{node}");
        assert!(node["metadata"]["annotations"][ANNOTATION].is_null(), "{node}");
    }
    assert!(said.lock().expect("no panic").contains(&"node n1: nothing is left".to_owned()));
    stop.cancel();
    agents.join_all().await;
}

#[tokio::test]
async fn an_agent_that_never_answers_is_not_waited_for_for_ever() {
    let (server, client) = cluster().await;
    server.put(NODES, node("n1", &json!({})));
    agent(&server, "n1");
    let outcomes =
        client.uninstall_nodes("gpu", "role=agent", Duration::from_secs(2), |_line| {}).await.expect("asked");
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [("n1".to_owned(), NodeOutcome::Silent)]);
}
