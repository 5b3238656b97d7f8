//! What happens to the cards themselves, MIG, and a host without a keeper.

use std::time::Duration;

use cotenant_testkit::nvml::{self, Change};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{GPU, Node, OTHER, RESOURCE, SHARED, is_alive, until};

fn two_gpus() -> nvml::Scenario {
    nvml::Scenario::of(nvml::Gpu::hopper(GPU)).with_gpu(nvml::Gpu::hopper(OTHER)).with_shared_settings()
}

#[tokio::test]
async fn a_lost_gpu_is_unhealthy_alone_and_healthy_when_it_is_back() {
    let shared = "version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 3}]}}\n";
    let node = Node::with(&two_gpus(), shared);
    let _agent = node.agent();
    node.until_healthy(RESOURCE, 6).await;
    node.driver.happen(1, Change::Lost).expect("lost");
    node.until_healthy(RESOURCE, 3).await;
    assert_eq!(node.kubelet.devices(RESOURCE).expect("listed").len(), 6, "it is still offered");
    node.driver.happen(1, Change::Back).expect("back");
    node.until_healthy(RESOURCE, 6).await;
}

#[tokio::test]
async fn an_xid_of_the_card_makes_every_share_unhealthy_and_one_of_an_application_none() {
    let node = Node::with(&two_gpus(), SHARED);
    let _keeper = node.keeper();
    let _agent = node.agent();
    node.until_healthy(RESOURCE, 8).await;
    let lists = node.kubelet.lists(RESOURCE);
    node.driver.happen(0, Change::Xid(31)).expect("happened");
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!((node.kubelet.healthy(RESOURCE), node.kubelet.lists(RESOURCE)), (8, lists), "{}", node.log());
    node.driver.happen(0, Change::Xid(48)).expect("happened");
    node.until_healthy(RESOURCE, 4).await;
}

#[tokio::test]
async fn mig_devices_are_made_when_the_gpu_is_free_and_then_offered() {
    let node = Node::new("version: v1\n");
    let _agent = node.agent();
    node.until_healthy(RESOURCE, 1).await;
    node.admit("a", RESOURCE).await;
    node.configure(
        "version: v1\nflags: {migStrategy: mixed}\ncotenant:\n  gpus:\n    \
         - {devices: all, strategy: mig, layout: {1g.18gb: 3, 3g.71gb: 1}}\n",
    );
    until("the edit is said to wait", || node.log().contains("default/a"));
    assert_eq!(node.kubelet.healthy(RESOURCE), 1);
    node.kubelet.end("default", "a");
    node.until_healthy("nvidia.com/mig-1g.18gb", 3).await;
    node.until_healthy("nvidia.com/mig-3g.71gb", 1).await;
    let given = node.admit("b", "nvidia.com/mig-1g.18gb").await;
    let device = given.environment.get("NVIDIA_VISIBLE_DEVICES").expect("a device");
    assert!(device.starts_with("MIG-"), "{device}");
}

#[tokio::test]
async fn on_a_host_without_a_keeper_the_agent_starts_one_that_outlives_it() {
    let node = Node::new(SHARED);
    let agent = node.start("agent.log", node.agent_command().arg("--keeper=spawn"));
    node.until_healthy(RESOURCE, 4).await;
    let daemon = node.daemon(GPU).expect("a daemon");
    assert_eq!(agent.end(), Some(0), "{}", node.log());
    assert!(is_alive(daemon));
    let check = node.command(&["keeper", "--check"]).output().expect("ran");
    assert!(String::from_utf8_lossy(&check.stdout).contains("keeps 1 MPS"), "{check:?}");
    let keeper = node.spawned_keeper();
    kill_process(Pid::from_raw(keeper).expect("a pid"), Signal::TERM).expect("told");
    until("the daemon is gone", || !is_alive(daemon));
    until("the keeper is gone", || !is_alive(keeper));
}

#[tokio::test]
async fn a_killed_keeper_disturbs_nobody_and_the_next_one_takes_over() {
    let node = Node::new(SHARED);
    let keeper = node.keeper();
    let _agent = node.agent();
    node.until_healthy(RESOURCE, 4).await;
    let daemon = node.daemon(GPU).expect("a daemon");
    let mut client = node.client(&node.admit("a", RESOURCE).await);
    node.clients(1);
    drop(keeper);
    until("its absence is said", || node.log().contains("MpsKeeperAway"));
    let _next = node.keeper();
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!((node.kubelet.healthy(RESOURCE), node.daemon(GPU)), (4, Some(daemon)), "{}", node.log());
    assert!(client.0.try_wait().expect("looked").is_none(), "the client lives");
}

#[tokio::test]
async fn a_node_with_protocol_three_gives_each_class_a_folder_of_its_own() {
    let configuration = "version: v1\ncotenant:\n  classes: {small: {memory: 8GiB, percent: 10}}\n  gpus:\n    \
                         - {devices: all, strategy: mps, classes: {small: 2}}\n";
    let node = Node::new(configuration);
    let script = cotenant_testkit::mps::Script { protocol_three: true, ..cotenant_testkit::mps::Script::default() };
    node.mps.rewrite(&script).expect("written");
    let _keeper = node.keeper();
    let _agent = node.agent();
    node.until_healthy("nvidia.com/gpu.small", 2).await;
    let given = node.admit("a", "nvidia.com/gpu.small").await;
    let host = given.mounts.iter().find(|(container, ..)| container.starts_with("/mps/")).expect("mounted").1.clone();
    assert_eq!(std::path::Path::new(&host), node.pipe(GPU).join("gpu").join("small"));
    let _client = node.client(&given);
    node.clients(1);
}
