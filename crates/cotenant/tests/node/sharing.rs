//! Shares, edits, faults and restarts on a node whose API server nobody asks.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cotenant_testkit::nvml;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{GPU, Node, OTHER, RESOURCE, SHARED, is_alive, until};

#[tokio::test]
async fn shares_of_a_gpu_are_handed_out_with_their_limits() {
    let node = Node::new(SHARED);
    let keeper = node.keeper();
    let agent = node.agent();
    node.until_healthy(RESOURCE, 4).await;
    let given = node.admit("a", RESOURCE).await;
    let variable = |name: &str| given.environment.get(name).map(String::as_str);
    assert_eq!(variable("NVIDIA_VISIBLE_DEVICES"), Some(GPU));
    assert_eq!(variable("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"), Some("25"));
    assert_eq!(variable("CUDA_MPS_PIPE_DIRECTORY"), Some("/mps/nvidia.com/gpu/pipe"));
    let limit = variable("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT").expect("a limit");
    assert!(limit.starts_with("0=") && limit.ends_with('M') && !limit.contains(','), "{limit}");
    assert!(
        given.mounts.iter().any(|(container, host, _)| {
            container == "/mps/nvidia.com/gpu/pipe" && Path::new(host) == node.pipe(GPU)
        })
    );
    assert!(given.mounts.iter().any(|(container, ..)| container == "/dev/shm"));
    let _client = node.client(&given);
    node.clients(1);
    assert_eq!(agent.end(), Some(0), "{}", node.log());
    assert_eq!(keeper.end(), Some(0), "{}", node.log());
    assert!(!node.socket().exists());
}

#[tokio::test]
async fn a_fault_makes_every_share_unhealthy_and_the_gpu_comes_back() {
    let node = Node::new(SHARED);
    let _keeper = node.keeper();
    let _agent = node.agent();
    node.until_healthy(RESOURCE, 4).await;
    let (culprit, neighbour) =
        (node.client(&node.admit("a", RESOURCE).await), node.client(&node.admit("b", RESOURCE).await));
    node.clients(2);
    let begun = Instant::now();
    culprit.signal(Signal::USR1);
    node.until_healthy(RESOURCE, 0).await;
    let noticed = begun.elapsed();
    culprit.end();
    neighbour.end();
    node.until_healthy(RESOURCE, 4).await;
    assert!(noticed < Duration::from_secs(1), "noticed after {noticed:?}\n{}", node.log());
    let _again = node.client(&node.admit("c", RESOURCE).await);
    node.clients(3);
}

#[tokio::test]
async fn a_killed_agent_leaves_daemon_and_clients_alone_and_the_next_one_takes_over() {
    let node = Node::new(SHARED);
    let _keeper = node.keeper();
    let agent = node.agent();
    node.until_healthy(RESOURCE, 4).await;
    let mut client = node.client(&node.admit("a", RESOURCE).await);
    node.clients(1);
    let daemon = node.daemon(GPU).expect("a daemon");
    drop(agent);
    let _next = node.agent();
    node.kubelet.until(|kubelet| kubelet.registrations().len() >= 2).await.expect("registered again");
    node.until_healthy(RESOURCE, 4).await;
    assert_eq!(node.daemon(GPU), Some(daemon), "{}", node.log());
    assert!(client.0.try_wait().expect("looked").is_none(), "the client lives");
}

#[tokio::test]
async fn a_killed_daemon_is_noticed_and_replaced() {
    let node = Node::new(SHARED);
    let _keeper = node.keeper();
    let _agent = node.agent();
    node.until_healthy(RESOURCE, 4).await;
    let daemon = node.daemon(GPU).expect("a daemon");
    let begun = Instant::now();
    kill_process(Pid::from_raw(daemon).expect("a pid"), Signal::KILL).expect("killed");
    node.until_healthy(RESOURCE, 0).await;
    let noticed = begun.elapsed();
    node.until_healthy(RESOURCE, 4).await;
    assert!(noticed < Duration::from_secs(1), "noticed after {noticed:?}");
    assert!(node.daemon(GPU).is_some_and(|fresh| fresh != daemon && is_alive(fresh)), "{}", node.log());
}

#[tokio::test]
async fn an_edit_that_would_disturb_a_pod_waits_until_it_has_left() {
    let node = Node::new(SHARED);
    let _keeper = node.keeper();
    let _agent = node.agent();
    node.until_healthy(RESOURCE, 4).await;
    let client = node.client(&node.admit("a", RESOURCE).await);
    node.clients(1);
    node.configure("version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 7}]}}\n");
    until("the edit is said to wait", || node.log().contains("default/a"));
    assert_eq!(node.kubelet.devices(RESOURCE).expect("listed").len(), 4, "{}", node.log());
    assert!(node.daemon(GPU).is_some_and(is_alive));
    client.end();
    node.kubelet.end("default", "a");
    node.until_healthy(RESOURCE, 7).await;
    until("the daemon is gone", || node.daemon(GPU).is_none_or(|pid| !is_alive(pid)));
}

#[tokio::test]
async fn an_addition_is_applied_beside_running_pods() {
    let configuration = |replicas: u32| {
        format!(
            "version: v1\nsharing: {{timeSlicing: {{resources: [{{name: nvidia.com/gpu, replicas: {replicas}}}]}}}}\n"
        )
    };
    let node = Node::new(&configuration(2));
    let _agent = node.agent();
    node.until_healthy(RESOURCE, 2).await;
    let given = node.admit("a", RESOURCE).await;
    assert!(!given.environment.contains_key("CUDA_MPS_PIPE_DIRECTORY"));
    node.configure(&configuration(5));
    node.until_healthy(RESOURCE, 5).await;
}

#[tokio::test]
async fn two_gpus_of_a_node_are_shared_in_different_ways_and_by_classes() {
    let scenario = nvml::Scenario {
        gpus: vec![nvml::Gpu::hopper(GPU), nvml::Gpu::hopper(OTHER)],
        ..nvml::Scenario::of(nvml::Gpu::hopper(GPU)).with_shared_settings()
    };
    let configuration = "version: v1\ncotenant:\n  classes:\n    small: {memory: 8GiB, percent: 10}\n    \
                         large: {memory: 60GiB, percent: 50}\n  gpus:\n    \
                         - {devices: [0], strategy: mps, classes: {small: 4, large: 1}}\n    \
                         - {devices: [1], strategy: exclusive}\n";
    let node = Node::with(&scenario, configuration);
    let _keeper = node.keeper();
    let _agent = node.agent();
    node.until_healthy("nvidia.com/gpu.small", 4).await;
    node.until_healthy("nvidia.com/gpu.large", 1).await;
    node.until_healthy(RESOURCE, 1).await;
    let whole = node.admit("whole", RESOURCE).await;
    assert_eq!(whole.environment.get("NVIDIA_VISIBLE_DEVICES").map(String::as_str), Some(OTHER));
    let small = node.admit("small", "nvidia.com/gpu.small").await;
    assert_eq!(small.environment.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE").map(String::as_str), Some("10"));
    assert_eq!(small.environment.get("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT").map(String::as_str), Some("0=8192M"));
    assert!(node.daemon(OTHER).is_none());
}

#[tokio::test]
async fn a_restarted_kubelet_and_a_lost_socket_are_served_again() {
    let mut node = Node::new("version: v1\n");
    let _agent = node.agent();
    node.until_healthy(RESOURCE, 1).await;
    node.kubelet.restart().expect("restarted");
    node.until_healthy(RESOURCE, 1).await;
    let sockets =
        fs::read_dir(node.kubelet.device_plugins()).expect("listed").map(|entry| entry.expect("entry").path());
    let own = sockets.filter(|path| path.file_name().is_some_and(|name| name != "kubelet.sock"));
    for path in own.filter(|path| path.extension().is_some_and(|extension| extension == "sock")) {
        fs::remove_file(path).expect("removed");
    }
    until("there is a socket again", || {
        fs::read_dir(node.kubelet.device_plugins())
            .expect("listed")
            .any(|entry| entry.expect("entry").file_name().to_string_lossy().starts_with("cotenant"))
    });
    assert_eq!(node.kubelet.healthy(RESOURCE), 1);
}

#[tokio::test]
async fn a_second_agent_and_a_second_keeper_are_refused() {
    let node = Node::new(SHARED);
    let _keeper = node.keeper();
    let _agent = node.agent();
    node.until_healthy(RESOURCE, 4).await;
    let second = node.agent_command().output().expect("ran");
    assert_eq!(second.status.code(), Some(5), "{}", String::from_utf8_lossy(&second.stderr));
    let second = node.command(&["keeper"]).output().expect("ran");
    assert_eq!(second.status.code(), Some(5), "{}", String::from_utf8_lossy(&second.stderr));
}

#[tokio::test]
async fn a_configuration_with_problems_ends_a_first_start_and_is_refused_later() {
    let node = Node::new("version: v9\n");
    let ended = node.agent_command().output().expect("ran");
    assert_eq!(ended.status.code(), Some(2), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("v9"));
    node.configure("version: v1\n");
    let _agent = node.agent();
    node.until_healthy(RESOURCE, 1).await;
    node.configure("version: v9\n");
    until("the refusal is said", || node.log().contains("v9"));
    assert_eq!(node.kubelet.healthy(RESOURCE), 1);
}

#[tokio::test]
async fn a_file_that_broke_before_a_restart_ends_no_daemon_and_is_served_again_once_mended() {
    let node = Node::new(SHARED);
    let _keeper = node.keeper();
    let agent = node.agent();
    node.until_healthy(RESOURCE, 4).await;
    let daemon = node.daemon(GPU).expect("a daemon");
    let mut client = node.client(&node.admit("a", RESOURCE).await);
    node.clients(1);
    drop(agent);
    node.configure("version: v9\n");
    let _next = node.agent();
    until("the refusal is said", || node.log().contains("v9"));
    assert!(
        node.command(&["status", "--socket"]).arg(node.socket()).output().is_ok_and(|ended| !ended.status.success())
    );
    assert!(node.daemon(GPU) == Some(daemon) && is_alive(daemon), "{}", node.log());
    node.configure(SHARED);
    node.until_healthy(RESOURCE, 4).await;
    assert_eq!(node.daemon(GPU), Some(daemon));
    assert!(client.0.try_wait().expect("looked").is_none(), "the client lives");
}

#[test]
fn a_missing_driver_is_said_with_its_own_exit_code() {
    let node = Node::new("version: v1\n");
    let ended = node.agent_command().env("COTENANT_NVML", "/nonexistent/libnvidia-ml.so.1").output().expect("ran");
    assert_eq!(ended.status.code(), Some(3), "{}", String::from_utf8_lossy(&ended.stderr));
}
