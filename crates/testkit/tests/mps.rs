//! The simulated CUDA program as a pod runs it: a process of its own.
#![expect(clippy::expect_used, reason = "a test's helper may fail the test")]
#![expect(clippy::disallowed_methods, reason = "these tests wait for the children that they start")]

use std::io::{BufRead as _, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use cotenant_testkit::mps::{Client, Installation, Script, program};
use serde_json::Value;

/// A daemon in the background.
struct Daemon {
    installation: Installation,
    process: Child,
}

impl Daemon {
    fn start() -> Self {
        let installation = Installation::new(&Script::default()).expect("an installation");
        let process = Command::new(installation.program())
            .arg("-f")
            .env("CUDA_MPS_PIPE_DIRECTORY", installation.path().join("pipe"))
            .env("CUDA_VISIBLE_DEVICES", "GPU-1234")
            .stdout(Stdio::null())
            .spawn()
            .expect("a daemon");
        let daemon = Self { installation, process };
        while daemon.ask("get_server_list").is_none() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        daemon
    }

    fn pipe(&self) -> PathBuf {
        self.installation.path().join("pipe")
    }

    /// The reply to a command given as arguments; `None` when no daemon listens.
    fn ask(&self, command: &str) -> Option<String> {
        let asked = Command::new(self.installation.program())
            .args(command.split(' '))
            .env("CUDA_MPS_PIPE_DIRECTORY", self.pipe())
            .output()
            .expect("a reply");
        asked.status.success().then(|| String::from_utf8_lossy(&asked.stdout).trim().to_owned())
    }

    fn client(&self, arguments: &[&str]) -> Program {
        Program::start(&self.pipe(), arguments)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.ask("quit -t 0"));
        drop(self.process.wait());
    }
}

/// A `fake-cuda-client`.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(pipe: &PathBuf, arguments: &[&str]) -> Self {
        let mut child = Command::new(program("fake-cuda-client").expect("the program"))
            .args(arguments)
            .env("CUDA_MPS_PIPE_DIRECTORY", pipe)
            .env("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "0=2G")
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    fn hear(&mut self) -> Value {
        let line = self.lines.next().expect("a line").expect("a text");
        serde_json::from_str(&line).expect("JSON")
    }

    fn signal(&self, name: &str) {
        let signalled = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(signalled.expect("a signal").success());
    }

    fn exit_code(mut self) -> Option<i32> {
        self.child.wait().expect("an end").code()
    }
}

#[test]
fn a_program_tells_what_it_got_and_the_daemon_knows_it_by_the_kernels_word() {
    let daemon = Daemon::start();
    let mut program = daemon.client(&[]);
    let got = program.hear();
    assert_eq!((&got["event"], &got["mps"], &got["gpu"]), (&"connected".into(), &true.into(), &"GPU-1234".into()));
    assert_eq!(got["memoryBytes"], 2_u64 << 30);
    assert_eq!(got["environment"]["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"], "0=2G");
    let clients = daemon.ask(&format!("get_client_list {}", got["server"])).expect("a list");
    assert_eq!(clients, program.child.id().to_string());
    program.signal("TERM");
    assert_eq!(program.hear()["event"], "exit");
    assert_eq!(program.exit_code(), Some(0));
}

#[test]
fn a_program_faults_at_a_signal_and_takes_its_neighbours_with_it() {
    let daemon = Daemon::start();
    let (mut culprit, mut straggler) = (daemon.client(&[]), daemon.client(&["--linger"]));
    culprit.hear();
    straggler.hear();
    culprit.signal("USR1");
    assert_eq!(culprit.hear()["event"], "fault");
    for program in [&mut culprit, &mut straggler] {
        assert_eq!(program.hear()["code"], "700");
    }
    assert_eq!(culprit.exit_code(), Some(1));
    let mut refused = daemon.client(&[]);
    assert_eq!(refused.hear()["code"], "807");
    assert_eq!(refused.exit_code(), Some(1));
    straggler.signal("TERM");
    assert_eq!(straggler.exit_code(), Some(1));
    while Client::connect(&daemon.pipe(), 4711).is_err() {
        // The daemon notices the end of a process a moment later.
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_program_faults_in_its_own_time_and_without_a_daemon_it_runs_all_the_same() {
    let mut alone = Program::start(&"/nonexistent".into(), &["--fault-after", "10ms"]);
    assert_eq!(alone.hear()["mps"], false);
    assert_eq!(alone.hear()["event"], "fault");
    assert_eq!(alone.hear()["code"], "700");
    assert_eq!(alone.exit_code(), Some(1));
    let mut brief = Program::start(&"/nonexistent".into(), &["--hold", "10ms"]);
    brief.hear();
    assert_eq!(brief.exit_code(), Some(0));
}
