//! `cotenant config`: checks of files, and what GPUs will offer.

#![expect(clippy::disallowed_methods, reason = "tests start the program and wait for it")]
#![cfg(test)]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use cotenant_testkit::nvml;
use serde_json::Value;

const MPS: &str = "sharing:\n  mps:\n    resources:\n    - {name: nvidia.com/gpu, replicas: 4}\n";

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cotenant"));
    command.arg("config");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the program with standard input.
fn piped(arguments: &[&str], input: &str) -> Output {
    let mut command = program();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    child.stdin.take().expect("input").write_all(input.as_bytes()).expect("written");
    child.wait_with_output().expect("ended")
}

#[test]
fn a_sound_file_ends_with_0_and_a_broken_one_with_2() {
    let sound = piped(&["check", "-"], MPS);
    assert_eq!((sound.status.code(), text(&sound.stderr)), (Some(0), String::new()));
    assert_eq!(text(&sound.stdout), "standard input: a configuration: no problems, no notes\n");
    let broken = piped(&["check", "-"], "flags: {migStrategy: mix, renameByDefault: true}\n");
    assert_eq!(broken.status.code(), Some(2));
    assert_eq!(
        text(&broken.stdout),
        "standard input:1:22: flags.migStrategy: `mix` is not one of none, single, mixed\n  fix: did you mean `mixed`?\n\
         standard input:1:27: note: flags.renameByDefault: unknown key `renameByDefault`, which does nothing\n  \
         fix: it belongs to `sharing.mps` or `sharing.timeSlicing`\n\
         standard input: a configuration: 1 problem, 1 note\n"
    );
}

#[test]
fn every_configuration_of_a_values_file_is_checked_and_programs_can_read_it() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("values.yaml");
    fs::write(&path, "config:\n  map:\n    a: |-\n      version: v1\n    b: |-\n      version: v2\n").expect("file");
    let output = program().args(["check", "--output", "json"]).arg(&path).output().expect("started");
    assert_eq!(output.status.code(), Some(2));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found.pointer("/0/layout"), Some(&Value::from("chart-values")));
    assert_eq!(found.pointer("/0/configurations/0/problems"), Some(&Value::Array(Vec::new())));
    assert_eq!(found.pointer("/0/configurations/1/problems/0/line"), Some(&Value::from(6)));
    let shown = text(&program().arg("check").arg(&path).output().expect("started").stdout);
    assert!(shown.contains("configurations a, b (for a node without a label: several configurations"), "{shown}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let output = program().args(["check", "/nonexistent/config.yaml"]).output().expect("started");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot read `/nonexistent/config.yaml`"), "{}", text(&output.stderr));
    let bytes = program().args(["check", env!("CARGO_BIN_EXE_cotenant")]).output().expect("started");
    assert_eq!(bytes.status.code(), Some(2), "a program is no text");
}

#[test]
fn a_machine_without_gpu_plans_with_the_inventory_of_one_that_has_them() {
    let folder = tempfile::tempdir().expect("folder");
    let gpu = nvml::Gpu::hopper("GPU-00000000-1111-2222-3333-444444444444");
    let library = nvml::Scenario::of(gpu).install().expect("simulated NVML");
    let run = |arguments: &[&Path], library: &Path| {
        program().args(arguments).env("COTENANT_NVML", library).output().expect("started")
    };
    let (inventory, plan) = (folder.path().join("inventory.json"), folder.path().join("config.yaml"));
    let printed = run(&[Path::new("inventory")], &library.path());
    assert_eq!(printed.status.code(), Some(0), "{}", text(&printed.stderr));
    fs::write(&inventory, &printed.stdout).expect("file");
    fs::write(&plan, MPS).expect("file");
    let here = run(&[Path::new("explain"), &plan], &library.path());
    let nowhere = Path::new("/nonexistent/libnvidia-ml.so");
    let there = run(&[Path::new("explain"), &plan, Path::new("--inventory"), &inventory], nowhere);
    assert_eq!(there.status.code(), Some(0), "{}", text(&there.stderr));
    assert_eq!(text(&here.stdout), text(&there.stdout));
    assert!(text(&here.stdout).contains("4 × nvidia.com/gpu"), "{}", text(&here.stdout));
    let without = run(&[Path::new("explain"), &plan], nowhere);
    assert_eq!(without.status.code(), Some(3), "no GPU and no inventory");
    assert!(text(&without.stderr).contains("hint: `--inventory FILE`"), "{}", text(&without.stderr));
}

#[test]
fn what_the_gpus_cannot_do_is_told_with_its_line() {
    let folder = tempfile::tempdir().expect("folder");
    let (inventory, plan) = (folder.path().join("inventory.json"), folder.path().join("config.yaml"));
    let gpu = r#"[{"index": 0, "uuid": "GPU-0", "name": "NVIDIA T4", "memory": 16106127360, "migDevices": []}]"#;
    fs::write(&inventory, gpu).expect("file");
    let classes = "cotenant:\n  classes: {huge: {memory: 80GiB, percent: 50}}\n  gpus:\n  - strategy: mps\n    classes: {huge: 1}\n";
    fs::write(&plan, classes).expect("file");
    let output = program().arg("explain").arg(&plan).arg("--inventory").arg(&inventory).output().expect("started");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    let errors = text(&output.stderr);
    assert!(errors.contains("config.yaml:5:5: cotenant.gpus[0].classes"), "{errors}");
}
