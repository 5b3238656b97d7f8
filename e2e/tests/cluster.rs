//! The cluster itself: that tests stand on a real Kubernetes. The GPUs are simulated.

use std::time::Duration;

use e2e::Place;
use e2e::image::CLIENT;
use e2e::place::POD;
use e2e::wait::until;
use k8s_openapi::api::core::v1::{Pod, Service};

const SOON: Duration = Duration::from_secs(30);

/// A pod of the client image on the first node that runs a script.
fn pod(name: &str, extra: &str, script: &str) -> String {
    format!(
        r#"
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  nodeSelector: {{kubernetes.io/hostname: n1}}
  {extra}
  containers:
  - name: main
    image: {CLIENT}
    imagePullPolicy: Never
    command: ["/bin/sh", "-c", {script:?}]
"#
    )
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn pods_run_to_their_ends_and_say_what_they_print() {
    let place = Place::begin("ends").unwrap();
    place.apply(&(pod("good", "", "echo well") + &pod("bad", "", "echo ill; exit 3"))).unwrap();
    place.wait_for_phase("good", "Succeeded", POD).unwrap();
    place.wait_for_phase("bad", "Failed", POD).unwrap();
    assert_eq!((place.logs("good").unwrap().trim(), place.logs("bad").unwrap().trim()), ("well", "ill"));
    place.wait_for_event("good", "Started", SOON).unwrap();
    place.delete_pod("good").unwrap();
    assert!(place.pod("good").is_err());
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn a_service_is_reached_from_a_pod_of_either_node_and_the_pod_through_the_api() {
    let place = Place::begin("service").unwrap();
    let answer = r"printf 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n'";
    let server = pod("server", "", &format!("while :; do {answer} | nc -l -p 8080; done"));
    let service = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: server}\n\
                   spec: {selector: {app: server}, ports: [{port: 80, targetPort: 8080}]}\n";
    let far = pod("far", "", "sleep 600").replace("hostname: n1", "hostname: n2");
    place.apply(&(server + &pod("near", "", "sleep 600") + &far + service)).unwrap();
    for name in ["server", "near", "far"] {
        place.wait_until_running(name).unwrap();
    }
    let service: Option<Service> = place.kubernetes().object(place.namespace(), "server").unwrap();
    let address = service.unwrap().spec.unwrap().cluster_ip.unwrap();
    for name in ["near", "far"] {
        let heard =
            until(&format!("an answer to {name}"), SOON, || place.exec(name, &["nc", "-w", "2", &address, "80"]));
        assert!(heard.unwrap().contains("hello"));
    }
    let path = format!("/api/v1/namespaces/{}/pods/server:8080/proxy/", place.namespace());
    let heard = until("an answer through the API", SOON, || place.kubernetes().text(&path));
    assert_eq!(heard.unwrap(), "hello\n");
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn a_pod_lives_through_a_restart_of_its_kubelet() {
    let place = Place::begin("kubelet").unwrap();
    place.apply(&pod("steady", "", "sleep 600")).unwrap();
    let before = place.wait_until_running("steady").unwrap();
    let node = &place.cluster().nodes()[0];
    node.restart_kubelet().unwrap();
    // Only a kubelet that is back carries a command into the pod.
    until("the kubelet", SOON, || place.exec("steady", &["echo", "back"])).unwrap();
    let after = place.pod("steady").unwrap();
    let containers = |pod: &Pod| pod.status.clone().unwrap().container_statuses.unwrap();
    assert_eq!(containers(&before)[0].container_id, containers(&after)[0].container_id);
    assert_eq!(containers(&after)[0].restart_count, 0);
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn an_api_server_that_was_away_comes_back_with_everything() {
    let place = Place::begin("api").unwrap();
    place.apply(&pod("steady", "", "sleep 600")).unwrap();
    place.wait_until_running("steady").unwrap();
    place.cluster().stop_api().unwrap();
    assert!(place.kubernetes().ready().is_err());
    assert!(place.cluster().stop_api().is_err(), "it ran on");
    place.cluster().start_api().unwrap();
    assert_eq!(place.exec("steady", &["echo", "there"]).unwrap(), "there\n");
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn only_a_container_that_asks_for_gpus_gets_the_simulated_driver() {
    let place = Place::begin("driver").unwrap();
    let asks = pod("asks", "", "sleep 600")
        .replace("    image:", "    env: [{name: NVIDIA_VISIBLE_DEVICES, value: all}]\n    image:");
    place.apply(&(asks + &pod("plain", "", "sleep 600"))).unwrap();
    place.wait_until_running("asks").unwrap();
    place.wait_until_running("plain").unwrap();
    let driver = ["ls", "/usr/bin/nvidia-cuda-mps-control"];
    place.exec("asks", &driver).unwrap();
    assert!(place.exec("plain", &driver).is_err());
    let world = place.cluster().nodes()[0].world();
    world.change_gpus(|scenario| scenario.gpus.truncate(1)).unwrap();
    let seen = place.exec("asks", &["cat", "/run/simulated-driver/scenario.json"]).unwrap();
    assert!(seen.contains("Simulated") && !seen.contains("000000000001"), "{seen}");
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn nodes_are_ready_and_their_pods_lie_in_the_groups_of_this_cluster() {
    let place = Place::begin("nodes").unwrap();
    assert_eq!(place.cluster().nodes().len(), 2);
    place.apply(&pod("group", "", "sleep 600")).unwrap();
    place.wait_until_running("group").unwrap();
    let groups = place.exec("group", &["cat", "/proc/1/cgroup"]).unwrap();
    let own = format!("/cotenant-e2e-{}/n1/kubepods/", place.cluster().state().name());
    assert!(groups.contains(&own), "{groups}");
}
