//! Who holds which device, asked of a fake kubelet.

use std::path::Path;
use std::time::Duration;

use crate::support::{Plugin, SHARED};
use cotenant_kubelet::pod_resources::{Held, ListError, list};
use cotenant_model::sharing::{DeviceId, ResourceName};
use cotenant_testkit::kubelet::{Behaviour, Container, Kubelet};

#[tokio::test]
async fn containers_are_named_with_all_their_devices() {
    let root = tempfile::tempdir().expect("folder");
    let mut kubelet = Kubelet::started(root.path()).expect("kubelet");
    let mut plugin =
        Plugin::start(&kubelet.device_plugins(), SHARED, crate::support::list(&["GPU-a::0", "GPU-a::1", "GPU-a::2"]));
    plugin.registered(1).await;
    kubelet.until(|kubelet| kubelet.healthy(SHARED) == 3).await.expect("devices");
    assert_eq!(list(&kubelet.pod_resources()).await.expect("nobody"), []);
    kubelet.admit(&Container::of("two"), SHARED, 2).await.expect("devices");
    let other = Container { namespace: "team".to_owned(), ..Container::of("one") };
    kubelet.admit(&other, SHARED, 1).await.expect("device");
    let held = |namespace: &str, pod: &str, devices: &[&str]| Held {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: "main".to_owned(),
        resource: ResourceName(SHARED.to_owned()),
        devices: devices.iter().map(|&id| DeviceId(id.to_owned())).collect(),
    };
    let expected = [held("default", "two", &["GPU-a::1", "GPU-a::2"]), held("team", "one", &["GPU-a::0"])];
    assert_eq!(list(&kubelet.pod_resources()).await.expect("both"), expected);
    kubelet.restart().expect("restarted");
    assert_eq!(list(&kubelet.pod_resources()).await.expect("still both"), expected);
    kubelet.end("default", "two");
    assert_eq!(list(&kubelet.pod_resources()).await.expect("one"), expected[1..]);
    plugin.stop().await;
}

#[tokio::test]
async fn a_kubelet_that_is_not_there_refuses_or_is_silent_is_an_error_with_a_reason() {
    let root = tempfile::tempdir().expect("folder");
    let mut kubelet = Kubelet::new(root.path());
    let error = list(&kubelet.pod_resources()).await.expect_err("no socket");
    let ListError::Connect(reason) = error else { panic!("{error}") };
    assert!(reason.to_string().contains("pod-resources/kubelet.sock is not there"), "{reason}");
    kubelet.start().expect("started");
    kubelet.behave(Behaviour { refuse: Some("too often".to_owned()), ..Behaviour::default() });
    let error = list(&kubelet.pod_resources()).await.expect_err("refused").to_string();
    assert_eq!(error, "the kubelet does not say who holds which device: too often");
    kubelet.behave(Behaviour { answer_after: Duration::from_secs(60), ..Behaviour::default() });
    let error = list(&kubelet.pod_resources()).await.expect_err("silent");
    assert!(matches!(error, ListError::Silent { .. }), "{error}");
    kubelet.kill();
    assert!(matches!(list(&kubelet.pod_resources()).await, Err(ListError::Connect(_))));
    assert!(matches!(list(Path::new("/nowhere/kubelet.sock")).await, Err(ListError::Connect(_))));
}
