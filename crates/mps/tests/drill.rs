//! The drill for real GPUs, on the simulation, so that it works when a GPU is at hand.

use std::path::PathBuf;
use std::process::Command;

use cotenant_testkit::mps::{Installation, Script, program};

/// An example of this crate, built: cargo does not build examples for a single test.
#[expect(clippy::disallowed_methods, reason = "`status` waits for it")]
#[expect(clippy::unwrap_used, reason = "a test's helper may fail the test")]
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let release = profile.ends_with("release").then_some("--release");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "cotenant-mps", "--example", name])
        .args(release)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success());
    profile.join("examples").join(name)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "`output` waits for it")]
fn every_step_of_the_drill_passes_on_the_simulation_and_leaves_nothing() {
    let installation = Installation::new(&Script::default()).unwrap();
    let root = installation.path().join("mps");
    let output = Command::new(example("drill"))
        .args(["--gpu", "GPU-d97c10ed-7751-cbb6-523f-757784dff59a", "--root"])
        .arg(&root)
        .arg("--program")
        .arg(installation.program())
        .arg("--client")
        .arg(program("fake-cuda-client").unwrap())
        .arg("--obey")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    let steps: Vec<String> = told
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_str().unwrap().to_owned())
        .filter(|step| step != "odd limit")
        .collect();
    let wanted = [
        "start",
        "adopt",
        "question",
        "serve",
        "terminate",
        "fault",
        "leave",
        "fault",
        "restart servers",
        "kill",
        "stop",
        "stop",
        "end",
    ];
    assert_eq!(steps, wanted);
    assert_eq!(std::fs::read_dir(root).unwrap().count(), 0);
}
