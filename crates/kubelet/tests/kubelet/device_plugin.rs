//! A device plugin beside a fake kubelet: what pods get, and how it comes back after everything that ends it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::support::{GPU, Plugin, SHARED, list, plugin_sockets};
use cotenant_kubelet::device_plugin::{Device, DeviceList, remove_retired_sockets};
use cotenant_model::sharing::{DeviceId, ResourceName};
use cotenant_testkit::kubelet::{Behaviour, Container, Kubelet, Refused, Reply};

const GPU_SOCKET: &str = "cotenant-nvidia.com_gpu.sock";

fn root() -> tempfile::TempDir {
    tempfile::tempdir().expect("folder")
}

/// A kubelet and a plugin with two GPUs that it has registered.
async fn pair(root: &tempfile::TempDir) -> (Kubelet, Plugin) {
    let kubelet = Kubelet::started(root.path()).expect("kubelet");
    let mut plugin = Plugin::start(&kubelet.device_plugins(), GPU, list(&["GPU-a", "GPU-b"]));
    plugin.registered(1).await;
    kubelet.until(|kubelet| kubelet.healthy(GPU) == 2).await.expect("devices");
    (kubelet, plugin)
}

/// A plugin knows that it is watched before the kubelet has taken in its first list.
async fn assert_serves(kubelet: &Kubelet, pod: &str) {
    kubelet.until(|kubelet| kubelet.healthy(GPU) > 0).await.expect("devices");
    let given = kubelet.admit(&Container::of(pod), GPU, 1).await.expect("a device");
    assert_eq!(given.environment["IDS"], given.devices[0]);
    kubelet.end("default", pod);
}

#[tokio::test]
async fn a_pod_gets_what_the_plugin_chooses_and_answers() {
    let root = root();
    let (kubelet, plugin) = pair(&root).await;
    let [registered] = kubelet.registrations().try_into().expect("one registration");
    assert_eq!((registered.resource.as_str(), registered.endpoint.as_str()), (GPU, GPU_SOCKET));
    assert_eq!((registered.version.as_str(), registered.can_choose), ("v1beta1", (true, true)));
    let given = kubelet.admit(&Container::of("first"), GPU, 1).await.expect("a device");
    assert_eq!(given.devices, ["GPU-b"], "the plugin prefers the last");
    assert_eq!(given.environment["IDS"], "GPU-b");
    let choice = plugin.choices.lock().expect("choices")[0].clone();
    assert_eq!((choice.available.len(), choice.must_include.len(), choice.size), (2, 0, 1));
    kubelet.pre_start(GPU, given.devices).await.expect("nothing to do");
    assert_eq!(kubelet.admit(&Container::of("second"), GPU, 2).await, Err(Refused::Insufficient { free: 1 }));
    plugin.stop().await;
}

#[tokio::test]
async fn a_refusal_reaches_the_pod_in_words() {
    let root = root();
    let (kubelet, plugin) = pair(&root).await;
    let three = ["GPU-a", "GPU-b", "GPU-c"].map(str::to_owned).to_vec();
    let expected =
        "invalid allocation request for \"nvidia.com/gpu\": maximum request size for shared resources is 2; found 3";
    assert_eq!(kubelet.allocate(GPU, three).await, Err(Refused::Plugin(expected.to_owned())));
    assert_serves(&kubelet, "next").await;
    plugin.stop().await;
}

#[tokio::test]
async fn every_change_of_the_devices_reaches_the_kubelet_and_they_recover() {
    let root = root();
    let (kubelet, plugin) = pair(&root).await;
    let sick = |healthy| {
        let device = |id: &str, healthy| Device { id: DeviceId(id.to_owned()), healthy, numa_nodes: vec![1] };
        DeviceList::new(vec![device("GPU-a", true), device("GPU-b", healthy)]).expect("list")
    };
    plugin.devices.send(sick(false)).expect("watched");
    kubelet.until(|kubelet| kubelet.healthy(GPU) == 1).await.expect("one is sick");
    assert_eq!(kubelet.devices(GPU).expect("devices")[1].numa_nodes, [1]);
    plugin.devices.send(sick(true)).expect("watched");
    kubelet.until(|kubelet| kubelet.healthy(GPU) == 2).await.expect("it is well again");
    plugin.devices.send(list(&["GPU-a"])).expect("watched");
    kubelet.until(|kubelet| kubelet.devices(GPU).is_some_and(|devices| devices.len() == 1)).await.expect("one went");
    plugin.devices.send(DeviceList::default()).expect("watched");
    kubelet.until(|kubelet| kubelet.devices(GPU).is_some_and(|devices| devices.is_empty())).await.expect("none");
    assert_eq!(kubelet.registrations().len(), 1, "a change is no reason to register again");
    plugin.stop().await;
}

#[tokio::test]
async fn a_kubelet_that_reads_slowly_gets_the_newest_list() {
    let root = root();
    let (kubelet, plugin) = pair(&root).await;
    kubelet.behave(Behaviour { read_after: Duration::from_millis(50), ..Behaviour::default() });
    let before = kubelet.lists(GPU);
    for number in 0..2_000 {
        plugin.devices.send(list(&[&format!("GPU-{number}")])).expect("watched");
        if number % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let is_newest = |kubelet: &Kubelet| kubelet.devices(GPU).is_some_and(|devices| devices[0].id == "GPU-1999");
    kubelet.until(is_newest).await.expect("the newest");
    assert!(kubelet.lists(GPU) - before < 1_000, "it read {} lists", kubelet.lists(GPU) - before);
    plugin.stop().await;
}

#[tokio::test]
async fn two_resources_are_served_side_by_side_and_one_can_go() {
    let root = root();
    let (kubelet, gpu) = pair(&root).await;
    let mut shared = Plugin::start(&kubelet.device_plugins(), SHARED, list(&["GPU-c::0", "GPU-c::1"]));
    shared.registered(1).await;
    kubelet.until(|kubelet| kubelet.healthy(SHARED) == 2).await.expect("devices");
    assert_eq!(plugin_sockets(&kubelet.device_plugins()), ["cotenant-nvidia.com_gpu.shared.sock", GPU_SOCKET]);
    let given = kubelet.admit(&Container::of("pod"), SHARED, 2).await.expect("devices");
    assert_eq!(given.devices.len(), 2);
    shared.stop().await;
    kubelet.until(|kubelet| kubelet.healthy(SHARED) == 0).await.expect("gone");
    assert_eq!(kubelet.admit(&Container::of("late"), SHARED, 0).await, Err(Refused::NoPlugin));
    assert_eq!(plugin_sockets(&kubelet.device_plugins()), [GPU_SOCKET]);
    assert_serves(&kubelet, "other").await;
    gpu.stop().await;
}

#[tokio::test]
async fn ten_thousand_allocations_are_all_right() {
    let root = root();
    let (kubelet, plugin) = pair(&root).await;
    for number in 0..10_000 {
        let id = format!("GPU-{number}");
        let given = kubelet.allocate(GPU, vec![id.clone()]).await.expect("a device");
        assert_eq!(given.environment["IDS"], id);
    }
    plugin.stop().await;
}

#[tokio::test]
async fn a_restarted_kubelet_is_told_again() {
    let root = root();
    let (mut kubelet, mut plugin) = pair(&root).await;
    for times in 2..=6 {
        kubelet.restart().expect("restarted");
        plugin.registered(times).await;
        kubelet.until(|kubelet| kubelet.healthy(GPU) == 2).await.expect("devices");
        assert_serves(&kubelet, "pod").await;
    }
    assert_eq!(plugin_sockets(&kubelet.device_plugins()), [GPU_SOCKET]);
    plugin.stop().await;
}

#[tokio::test]
async fn a_kubelet_that_stays_away_is_waited_for() {
    let root = root();
    let (mut kubelet, mut plugin) = pair(&root).await;
    kubelet.stop().expect("stopped");
    plugin.waiting("kubelet.sock is not there").await;
    kubelet.start().expect("started");
    plugin.registered(2).await;
    // A killed one leaves its socket behind.
    kubelet.kill();
    plugin.waiting("cannot be reached").await;
    kubelet.start().expect("started");
    plugin.registered(3).await;
    assert_serves(&kubelet, "pod").await;
    plugin.stop().await;
}

#[tokio::test]
async fn a_deleted_socket_comes_back_without_disturbing_the_kubelet() {
    let root = root();
    let (mut kubelet, mut plugin) = pair(&root).await;
    let socket = kubelet.device_plugins().join(GPU_SOCKET);
    for _time in 0..3 {
        fs::remove_file(&socket).expect("deleted");
        kubelet_dials(&socket).await;
        assert_eq!(kubelet.healthy(GPU), 2);
        assert_serves(&kubelet, "pod").await;
    }
    assert_eq!(kubelet.registrations().len(), 1);
    // The new socket is a true one: a kubelet that must dial anew gets through.
    fs::remove_file(&socket).expect("deleted");
    kubelet.hang_up(GPU);
    plugin.registered(2).await;
    kubelet.until(|kubelet| kubelet.healthy(GPU) == 2).await.expect("devices");
    assert_serves(&kubelet, "pod").await;
    kubelet.restart().expect("restarted");
    plugin.registered(3).await;
    plugin.stop().await;
}

/// Waits until somebody listens at a path.
async fn kubelet_dials(socket: &std::path::Path) {
    for _attempt in 0..500 {
        if tokio::net::UnixStream::connect(socket).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody listens at {}", socket.display());
}

#[tokio::test]
async fn a_session_that_the_kubelet_ends_is_opened_again() {
    let root = root();
    let (kubelet, mut plugin) = pair(&root).await;
    for times in 2..=4 {
        kubelet.hang_up(GPU);
        plugin.registered(times).await;
    }
    kubelet.until(|kubelet| kubelet.healthy(GPU) == 2).await.expect("devices");
    assert_serves(&kubelet, "pod").await;
    plugin.stop().await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_yet_is_waited_for() {
    let root = root();
    let mut kubelet = Kubelet::new(root.path());
    let mut plugin = Plugin::start(&kubelet.device_plugins(), GPU, list(&["GPU-a"]));
    plugin.waiting("device-plugins is not there").await;
    kubelet.start().expect("started");
    plugin.registered(1).await;
    plugin.stop().await;
}

#[tokio::test]
async fn a_folder_that_goes_and_comes_back_is_no_end() {
    let root = root();
    let (mut kubelet, mut plugin) = pair(&root).await;
    kubelet.kill();
    fs::remove_dir_all(kubelet.device_plugins()).expect("removed");
    plugin.waiting("device-plugins is not there").await;
    kubelet.start().expect("started");
    plugin.registered(2).await;
    assert_eq!(plugin_sockets(&kubelet.device_plugins()), [GPU_SOCKET]);
    plugin.stop().await;
}

#[tokio::test]
async fn a_refusal_of_the_kubelet_is_told_and_tried_again() {
    let root = root();
    let kubelet = Kubelet::started(root.path()).expect("kubelet");
    kubelet.behave(Behaviour { refuse: Some("this node has had enough".to_owned()), ..Behaviour::default() });
    let mut plugin = Plugin::start(&kubelet.device_plugins(), GPU, list(&["GPU-a"]));
    plugin.waiting("the kubelet refuses nvidia.com/gpu: this node has had enough").await;
    kubelet.behave(Behaviour::default());
    plugin.registered(1).await;
    plugin.stop().await;
    let mut wrong = Plugin::start(&kubelet.device_plugins(), "gpu", list(&["GPU-a"]));
    wrong.waiting("gpu is not the name of an extended resource").await;
    wrong.stop().await;
}

#[tokio::test]
async fn nobody_is_called_registered_before_the_kubelet_asks_for_the_devices() {
    let root = root();
    let mut kubelet = Kubelet::started(root.path()).expect("kubelet");
    kubelet.behave(Behaviour { ignore_devices: true, ..Behaviour::default() });
    let mut plugin = Plugin::start(&kubelet.device_plugins(), GPU, list(&["GPU-a"]));
    kubelet.until(|kubelet| kubelet.registrations().len() == 1).await.expect("agreed");
    tokio::time::sleep(Duration::from_millis(300)).await;
    plugin.waiting("the kubelet is being asked").await;
    kubelet.behave(Behaviour::default());
    kubelet.restart().expect("restarted");
    plugin.registered(1).await;
    plugin.stop().await;
}

#[tokio::test]
async fn what_is_not_a_kubelet_is_told_and_does_no_harm() {
    let root = root();
    let directory = root.path().join("device-plugins");
    fs::create_dir(&directory).expect("folder");
    let garbage = tokio::net::UnixListener::bind(directory.join("kubelet.sock")).expect("socket");
    let mut plugin = Plugin::start(&directory, GPU, list(&["GPU-a"]));
    let talk = async {
        loop {
            let (mut stream, _address) = garbage.accept().await.expect("a plugin dials");
            tokio::io::AsyncWriteExt::write_all(&mut stream, &[0xff; 4096]).await.unwrap_or_default();
        }
    };
    tokio::select! {
        () = talk => {}
        () = plugin.waiting("the kubelet") => {}
    }
    drop(garbage);
    let mut kubelet = Kubelet::new(root.path());
    kubelet.start().expect("started");
    plugin.registered(1).await;
    plugin.stop().await;
}

#[tokio::test]
async fn a_client_that_talks_garbage_hurts_nobody_else() {
    let root = root();
    let (kubelet, plugin) = pair(&root).await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff"]
    {
        let mut stream =
            tokio::net::UnixStream::connect(kubelet.device_plugins().join(GPU_SOCKET)).await.expect("socket");
        tokio::io::AsyncWriteExt::write_all(&mut stream, garbage).await.expect("sent");
    }
    assert_serves(&kubelet, "pod").await;
    plugin.stop().await;
}

#[tokio::test]
async fn the_name_of_the_host_that_kubelets_send_is_answered_and_paths_are_not() {
    let root = root();
    let (kubelet, plugin) = pair(&root).await;
    let path = kubelet.device_plugins().join(GPU_SOCKET).display().to_string();
    let encoded = path.replace('/', "%2F");
    for (authority, expected) in
        [("localhost", Reply::Answered), (&*path, Reply::Reset(1)), (&*encoded, Reply::Reset(1))]
    {
        let reply = kubelet.options_with_authority(GPU, authority).await.expect("a reply");
        assert_eq!(reply, expected, "{authority}");
    }
    assert_serves(&kubelet, "pod").await;
    plugin.stop().await;
}

#[tokio::test]
async fn a_successor_takes_over_when_the_first_one_ends_and_not_before() {
    let root = root();
    let (kubelet, first) = pair(&root).await;
    let mut second = Plugin::start(&kubelet.device_plugins(), GPU, list(&["GPU-c"]));
    second.waiting("another process serves").await;
    assert_eq!(kubelet.healthy(GPU), 2);
    first.stop().await;
    second.registered(1).await;
    kubelet.until(|kubelet| kubelet.healthy(GPU) == 1).await.expect("the second's device");
    assert_serves(&kubelet, "pod").await;
    second.stop().await;
}

#[tokio::test]
async fn what_a_killed_plugin_left_is_no_obstacle() {
    let root = root();
    let (kubelet, first) = pair(&root).await;
    let socket = kubelet.device_plugins().join(GPU_SOCKET);
    first.forget(&socket).await;
    assert!(socket.exists());
    let mut second = Plugin::start(&kubelet.device_plugins(), GPU, list(&["GPU-c"]));
    second.registered(1).await;
    second.stop().await;
}

/// Another plugin for the same resource, as NVIDIA's is during a move, with its socket in the kubelet's folder.
async fn peer(root: &tempfile::TempDir, kubelet: &Kubelet) -> (Plugin, std::path::PathBuf) {
    let elsewhere = root.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("folder");
    let peer = Plugin::start(&elsewhere, GPU, list(&["GPU-x"]));
    kubelet_dials(&elsewhere.join(GPU_SOCKET)).await;
    let socket = kubelet.device_plugins().join("nvidia-gpu.sock");
    std::os::unix::fs::symlink(elsewhere.join(GPU_SOCKET), &socket).expect("link");
    (peer, socket)
}

#[tokio::test]
async fn a_peer_that_came_first_takes_the_session_along_when_it_ends() {
    let root = root();
    let kubelet = Kubelet::started(root.path()).expect("kubelet");
    let (theirs, _socket) = peer(&root, &kubelet).await;
    kubelet.connect(GPU, "nvidia-gpu.sock").await.expect("the peer is registered");
    kubelet.until(|kubelet| kubelet.healthy(GPU) == 1).await.expect("the peer's device");
    let mut ours = Plugin::start(&kubelet.device_plugins(), GPU, list(&["GPU-a", "GPU-b"]));
    ours.registered(1).await;
    theirs.stop().await;
    ours.registered(2).await;
    kubelet.until(|kubelet| kubelet.healthy(GPU) == 2).await.expect("ours");
    assert_serves(&kubelet, "pod").await;
    ours.stop().await;
}

#[tokio::test]
async fn a_peer_that_came_later_leaves_nobody_to_ask_until_ours_registers_again() {
    let root = root();
    let (kubelet, mut ours) = pair(&root).await;
    let (theirs, socket) = peer(&root, &kubelet).await;
    kubelet.connect(GPU, "nvidia-gpu.sock").await.expect("the peer is registered");
    kubelet.until(|kubelet| kubelet.healthy(GPU) == 1).await.expect("the peer's device");
    theirs.stop().await;
    kubelet.until(|kubelet| kubelet.healthy(GPU) == 0).await.expect("nobody's");
    fs::remove_file(socket).expect("gone with its plugin");
    ours.registered(2).await;
    kubelet.until(|kubelet| kubelet.healthy(GPU) == 2).await.expect("ours");
    assert_serves(&kubelet, "pod").await;
    ours.stop().await;
}

#[tokio::test]
async fn stopping_leaves_nothing_whatever_state_it_is_in() {
    let root = root();
    let (mut kubelet, plugin) = pair(&root).await;
    let directory = kubelet.device_plugins();
    plugin.stop().await;
    assert!(plugin_sockets(&directory).is_empty());
    kubelet.until(|kubelet| kubelet.healthy(GPU) == 0).await.expect("gone");
    kubelet.stop().expect("stopped");
    let mut lonely = Plugin::start(&directory, GPU, list(&["GPU-a"]));
    lonely.waiting("kubelet.sock is not there").await;
    lonely.stop().await;
    assert!(plugin_sockets(&directory).is_empty());
    fs::remove_dir_all(&directory).expect("removed");
    let mut nowhere = Plugin::start(&directory, GPU, list(&["GPU-a"]));
    nowhere.waiting("device-plugins is not there").await;
    nowhere.stop().await;
    assert!(!directory.exists());
}

#[tokio::test]
async fn sockets_of_retired_resources_go_at_the_next_start() {
    let root = root();
    let (kubelet, plugin) = pair(&root).await;
    let directory = kubelet.device_plugins();
    plugin.forget(&directory.join(GPU_SOCKET)).await;
    let removed = remove_retired_sockets(&directory, &[ResourceName(SHARED.to_owned())]).await.expect("removed");
    assert_eq!(removed, [directory.join(GPU_SOCKET)]);
    assert!(directory.join("kubelet.sock").exists());
}

#[tokio::test]
async fn a_socket_is_for_one_user_and_a_folder_without_rights_is_named() {
    let root = root();
    let (kubelet, plugin) = pair(&root).await;
    let socket = kubelet.device_plugins().join(GPU_SOCKET);
    assert_eq!(fs::metadata(&socket).expect("socket").permissions().mode() & 0o777, 0o600);
    plugin.stop().await;
    // The superuser is stopped by nothing but a file in place of the folder.
    let file = root.path().join("file");
    fs::write(&file, "").expect("file");
    let mut barred = Plugin::start(&file, GPU, list(&["GPU-a"]));
    barred.waiting("cannot make the socket").await;
    barred.stop().await;
}
