//! The daemon of a node on a real kubelet, with real pods, installed by its chart. The GPUs and MPS are simulated.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a cluster that does not answer fails its test, with its logs"
)]

use std::fs;
use std::time::Duration;

use e2e::wait::until;
use e2e::{Place, image, process, tools, world};
use k8s_openapi::api::core::v1::Pod;

const SOON: Duration = Duration::from_secs(60);
const NODE: &str = "n1";
const GPU: &str = "nvidia.com/gpu";
const RELEASE: &str = "cotenant";
/// The kubelet brings an edit of a ConfigMap with its next sync of the pod.
const EDIT: Duration = Duration::from_secs(150);

/// An installation by Helm, which goes with it.
struct Installation<'a> {
    place: &'a Place,
    removed: bool,
}

fn helm(place: &Place, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = process::command(tools::helm()?);
    command.env("KUBECONFIG", place.cluster().state().kubeconfig());
    command.args(["--namespace", RELEASE]).args(arguments);
    process::run(&mut command, Duration::from_secs(180))
}

fn chart() -> String {
    format!("{}/../charts/cotenant", env!("CARGO_MANIFEST_DIR"))
}

/// Values with one configuration.
fn values(configuration: &str) -> String {
    let lines: String = configuration.lines().map(|line| format!("      {line}\n")).collect();
    format!("config:\n  map:\n    default: |-\n{lines}")
}

impl<'a> Installation<'a> {
    fn of_files(place: &'a Place, files: &[&str]) -> anyhow::Result<Self> {
        place.kubernetes().kubectl(&["label", "node", NODE, "nvidia.com/gpu.present=true", "--overwrite"])?;
        let (name, tag) = image::COTENANT.split_once(':').unwrap_or((image::COTENANT, "latest"));
        let sets =
            [format!("image.repository={name}"), format!("image.tag={tag}"), "image.pullPolicy=Never".to_owned()];
        let mut arguments =
            vec!["upgrade", "--install", RELEASE, "CHART", "--create-namespace", "--wait", "--timeout", "2m"];
        let chart = chart();
        arguments[3] = &chart;
        for file in files {
            arguments.extend(["--values", file]);
        }
        for set in &sets {
            arguments.extend(["--set", set]);
        }
        helm(place, &arguments)?;
        Ok(Self { place, removed: false })
    }

    fn new(place: &'a Place, configuration: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("values.yaml");
        fs::write(&file, values(configuration))?;
        Self::of_files(place, &[&file.display().to_string()])
    }

    fn pod(&self, component: &str) -> anyhow::Result<String> {
        let labels = format!("app.kubernetes.io/component={component}");
        let pods: Vec<Pod> = self.place.kubernetes().objects(RELEASE, &labels)?;
        let living = pods.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
        living.and_then(|pod| pod.metadata.name).ok_or_else(|| anyhow::anyhow!("there is no {component}"))
    }

    fn log(&self, component: &str) -> String {
        let read = || self.place.kubernetes().kubectl(&["--namespace", RELEASE, "logs", &self.pod(component)?]);
        read().unwrap_or_else(|error| format!("{error:#}"))
    }

    fn offers(&self, resource: &str, amount: u32) {
        let offered = self.place.kubernetes().wait_for_allocatable(NODE, resource, amount, SOON);
        assert!(offered.is_ok(), "{offered:?}\n{}\n{}", self.log("agent"), self.log("keeper"));
    }

    fn uninstall(mut self) -> anyhow::Result<()> {
        self.removed = true;
        helm(self.place, &["uninstall", RELEASE, "--wait", "--timeout", "3m"]).map(drop)
    }
}

impl Drop for Installation<'_> {
    fn drop(&mut self) {
        if !self.removed {
            if std::thread::panicking() {
                eprintln!("agent:\n{}\nkeeper:\n{}", self.log("agent"), self.log("keeper"));
            }
            drop(helm(self.place, &["uninstall", RELEASE, "--wait", "--timeout", "3m"]));
        }
    }
}

fn shared(replicas: u32) -> String {
    format!("version: v1\nsharing: {{mps: {{resources: [{{name: nvidia.com/gpu, replicas: {replicas}}}]}}}}\n")
}

/// A pod whose container is a CUDA program with one device.
fn client(name: &str, resource: &str) -> String {
    format!(
        r#"
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 2
  restartPolicy: Never
  nodeSelector: {{kubernetes.io/hostname: {NODE}}}
  containers:
  - name: main
    image: {image}
    imagePullPolicy: Never
    command: ["/usr/bin/fake-cuda-client", "--linger"]
    resources: {{limits: {{"{resource}": 1}}}}
"#,
        image = image::CLIENT
    )
}

fn one_gpu(place: &Place) {
    place.cluster().nodes()[0].world().change_gpus(|scenario| scenario.gpus.truncate(1)).unwrap();
}

fn connected(place: &Place, pod: &str) -> String {
    place.wait_until_running(pod).unwrap();
    let said = until(&format!("{pod} is connected"), SOON, || {
        let log = place.logs(pod)?;
        anyhow::ensure!(log.contains("connected"), "it says: {log}");
        Ok(log)
    });
    said.unwrap()
}

/// What an installation must not leave behind on a node.
fn assert_nothing_left(place: &Place) {
    let node = &place.cluster().nodes()[0];
    let labels = place.kubernetes().labels(NODE).unwrap();
    let ours = |key: &&String| {
        key.starts_with("cotenant.dev/") || (key.starts_with("nvidia.com/") && *key != "nvidia.com/gpu.present")
    };
    assert_eq!(labels.keys().filter(ours).collect::<Vec<_>>(), Vec::<&String>::new());
    let list = |path: &str| node.run("/bin/sh", &["-c", &format!("ls {path} 2>/dev/null || true")]).unwrap();
    let sockets = list("/var/lib/kubelet/device-plugins");
    assert!(!sockets.contains("cotenant"), "{sockets}");
    assert_eq!(list("/var/run/cdi").trim(), "");
    assert_eq!(list("/run/nvidia/mps").trim(), "");
    assert_eq!(list("/var/lib/cotenant").trim(), "");
    let mounts = node.run("cat", &["/proc/mounts"]).unwrap();
    assert!(!mounts.contains("/run/nvidia/mps"), "{mounts}");
    let daemons = node.run("/bin/sh", &["-c", "cat /proc/[0-9]*/comm | grep -c nvidia-cuda || true"]).unwrap();
    assert_eq!(daemons.trim(), "0");
    let settings = node.world().settings().unwrap().to_string().to_lowercase();
    assert!(!settings.contains("exclusive"), "{settings}");
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn pods_share_a_gpu_survive_each_others_faults_and_an_uninstallation_leaves_nothing() {
    let place = Place::begin("share").unwrap();
    one_gpu(&place);
    let installed = Installation::new(&place, &shared(2)).unwrap();
    installed.offers(GPU, 2);
    place.apply(&(client("a", GPU) + &client("b", GPU) + &client("c", GPU))).unwrap();
    // Which two come first is the scheduler's.
    let running = |name: &str| {
        let pod = place.pod(name).unwrap();
        pod.status.and_then(|status| status.phase).is_some_and(|phase| phase == "Running")
    };
    let names = ["a", "b", "c"];
    until("two pods run", SOON, || {
        anyhow::ensure!(names.iter().filter(|name| running(name)).count() == 2, "not yet");
        Ok(())
    })
    .unwrap();
    let (first, waiting) = (names.iter().find(|name| running(name)), names.iter().find(|name| !running(name)));
    let (first, waiting) = (*first.unwrap(), *waiting.unwrap());
    let environment = place.exec(first, &["env"]).unwrap();
    assert!(environment.contains("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=50"), "{environment}");
    assert!(environment.contains("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0="), "{environment}");
    assert!(place.exec(first, &["ls", "/mps/nvidia.com/gpu/pipe"]).unwrap().contains("control"));
    connected(&place, first);
    place.wait_for_event(waiting, "Insufficient nvidia.com/gpu", SOON).unwrap();
    place.delete_pod(first).unwrap();
    connected(&place, waiting);

    // A fault of one is the end of both, and the GPU comes back.
    let other = *names.iter().find(|name| **name != first && **name != waiting).unwrap();
    connected(&place, other);
    place.exec(waiting, &["kill", "-USR1", "1"]).unwrap();
    installed.offers(GPU, 0);
    let told = place.wait_for_event(waiting, "a fault of one client", SOON).unwrap();
    assert!(told.contains("GPU-"), "{told}");
    for pod in [waiting, other] {
        place.delete_pod(pod).unwrap();
    }
    installed.offers(GPU, 2);
    place.apply(&client("d", GPU)).unwrap();
    connected(&place, "d");
    place.delete_pod("d").unwrap();

    installed.uninstall().unwrap();
    assert_nothing_left(&place);
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn pods_run_on_through_the_ends_of_agent_kubelet_and_socket() {
    let place = Place::begin("ends-of-parts").unwrap();
    one_gpu(&place);
    let node = &place.cluster().nodes()[0];
    let installed = Installation::new(&place, &shared(2)).unwrap();
    installed.offers(GPU, 2);
    place.apply(&client("steady", GPU)).unwrap();
    connected(&place, "steady");
    let daemon =
        || node.run("cat", &[&format!("/run/nvidia/mps/{}/pipe/nvidia-cuda-mps-control.pid", world::gpu_uuid(0))]);
    let before = daemon().unwrap();

    let agent = installed.pod("agent").unwrap();
    node.run("/bin/sh", &["-c", "for p in /proc/[0-9]*; do case \"$(tr '\\0' ' ' <$p/cmdline)\" in 'cotenant node ') kill -9 ${p#/proc/};; esac; done"])
        .unwrap();
    until("the agent was started again", SOON, || {
        let pod = place.kubernetes().object::<Pod>(RELEASE, &agent)?;
        let status = pod.and_then(|pod| pod.status).and_then(|status| status.container_statuses).unwrap_or_default();
        anyhow::ensure!(status.iter().any(|one| one.restart_count > 0 && one.ready), "not yet");
        Ok(())
    })
    .unwrap();
    installed.offers(GPU, 2);

    node.restart_kubelet().unwrap();
    installed.offers(GPU, 2);

    node.run("/bin/sh", &["-c", "rm /var/lib/kubelet/device-plugins/cotenant-*.sock"]).unwrap();
    place.apply(&client("late", GPU)).unwrap();
    connected(&place, "late");

    place.kubernetes().kubectl(&["--namespace", RELEASE, "delete", "pod", &agent]).unwrap();
    until("another agent is ready", SOON, || {
        let name = installed.pod("agent")?;
        anyhow::ensure!(name != agent, "it is the same");
        let pod = place.kubernetes().object::<Pod>(RELEASE, &name)?;
        let status = pod.and_then(|pod| pod.status).and_then(|status| status.container_statuses).unwrap_or_default();
        anyhow::ensure!(status.iter().any(|one| one.ready), "not ready");
        Ok(())
    })
    .unwrap();
    installed.offers(GPU, 2);

    assert_eq!(daemon().unwrap(), before, "the daemon is another");
    for pod in ["steady", "late"] {
        let status = place.pod(pod).unwrap().status.unwrap();
        assert_eq!(status.phase.as_deref(), Some("Running"), "{pod}");
    }
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn two_gpus_of_a_node_have_strategies_of_their_own_and_classes_have_limits() {
    let place = Place::begin("classes").unwrap();
    let configuration = "version: v1\ncotenant:\n  classes:\n    small: {memory: 8GiB, percent: 10}\n    \
                         large: {memory: 60GiB, percent: 50}\n  gpus:\n  \
                         - {devices: [0], strategy: mps, classes: {small: 4, large: 1}}\n  \
                         - {devices: [1], strategy: time-slicing, replicas: 3, resource: nvidia.com/gpu.shared}\n";
    let installed = Installation::new(&place, configuration).unwrap();
    for (resource, amount) in [("nvidia.com/gpu.small", 4), ("nvidia.com/gpu.large", 1), ("nvidia.com/gpu.shared", 3)] {
        installed.offers(resource, amount);
    }
    place.apply(&(client("small", "nvidia.com/gpu.small") + &client("large", "nvidia.com/gpu.large"))).unwrap();
    connected(&place, "small");
    connected(&place, "large");
    let environment = |pod: &str| place.exec(pod, &["env"]).unwrap();
    assert!(environment("small").contains("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=8192M"));
    assert!(environment("large").contains("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=50"));
    place.apply(&client("sliced", "nvidia.com/gpu.shared")).unwrap();
    place.wait_until_running("sliced").unwrap();
    let sliced = environment("sliced");
    assert!(!sliced.contains("CUDA_MPS_") && sliced.contains(&world::gpu_uuid(1)), "{sliced}");
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn an_edit_is_applied_live_and_one_that_would_disturb_a_pod_waits_for_it() {
    let place = Place::begin("edit").unwrap();
    one_gpu(&place);
    let sliced = |replicas: u32| {
        format!(
            "version: v1\nsharing: {{timeSlicing: {{resources: [{{name: nvidia.com/gpu, replicas: {replicas}}}]}}}}\n"
        )
    };
    let installed = Installation::new(&place, &sliced(2)).unwrap();
    installed.offers(GPU, 2);
    place.apply(&client("holder", GPU)).unwrap();
    place.wait_until_running("holder").unwrap();
    let edit = |configuration: &str| {
        let patch = serde_json::json!({ "data": { "default": configuration } }).to_string();
        let name = format!("{RELEASE}-configs");
        place.kubernetes().kubectl(&["--namespace", RELEASE, "patch", "configmap", &name, "--patch", &patch]).unwrap();
    };
    edit(&sliced(5));
    place.kubernetes().wait_for_allocatable(NODE, GPU, 5, EDIT).unwrap();
    edit(&shared(3));
    until("the edit is said to wait", EDIT, || {
        let log = installed.log("agent");
        anyhow::ensure!(log.contains("holder"), "{log}");
        Ok(())
    })
    .unwrap();
    let running = place.pod("holder").unwrap().status.unwrap();
    assert_eq!(running.phase.as_deref(), Some("Running"));
    place.delete_pod("holder").unwrap();
    installed.offers(GPU, 3);
    place.apply(&client("next", GPU)).unwrap();
    assert!(connected(&place, "next").contains("connected"));
}

#[test]
#[ignore = "needs a cluster: cargo xtask e2e"]
fn a_values_file_of_nvidias_chart_installs_unchanged() {
    let place = Place::begin("values").unwrap();
    let file = format!("{}/ci/nvidia-time-slicing-values.yaml", chart());
    let installed = Installation::of_files(&place, &[&file]).unwrap();
    installed.offers(GPU, 8);
    installed.uninstall().unwrap();
    assert_nothing_left(&place);
}
