//! A simulated node for agent and keeper as processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cotenant_testkit::kubelet::{Container, Given, Kubelet};
use cotenant_testkit::{mps, nvml};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const GPU: &str = "GPU-00000000-1111-2222-3333-444444444444";
pub(crate) const OTHER: &str = "GPU-00000000-1111-2222-3333-555555555555";
pub(crate) const SHARED: &str = "version: v1\nsharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}\n";
pub(crate) const RESOURCE: &str = "nvidia.com/gpu";

/// A process that ends with the test.
pub(crate) struct Program(pub(crate) Child);

impl Program {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).expect("signalled");
    }

    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.0.wait().expect("waited").code()
    }

    /// Ends it as an operator would.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A simulated node.
pub(crate) struct Node {
    pub(crate) kubelet: Kubelet,
    pub(crate) driver: nvml::Library,
    pub(crate) mps: mps::Installation,
    pub(crate) folder: tempfile::TempDir,
}

/// Ends what outlives keepers that were killed, as daemons must, and unmounts what they had mounted.
impl Drop for Node {
    fn drop(&mut self) {
        for pid in self.left_behind() {
            kill_process(pid, Signal::KILL).ok();
        }
        let shared_memory = self.path("mps").join("shm");
        while unmount(&shared_memory, UnmountFlags::DETACH).is_ok() {}
    }
}

impl Node {
    /// Processes that this node's folder is named to, by their arguments or environment.
    fn left_behind(&self) -> Vec<Pid> {
        let folder = self.folder.path().as_os_str().as_encoded_bytes().to_vec();
        let names = |file: &Path| {
            fs::read(file).is_ok_and(|text| text.windows(folder.len()).any(|window| window == folder.as_slice()))
        };
        let processes = fs::read_dir("/proc").expect("readable").flatten();
        let own = processes.filter(|entry| {
            let program = entry.path();
            let name = fs::read_to_string(program.join("comm")).unwrap_or_default();
            let is_ours = name.starts_with("nvidia-cuda-mps") || name.starts_with("cotenant");
            is_ours && (names(&program.join("environ")) || names(&program.join("cmdline")))
        });
        own.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
    }

    pub(crate) fn new(configuration: &str) -> Self {
        let scenario = nvml::Scenario::of(nvml::Gpu::hopper(GPU)).with_shared_settings();
        Self::with(&scenario, configuration)
    }

    pub(crate) fn with(scenario: &nvml::Scenario, configuration: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("cn").tempdir().expect("folder");
        let node = Self {
            kubelet: Kubelet::started(folder.path()).expect("kubelet"),
            driver: scenario.install().expect("simulated NVML"),
            mps: mps::Installation::new(&mps::Script::default()).expect("simulated MPS"),
            folder,
        };
        node.configure(configuration);
        node
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn configure(&self, text: &str) {
        let draft = self.path("config.draft");
        fs::write(&draft, text).expect("written");
        fs::rename(draft, self.path("config.yaml")).expect("renamed");
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cotenant"));
        command.arg("node").args(arguments).stdin(Stdio::null());
        command.env("COTENANT_NVML", self.driver.path()).env("COTENANT_MPS_CONTROL", self.mps.program());
        command.env("MPS_ROOT", self.path("mps")).env("COTENANT_LOG", "info");
        command
    }

    pub(crate) fn start(&self, name: &str, command: &mut Command) -> Program {
        let log = fs::File::options().create(true).append(true).open(self.path(name)).expect("log");
        command.stdout(log.try_clone().expect("cloned")).stderr(log);
        Program(command.spawn().expect("started"))
    }

    pub(crate) fn keeper(&self) -> Program {
        let keeper = self.start("keeper.log", &mut self.command(&["keeper", "--shared-memory", "16MiB"]));
        until("the keeper answers", || self.command(&["keeper", "--check"]).output().expect("ran").status.success());
        keeper
    }

    pub(crate) fn agent_command(&self) -> Command {
        let mut command = self.command(&["--node-name", "n1"]);
        // What a test wants otherwise, it says by options, which go before the environment.
        command.env("COTENANT_API", "false").env("COTENANT_LISTEN", "");
        command.arg("--config-file").arg(self.path("config.yaml"));
        command.arg("--kubelet-socket").arg(self.kubelet.device_plugins().join("kubelet.sock"));
        command.arg("--pod-resources-socket").arg(self.kubelet.pod_resources());
        command.arg("--cdi-root").arg(self.path("cdi")).arg("--state-directory").arg(self.path("state"));
        command.arg("--socket").arg(self.socket());
        command
    }

    pub(crate) fn agent(&self) -> Program {
        self.start("agent.log", &mut self.agent_command())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("node.sock")
    }

    pub(crate) fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.path(name)).unwrap_or_default();
        format!("agent:\n{}\nkeeper:\n{}", read("agent.log"), read("keeper.log"))
    }

    pub(crate) async fn until_healthy(&self, resource: &str, devices: usize) {
        let until = self.kubelet.until(|kubelet| kubelet.healthy(resource) == devices).await;
        assert!(until.is_ok(), "{resource}: {} healthy, not {devices}\n{}", self.kubelet.healthy(resource), self.log());
    }

    pub(crate) async fn admit(&self, pod: &str, resource: &str) -> Given {
        let admitted = self.kubelet.admit(&Container::of(pod), resource, 1).await;
        admitted.unwrap_or_else(|refused| panic!("{pod}: {refused:?}\n{}", self.log()))
    }

    /// A CUDA program in such a container, which has the host's pipe folder where the container has its own.
    pub(crate) fn client(&self, given: &Given) -> Program {
        let mut command = Command::new(cotenant_testkit::program("fake-cuda-client").expect("built"));
        // As most CUDA programs it notices an error with its next call; a test that waits for the fault needs it to stay.
        command.arg("--linger").stdin(Stdio::null()).env_clear().envs(&given.environment);
        let inside = given.environment.get("CUDA_MPS_PIPE_DIRECTORY").expect("an MPS share");
        let (_, host, _) = given.mounts.iter().find(|(container, ..)| container == inside).expect("mounted");
        command.env("CUDA_MPS_PIPE_DIRECTORY", host);
        self.start("client.log", &mut command)
    }

    pub(crate) fn pipe(&self, gpu: &str) -> PathBuf {
        self.path("mps").join(gpu).join("pipe")
    }

    pub(crate) fn daemon(&self, gpu: &str) -> Option<i32> {
        let text = fs::read_to_string(self.pipe(gpu).join("nvidia-cuda-mps-control.pid")).ok()?;
        text.trim().parse().ok()
    }

    /// The keeper that the agent started.
    pub(crate) fn spawned_keeper(&self) -> i32 {
        let text = self.log();
        let line = text.lines().find(|line| line.contains("started a keeper")).expect("it was started");
        let pid = line.split("pid=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a pid");
        pid.parse().expect("a number")
    }

    /// Puts a process into a pod, as its cgroup says.
    pub(crate) fn adopt(&self, program: &Program, pod: &str) {
        let folder = self.path("proc").join(program.0.id().to_string());
        fs::create_dir_all(&folder).expect("made");
        let cgroup = format!("0::/kubepods/besteffort/pod{}/{}\n", uid(pod), "0".repeat(64));
        fs::write(folder.join("cgroup"), cgroup).expect("written");
    }

    pub(crate) fn clients(&self, count: usize) {
        until("the clients are connected", || {
            let log = fs::read_to_string(self.path("client.log")).unwrap_or_default();
            log.lines().filter(|line| line.contains("connected")).count() >= count
        });
    }
}

/// The uid of a pod of this name.
pub(crate) fn uid(pod: &str) -> String {
    let digits: String = pod.bytes().chain([0; 6]).take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("00000000-0000-0000-0000-{digits}")
}

pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn is_alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
