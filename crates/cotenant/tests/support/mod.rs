//! A machine for the program: simulated GPU and MPS reached the real way, fake model servers as processes.

#![expect(clippy::disallowed_methods, reason = "tests start the program and wait for it")]
#![expect(clippy::expect_used, reason = "a test machine that cannot be set up fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use cotenant_model::run::Run;
use cotenant_testkit::{mps, nvml};

/// A simulated machine; everything of it lies in one folder.
#[derive(Debug)]
pub(crate) struct Machine {
    folder: tempfile::TempDir,
    gpu: nvml::Library,
    mps: mps::Installation,
}

/// How a finished program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), output: text(&output.stdout), errors: text(&output.stderr) }
    }
}

impl Machine {
    /// One simulated H200.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("ct").tempdir().expect("folder");
        let gpu = nvml::Gpu::hopper("GPU-00000000-1111-2222-3333-444444444444");
        let gpu = nvml::Scenario::of(gpu).install().expect("simulated NVML");
        let mps = mps::Installation::new(&mps::Script::default()).expect("simulated MPS");
        fs::create_dir(folder.path().join("run")).expect("run root");
        Self { folder, gpu, mps }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a workload of these tenants.
    pub(crate) fn workload(&self, tenants: &str) -> PathBuf {
        let path = self.path("workload.yaml");
        let head = "apiVersion: cotenant.dev/v1alpha1\nkind: Workload\nmetadata: {name: simulated}\ntenants:\n";
        fs::write(&path, format!("{head}{tenants}")).expect("workload");
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cotenant"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("COTENANT_NVML", self.gpu.path()).env("COTENANT_MPS_CONTROL", self.mps.program());
        command.env("XDG_RUNTIME_DIR", self.path("run")).env("TMPDIR", self.folder.path()).env_remove("NO_COLOR");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).output().expect("started").into()
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
    }

    pub(crate) fn record(&self, name: &str) -> Run {
        read(&self.path(name).join("run.json"))
    }

    /// Records of processes and folders of daemons that a finished run should not have left.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        let root = self.path("run").join("cotenant");
        let names = |folder: &Path| -> Vec<String> {
            fs::read_dir(folder)
                .map(|entries| {
                    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
                })
                .unwrap_or_default()
        };
        let mut left = names(&root.join("processes"));
        let ours =
            |name: &String| name.starts_with("mps-") || name.starts_with("run-") || name.ends_with(".compute-mode");
        left.extend(names(&root).into_iter().filter(ours));
        left
    }
}

pub(crate) fn read(path: &Path) -> Run {
    serde_json::from_slice(&fs::read(path).expect("a record was written")).expect("a record is JSON")
}

/// A free loopback port; another process could take it before the server does, which no test here has seen.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address").port()
}

/// A tenant that is a fake model server: a request of eight tokens takes about 20 ms. `script` is added to its behaviour.
pub(crate) fn server(name: &str, script: &str) -> String {
    let program = cotenant_testkit::program("fake-model-server").expect("fake model server");
    let port = free_port();
    format!(
        "  - name: {name}\n    server:\n      engine: ollama\n      endpoint: http://127.0.0.1:{port}\n      \
         command: ['{}', '127.0.0.1:{port}', '{{\"then\": {{\"firstMicros\": 5000, \"gapMicros\": 2000}}{script}}}']\n      \
         model: fake\n      maxTokens: 8\n      ready: 20s\n      timeout: 5s\n    memory: 1GiB\n",
        program.display()
    )
}
