use std::collections::BTreeMap;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use cotenant_model::sharing::{DeviceId, ResourceName, Share, Strategy};
use cotenant_model::{Bytes, GpuUuid, Percent};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::view::{GpuView, ResourceView, TenantView, View};
use super::{Format, ServeError, serve_local, text};

fn view() -> View {
    let resource = ResourceName("nvidia.com/gpu.small".to_owned());
    let gpu = GpuUuid("GPU-1".to_owned());
    View {
        version: "1.0.0".to_owned(),
        node: "n1".to_owned(),
        driver: Some("580.1".to_owned()),
        resources: vec![ResourceView {
            name: resource.clone(),
            devices: 4,
            healthy: 3,
            allocated: 1,
            unregistered: None,
        }],
        gpus: vec![GpuView {
            uuid: gpu.clone(),
            index: 0,
            name: "NVIDIA Simulated".to_owned(),
            strategy: Strategy::Mps,
            phase: "serving".to_owned(),
            unhealthy: None,
            memory: Bytes::mebibytes(1024),
            memory_used: None,
            faults: BTreeMap::from([("mps".to_owned(), 2)]),
            recoveries: 2,
            recovery_seconds: 1.5,
            daemon: Some(true),
            clients: Some(1),
        }],
        tenants: vec![TenantView {
            gpu: gpu.clone(),
            index: 0,
            strategy: Strategy::Mps,
            namespace: "default".to_owned(),
            pod: "a\"b\nc".to_owned(),
            container: "model".to_owned(),
            resource,
            class: Some("small".to_owned()),
            devices: vec![DeviceId::share(&gpu, 0)],
            share: Some(Share { memory: Bytes::mebibytes(256), percent: Percent::try_from(25).expect("in range") }),
            memory: Some(Bytes::mebibytes(100)),
            sm_utilization: None,
            processes: 1,
            warnings: Vec::new(),
        }],
        ..View::default()
    }
}

#[test]
fn the_newer_text_declares_units_and_ends() {
    let text = text(&Arc::new(view()), Format::OpenMetrics).expect("text");
    assert!(text.contains("# TYPE cotenant_gpu_faults counter\n"), "{text}");
    assert!(text.contains("cotenant_gpu_faults_total{gpu_uuid=\"GPU-1\""), "{text}");
    assert!(text.contains("# UNIT cotenant_tenant_memory_bytes bytes\n"), "{text}");
    assert!(text.contains("cotenant_tenant_sm_limit_ratio{"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn the_older_text_declares_counters_by_the_name_of_their_samples() {
    let text = text(&Arc::new(view()), Format::Text).expect("text");
    assert!(text.contains("# TYPE cotenant_gpu_faults_total counter\n"), "{text}");
    assert!(text.contains("# TYPE cotenant_gpu_recovery_seconds_total counter\n"), "{text}");
    assert!(!text.contains("# UNIT") && !text.contains("# EOF"), "{text}");
}

#[test]
fn a_figure_that_is_not_known_is_left_out_and_never_zero() {
    let text = text(&Arc::new(view()), Format::Text).expect("text");
    assert!(!text.contains("cotenant_gpu_memory_used_bytes"), "{text}");
    assert!(!text.contains("cotenant_tenant_sm_utilization_ratio"), "{text}");
    assert!(text.contains("cotenant_tenant_memory_bytes{") && text.contains("} 104857600\n"), "{text}");
}

#[test]
fn a_name_with_quotes_and_line_breaks_stays_one_label() {
    let text = text(&Arc::new(view()), Format::Text).expect("text");
    assert!(text.contains(r#"pod="a\"b\nc""#), "{text}");
}

async fn ask(path: &std::path::Path, what: &str) -> String {
    let mut stream = UnixStream::connect(path).await.expect("connects");
    let request = format!("GET {what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    answer
}

#[tokio::test]
async fn readiness_says_what_is_missing_and_the_socket_goes_with_its_agent() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("run/node.sock");
    let (shown, receiver) = watch::channel(Arc::new(View { unready: vec!["no driver".to_owned()], ..view() }));
    let stop = CancellationToken::new();
    let asking = async {
        while StdStream::connect(&path).is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let answer = ask(&path, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("no driver\n"), "{answer}");
        shown.send_replace(Arc::new(view()));
        assert!(ask(&path, "/readyz").await.starts_with("HTTP/1.1 200"));
        let status = ask(&path, "/status").await;
        let body = status.split_once("\r\n\r\n").expect("a body").1;
        let read: View = serde_json::from_str(body).expect("the picture");
        assert_eq!(read, view());
        let second = serve_local(&path, receiver.clone(), CancellationToken::new()).await;
        assert!(matches!(second, Err(ServeError::Taken { .. })), "{second:?}");
        stop.cancel();
    };
    let (served, ()) = tokio::join!(serve_local(&path, receiver.clone(), stop.clone()), asking);
    served.expect("served until the stop");
    assert!(!path.exists());
}
