//! The keeper in process, with simulated GPUs and the simulated control program.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a node that cannot be set up fails its test"
)]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cotenant_gpu::Nvml;
use cotenant_model::gpu::ComputeMode;
use cotenant_model::{Bytes, GpuReader as _, GpuUuid};
use cotenant_mps::{ClientLimits, Identity};
use cotenant_node::keeper::client::{KeeperCallError, KeeperClient};
use cotenant_node::keeper::protocol::{Answer, Ask, DaemonSettings, Happening, Kept, Refusal};
use cotenant_node::keeper::{Config, Keeper, KeeperError};
use cotenant_testkit::{mps, nvml};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// A node for a keeper.
struct Node {
    folder: tempfile::TempDir,
    driver: nvml::Library,
    mps: mps::Installation,
}

/// A keeper that runs.
struct Running {
    runtime: Runtime,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<Result<(), KeeperError>>,
    client: KeeperClient,
}

fn gpu() -> GpuUuid {
    GpuUuid("GPU-00000000-1111-2222-3333-444444444444".to_owned())
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("kp").tempdir().unwrap();
        let driver = nvml::Scenario::of(nvml::Gpu::hopper(&gpu().0)).with_shared_settings().install().unwrap();
        let mps = mps::Installation::new(&mps::Script::default()).unwrap();
        Self { folder, driver, mps }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("mps")
    }

    fn pipe(&self) -> PathBuf {
        self.root().join(&gpu().0).join("pipe")
    }

    fn keeper(&self) -> Result<Keeper, KeeperError> {
        Keeper::new(&Config { root: self.root(), shared_memory: None, library: Some(self.driver.path()) })
    }

    fn start(&self) -> Running {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let stop = CancellationToken::new();
        let keeper = self.keeper().unwrap();
        let ended = runtime.spawn(keeper.run(stop.clone()));
        let running = Running { runtime, stop, ended, client: KeeperClient::new(&self.root()) };
        running.until(|running| running.call(Ask::List).is_ok());
        running
    }

    fn settings(&self) -> DaemonSettings {
        DaemonSettings { program: Some(self.mps.program()), exclusive: true, ..DaemonSettings::default() }
    }

    fn ensure(&self) -> Ask {
        Ask::Ensure { gpu: gpu(), settings: self.settings() }
    }

    fn mode(&self) -> ComputeMode {
        Nvml::load(self.driver.path()).unwrap().gpus().unwrap()[0].compute_mode.unwrap()
    }

    fn client(&self) -> mps::Client {
        mps::Client::connect(&self.pipe(), std::process::id()).unwrap()
    }
}

impl Running {
    fn call(&self, ask: Ask) -> Result<Answer, KeeperCallError> {
        self.runtime.block_on(self.client.ask(ask, PATIENCE))
    }

    fn daemon(&self, ask: Ask) -> Kept {
        match self.call(ask).unwrap() {
            Answer::Runs(kept) => kept,
            other => panic!("{other:?}"),
        }
    }

    fn list(&self) -> Vec<Kept> {
        match self.call(Ask::List).unwrap() {
            Answer::All(all) => all,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(&self, ask: Ask) -> (Refusal, String) {
        match self.call(ask).unwrap_err() {
            KeeperCallError::Refused { refusal, why } => (refusal, why),
            other => panic!("{other}"),
        }
    }

    fn until(&self, done: impl Fn(&Self) -> bool) {
        for _ in 0..1_500 {
            if done(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it did not come about");
    }

    /// As SIGTERM does.
    fn end(self) {
        self.stop.cancel();
        self.runtime.block_on(self.ended).unwrap().unwrap();
    }

    /// As SIGKILL does: nothing of it runs on, and nothing is tidied up.
    fn kill(self) {
        self.runtime.shutdown_timeout(PATIENCE);
    }
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

fn lives(pid: u32) -> bool {
    Identity::of(pid).is_some()
}

#[test]
fn a_daemon_is_kept_while_it_is_wanted_and_the_compute_mode_with_it() {
    let node = Node::new();
    let keeper = node.start();
    let first = keeper.daemon(node.ensure());
    assert!(!first.adopted && !first.three);
    assert_eq!(node.mode(), ComputeMode::ExclusiveProcess);
    assert_eq!(keeper.daemon(node.ensure()).pid, first.pid, "it is there already");
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(node.pipe()).unwrap());
    let fresh = keeper.daemon(Ask::Restart { gpu: gpu(), settings: node.settings() });
    assert_ne!(fresh.pid, first.pid);
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(node.pipe()).unwrap()), inode);
    assert_eq!(keeper.call(Ask::Stop { gpu: gpu(), idle: false }).unwrap(), Answer::Done);
    assert_eq!((node.mode(), keeper.list()), (ComputeMode::Default, Vec::new()));
    assert!(!lives(fresh.pid.unwrap()));
    keeper.end();
}

#[test]
fn a_death_is_told_at_once_and_the_daemon_stays_dead_until_it_is_wanted_again() {
    let node = Node::new();
    let keeper = node.start();
    let pid = keeper.daemon(node.ensure()).pid.unwrap();
    let (all, mut happenings) = keeper.runtime.block_on(keeper.client.watch()).unwrap();
    assert_eq!(all.len(), 1);
    kill(pid);
    let next = async { tokio::time::timeout(Duration::from_secs(5), happenings.next()).await };
    let Happening::Died { how, .. } = keeper.runtime.block_on(next).unwrap().unwrap() else { panic!("another") };
    assert!(how.contains("signal: 9"), "{how}");
    assert_eq!(keeper.list()[0].pid, None);
    assert!(keeper.list()[0].death.is_some());
    assert!(keeper.daemon(Ask::Restart { gpu: gpu(), settings: node.settings() }).pid.is_some());
    keeper.end();
}

#[test]
fn a_killed_keeper_leaves_its_daemons_and_the_next_takes_them_over_without_a_word_of_the_agent() {
    let node = Node::new();
    let keeper = node.start();
    let pid = keeper.daemon(node.ensure()).pid;
    keeper.kill();
    assert!(lives(pid.unwrap()));
    let next = node.start();
    next.until(|next| next.list().len() == 1);
    let kept = &next.list()[0];
    assert_eq!((kept.pid, kept.adopted, &kept.settings), (pid, true, &node.settings()));
    kill(pid.unwrap());
    next.until(|next| next.list()[0].pid.is_none());
    next.end();
    assert_eq!(node.mode(), ComputeMode::Default, "it was the former keeper who had changed it");
}

#[test]
fn a_daemon_that_died_with_its_keeper_runs_again() {
    let node = Node::new();
    let keeper = node.start();
    let pid = keeper.daemon(node.ensure()).pid.unwrap();
    keeper.kill();
    kill(pid);
    let next = node.start();
    next.until(|next| next.list().first().is_some_and(|kept| kept.pid.is_some()));
    next.end();
}

#[test]
fn a_compute_mode_that_a_killed_keeper_left_is_put_back() {
    let node = Node::new();
    let keeper = node.start();
    let pid = keeper.daemon(node.ensure()).pid.unwrap();
    keeper.kill();
    kill(pid);
    let record = node.root().join("keeper.json");
    let mut content: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    content["daemons"] = serde_json::json!({});
    std::fs::write(&record, content.to_string()).unwrap();
    let next = node.start();
    next.until(|_| node.mode() == ComputeMode::Default);
    next.end();
}

#[test]
fn one_keeper_has_a_root() {
    let node = Node::new();
    let keeper = node.start();
    let error = node.keeper().unwrap_err();
    assert!(matches!(error, KeeperError::Running { .. }), "{error}");
    keeper.end();
    assert!(node.keeper().is_ok());
}

#[test]
fn a_daemon_that_serves_somebody_is_neither_replaced_nor_ended_when_that_must_not_be() {
    let node = Node::new();
    let keeper = node.start();
    let pid = keeper.daemon(node.ensure()).pid;
    let client = node.client();
    let other = DaemonSettings { multi_user: true, ..node.settings() };
    let (refusal, why) = keeper.refusal(Ask::Ensure { gpu: gpu(), settings: other.clone() });
    assert_eq!(refusal, Refusal::Different);
    assert!(why.contains("multi-user") && why.contains(&std::process::id().to_string()), "{why}");
    assert_eq!(keeper.refusal(Ask::Stop { gpu: gpu(), idle: true }).0, Refusal::Busy);
    let limits = ClientLimits { memory: Some(Bytes(2 << 30)), percent: None };
    let limited = DaemonSettings { limits, ..node.settings() };
    assert_eq!(keeper.daemon(Ask::Ensure { gpu: gpu(), settings: limited }).pid, pid, "it was told its new limits");
    drop(client);
    keeper.until(|keeper| keeper.call(Ask::Ensure { gpu: gpu(), settings: other.clone() }).is_ok());
    assert_ne!(keeper.list()[0].pid, pid);
    keeper.end();
}

#[test]
fn servers_are_shut_by_force_while_the_daemon_stays() {
    let node = Node::new();
    let keeper = node.start();
    let pid = keeper.daemon(node.ensure()).pid;
    let mut client = node.client();
    let server = client.server();
    assert_eq!(keeper.call(Ask::ShutServers { gpu: gpu() }).unwrap(), Answer::Done);
    assert!(client.wait_for_error().is_ok_and(|code| code == "806"));
    keeper.until(|_| !lives(server));
    assert_eq!(keeper.list()[0].pid, pid);
    keeper.end();
}

fn left(root: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(root)
        .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn at_its_end_only_the_folders_that_containers_have_mounted_stay_and_an_uninstallation_takes_them_too() {
    let node = Node::new();
    let keeper = node.start();
    let pid = keeper.daemon(node.ensure()).pid.unwrap();
    keeper.end();
    assert_eq!((lives(pid), node.mode()), (false, ComputeMode::Default));
    assert_eq!(left(&node.root()), [gpu().0, "keeper.lock".to_owned()]);
    assert_eq!(left(&node.pipe()), Vec::<String>::new());
    let keeper = node.start();
    keeper.daemon(node.ensure());
    assert_eq!(keeper.call(Ask::Shutdown { cleanup: true }).unwrap(), Answer::Done);
    keeper.runtime.block_on(keeper.ended).unwrap().unwrap();
    assert!(!node.root().exists(), "{:?}", left(&node.root()));
}

#[test]
fn what_cannot_be_had_is_refused_with_its_reason() {
    let node = Node::new();
    let keeper = node.start();
    let settings = DaemonSettings { program: Some("/nonexistent/control".into()), ..node.settings() };
    let (refusal, why) = keeper.refusal(Ask::Ensure { gpu: gpu(), settings });
    assert_eq!(refusal, Refusal::Failed);
    assert!(why.contains("/nonexistent/control"), "{why}");
    let nowhere = Ask::Ensure { gpu: GpuUuid("../x".to_owned()), settings: DaemonSettings::default() };
    assert!(keeper.refusal(nowhere).1.contains("no folders"));
    let unknown = Ask::Ensure { gpu: GpuUuid("GPU-9".to_owned()), settings: node.settings() };
    assert!(keeper.refusal(unknown).1.contains("compute mode"));
    keeper.end();
}

#[test]
fn rude_callers_are_answered_or_let_go_and_others_served() {
    let node = Node::new();
    let keeper = node.start();
    let socket = node.root().join("keeper.sock");
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions()) & 0o777,
        0o600
    );
    let silent: Vec<UnixStream> = (0..8).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for line in ["garbage\n", "\n", "{\"version\":1}\n", "{\"version\":99,\"ask\":\"list\"}\n"] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.contains("refused"), "{reply}");
    }
    let mut endless = UnixStream::connect(&socket).unwrap();
    let flood = vec![b'x'; 1 << 20];
    drop(endless.write_all(&flood));
    assert_eq!(keeper.list(), Vec::new());
    drop(silent);
    keeper.end();
}
