//! What `cotenant compare` says of the machine it finds: no GPU, somebody else's MPS daemon, somebody else's processes.

#![expect(clippy::disallowed_methods, clippy::expect_used, reason = "tests start the program and wait for it")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use cotenant_testkit::{mps, nvml, program};

/// The program in a folder of its own, with `library` as its driver library.
fn cotenant(folder: &Path, library: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cotenant"));
    command.args(arguments).current_dir(folder).env("COTENANT_NVML", library).env("XDG_RUNTIME_DIR", folder);
    command.output().expect("started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn without_a_gpu_the_reason_is_said_and_every_line_shown_is_marked_recorded() {
    let folder = tempfile::tempdir().expect("folder");
    let ended = cotenant(folder.path(), Path::new("/nonexistent/libnvidia-ml.so.1"), &["compare"]);
    let (output, errors) = (text(&ended.stdout), text(&ended.stderr));
    assert_eq!(ended.status.code(), Some(0), "{errors}");
    assert!(errors.starts_with("error: no NVIDIA GPU"), "{errors}");
    assert_eq!(errors.matches("cannot open shared object file").count(), 1, "{errors}");
    assert!(errors.contains("hint: install the NVIDIA driver"), "{errors}");
    assert!(output.contains("NVIDIA H200") && output.contains("time-slicing"), "{output}");
    let unmarked: Vec<&str> = output.lines().filter(|line| !line.starts_with("recorded")).collect();
    assert_eq!(unmarked, Vec::<&str>::new());
    let page = std::fs::read_to_string(folder.path().join("results/recorded/two-decoders/report.html")).expect("page");
    assert!(page.contains("recorded"));
}

#[test]
fn where_a_recording_cannot_be_written_it_is_shown_all_the_same_and_nothing_is_left_elsewhere() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("file"), "in the way").expect("file");
    let temporary = tempfile::tempdir().expect("folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cotenant"));
    command.args(["compare", "--out", "file/below"]).current_dir(folder.path()).env("TMPDIR", temporary.path());
    let ended = command.env("COTENANT_NVML", "/nonexistent/libnvidia-ml.so.1").output().expect("started");
    let errors = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{errors}");
    assert!(text(&ended.stdout).contains("NVIDIA H200"));
    assert!(errors.contains("cannot write results into `file/below`") && errors.contains("--out"), "{errors}");
    assert_eq!(std::fs::read_dir(temporary.path()).expect("folder").count(), 0);
}

#[test]
fn a_full_standard_output_is_named() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("full device");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cotenant"));
    let ended = command.args(["completions", "bash"]).stdout(full).output().expect("started");
    assert_eq!(ended.status.code(), Some(6));
    assert!(text(&ended.stderr).starts_with("error: cannot write to standard output: No space left"), "{ended:?}");
}

#[test]
fn a_workload_of_ones_own_is_not_answered_with_a_recording() {
    let folder = tempfile::tempdir().expect("folder");
    let tenant = "  - name: a\n    kernel: {kind: launch-bound}\n";
    let head = "apiVersion: cotenant.dev/v1alpha1\nkind: Workload\nmetadata: {name: my-own}\ntenants:\n";
    std::fs::write(folder.path().join("mine.yaml"), format!("{head}{tenant}")).expect("workload");
    let ended = cotenant(folder.path(), Path::new("/nonexistent/libnvidia-ml.so.1"), &["compare", "mine.yaml"]);
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    assert_eq!(text(&ended.stdout), "");
}

#[test]
fn somebody_elses_daemon_and_processes_are_named_and_left_alone() {
    let folder = tempfile::Builder::new().prefix("ct").tempdir().expect("folder");
    let gpu = nvml::Gpu::hopper("GPU-00000000-5555-6666-7777-888888888888");
    let gpu = gpu.with_process(nvml::Process::compute(std::process::id(), 5 << 30));
    let gpu = nvml::Scenario::of(gpu).install().expect("simulated NVML");
    let theirs = mps::Installation::new(&mps::Script::default()).expect("simulated MPS");
    let pipe = folder.path().join("theirs");
    std::fs::create_dir(&pipe).expect("pipe directory");
    let mut daemon = Command::new(theirs.program());
    daemon.arg("-f").env("CUDA_MPS_PIPE_DIRECTORY", &pipe).env("CUDA_MPS_LOG_DIRECTORY", &pipe);
    let mut daemon = daemon.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("daemon");

    let server = program("fake-model-server").expect("fake model server");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address").port();
    let tenant = format!(
        "  - name: chat\n    server: {{engine: ollama, endpoint: 'http://127.0.0.1:{port}', model: fake, maxTokens: 4, \
         command: ['{}', '127.0.0.1:{port}']}}\n",
        server.display()
    );
    let head = "apiVersion: cotenant.dev/v1alpha1\nkind: Workload\nmetadata: {name: beside-others}\ntenants:\n";
    std::fs::write(folder.path().join("workload.yaml"), format!("{head}{tenant}")).expect("workload");
    let arguments = "compare workload.yaml --arms time-slicing --repeats 1 --duration 300ms --warmup 50ms --out out";
    let ended = cotenant(folder.path(), &gpu.path(), &arguments.split(' ').collect::<Vec<_>>());

    let alive = daemon.try_wait().expect("asked").is_none();
    daemon.kill().expect("ended");
    daemon.wait().expect("reaped");
    let errors = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{errors}");
    assert!(alive, "somebody else's daemon was ended");
    assert!(errors.contains("somebody else's MPS control daemon") && errors.contains("theirs"), "{errors}");
    assert!(errors.contains(&format!("(process {})", std::process::id())), "{errors}");
    let record = std::fs::read_to_string(folder.path().join("out/run.json")).expect("record");
    assert!(record.contains("is on this GPU and is left alone"), "the record's notes say it too");
}
