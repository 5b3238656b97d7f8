//! The agent beside an API server: labels, the node's own configuration, Events, evictions, uninstalling.

use std::fs;
use std::path::PathBuf;

use cotenant_testkit::api_server::ApiServer;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{GPU, Node, Program, RESOURCE, SHARED, is_alive, uid, until};

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SLICED: &str = "version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 3}]}}\n";

/// A node and the API server of its cluster.
struct Cluster {
    node: Node,
    server: ApiServer,
}

impl Cluster {
    fn new(configuration: &str, labels: &Value) -> Self {
        let cluster = Self { node: Node::new(configuration), server: ApiServer::start().expect("a server") };
        cluster.server.write_kubeconfig(&cluster.kubeconfig()).expect("written");
        cluster.relabel(labels);
        cluster
    }

    fn kubeconfig(&self) -> PathBuf {
        self.node.path("kubeconfig")
    }

    fn relabel(&self, labels: &Value) {
        let node =
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "u1", "labels": labels}});
        self.server.put(NODES, node);
    }

    fn agent(&self, more: &[&str]) -> Program {
        let mut command = self.node.agent_command();
        command.args(["--api=true", "--kubeconfig"]).arg(self.kubeconfig()).args(more);
        self.node.start("agent.log", &mut command)
    }

    fn metadata(&self) -> Value {
        self.server.object(NODES, "n1").expect("a node")["metadata"].clone()
    }

    fn label(&self, key: &str) -> Option<String> {
        self.metadata()["labels"][format!("nvidia.com/{key}")].as_str().map(str::to_owned)
    }

    fn pod(&self, name: &str, owner: &str) {
        let metadata = json!({"name": name, "namespace": "default", "uid": uid(name),
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": owner, "uid": "o",
                "controller": true}]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "n1"},
            "status": {"phase": "Running"}});
        self.server.put(PODS, pod);
    }

    fn has_event(&self, reason: &str) -> bool {
        let collections =
            ["default", "kube-system"].map(|one| format!("/apis/events.k8s.io/v1/namespaces/{one}/events"));
        let mut events = collections.iter().flat_map(|collection| self.server.objects(collection));
        events.any(|event| event["reason"] == reason)
    }
}

#[tokio::test]
async fn the_nodes_labels_say_how_its_gpus_are_shared_and_follow_an_edit() {
    let cluster = Cluster::new(SLICED, &json!({"kept": "yes"}));
    let _agent = cluster.agent(&[]);
    cluster.node.until_healthy(RESOURCE, 3).await;
    until("the labels are set", || cluster.label("gpu.sharing-strategy").as_deref() == Some("time-slicing"));
    assert_eq!(cluster.label("gpu.replicas").as_deref(), Some("3"));
    cluster.node.configure(&SLICED.replace('3', "5"));
    until("the labels follow", || cluster.label("gpu.replicas").as_deref() == Some("5"));
    assert_eq!(cluster.metadata()["labels"]["kept"], "yes");
    until("the edit is an Event", || cluster.has_event("ConfigPlan"));
}

#[tokio::test]
async fn the_nodes_label_chooses_its_configuration_also_at_a_start_without_the_api_server() {
    let mut cluster = Cluster::new("version: v1\n", &json!({"nvidia.com/device-plugin.config": "sliced"}));
    let folder = cluster.node.path("configs");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("default"), "version: v1\n").expect("written");
    fs::write(folder.join("sliced"), SLICED).expect("written");
    let configs = folder.display().to_string();
    let agent = cluster.agent(&["--config-directory", &configs]);
    cluster.node.until_healthy(RESOURCE, 3).await;
    cluster.relabel(&json!({}));
    cluster.node.until_healthy(RESOURCE, 1).await;
    cluster.relabel(&json!({"nvidia.com/device-plugin.config": "sliced"}));
    cluster.node.until_healthy(RESOURCE, 3).await;
    drop(agent);
    cluster.server.stop();
    let registered = cluster.node.kubelet.registrations().len();
    let _next = cluster.agent(&["--config-directory", &configs]);
    cluster.node.kubelet.until(|kubelet| kubelet.registrations().len() > registered).await.expect("registered");
    cluster.node.until_healthy(RESOURCE, 3).await;
}

#[tokio::test]
async fn pods_in_the_way_of_an_edit_are_evicted_where_the_file_allows_it() {
    let cluster = Cluster::new(SLICED, &json!({}));
    let _agent = cluster.agent(&[]);
    cluster.node.until_healthy(RESOURCE, 3).await;
    cluster.pod("a", "models");
    cluster.node.admit("a", RESOURCE).await;
    let whole = "version: v1\ncotenant: {drain: allow}\n";
    cluster.node.configure(whole);
    until("the pod is told to go", || {
        cluster.server.object(PODS, "a").is_none_or(|pod| !pod["metadata"]["deletionTimestamp"].is_null())
    });
    assert_eq!(cluster.node.kubelet.healthy(RESOURCE), 0, "nobody else gets a share meanwhile\n{}", cluster.node.log());
    cluster.node.kubelet.end("default", "a");
    cluster.node.until_healthy(RESOURCE, 1).await;
}

#[tokio::test]
async fn an_api_server_that_is_away_stops_nothing() {
    let mut cluster = Cluster::new(SLICED, &json!({}));
    let _agent = cluster.agent(&[]);
    cluster.node.until_healthy(RESOURCE, 3).await;
    until("the labels are set", || cluster.label("gpu.replicas").is_some());
    cluster.server.stop();
    cluster.node.configure(&SLICED.replace('3', "4"));
    cluster.node.until_healthy(RESOURCE, 4).await;
    cluster.node.admit("a", RESOURCE).await;
    cluster.server.start_again().expect("back");
    until("the labels follow", || cluster.label("gpu.replicas").as_deref() == Some("4"));
}

#[tokio::test]
async fn the_pods_of_a_fault_are_told_and_a_repeat_offender_is_quarantined() {
    let shared =
        format!("{SHARED}cotenant: {{faults: {{grace: 1s, quarantine: {{after: 2, within: 1h, lasts: 1h}}}}}}\n");
    let cluster = Cluster::new(&shared, &json!({}));
    let node = &cluster.node;
    let _keeper = node.keeper();
    cluster.pod("culprit", "models");
    let _agent = cluster.agent(&["--proc-root", &node.path("proc").display().to_string()]);
    node.until_healthy(RESOURCE, 4).await;
    let given = node.admit("culprit", RESOURCE).await;
    for fault in 1..=2 {
        let client = node.client(&given);
        node.adopt(&client, "culprit");
        node.clients(fault);
        client.signal(Signal::USR1);
        node.until_healthy(RESOURCE, 0).await;
        client.end();
        node.until_healthy(RESOURCE, 4).await;
    }
    until("the pod is told", || cluster.has_event("MpsFaultCaused"));
    until("its workload is quarantined", || cluster.has_event("Quarantined"));
    assert!(node.log().contains("StatefulSet/default/models"), "{}", node.log());
}

#[tokio::test]
async fn an_uninstallation_leaves_nothing_behind_and_says_so() {
    let cluster = Cluster::new(SHARED, &json!({}));
    let node = &cluster.node;
    let mut keeper = node.keeper();
    let agent = cluster.agent(&["--device-list-strategy=cdi-cri"]);
    node.until_healthy(RESOURCE, 4).await;
    let daemon = node.daemon(GPU).expect("a daemon");
    until("the labels are set", || cluster.label("gpu.replicas").is_some());
    assert!(node.path("cdi").read_dir().is_ok_and(|mut entries| entries.next().is_some()));
    let mut metadata = cluster.metadata();
    metadata["annotations"] = json!({"cotenant.dev/uninstall": "requested"});
    cluster.server.put(NODES, json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata}));
    until("it is done", || cluster.metadata()["annotations"]["cotenant.dev/uninstall"] == "done");
    assert_eq!(cluster.label("gpu.replicas"), None);
    assert!(!is_alive(daemon));
    assert_eq!(keeper.wait(), Some(0));
    assert!(!node.path("mps").exists() && !node.path("state").exists());
    assert!(node.path("cdi").read_dir().is_ok_and(|mut entries| entries.next().is_none()));
    let sockets = || node.kubelet.device_plugins().read_dir().expect("listed").flatten();
    until("the plugin's socket is gone", || {
        !sockets().any(|entry| entry.file_name().to_string_lossy().starts_with("cotenant"))
    });
    assert_eq!(agent.end(), Some(0), "{}", node.log());
}
