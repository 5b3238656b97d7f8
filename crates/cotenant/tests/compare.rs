//! `cotenant compare` as a whole: real processes, sockets, signals and files; the GPU, MPS and the model servers are fakes.

#![expect(clippy::disallowed_methods, reason = "tests wait for processes")]

mod support;

use std::fs;
use std::time::Duration;

use cotenant_model::Arm;
use support::{Ended, Machine, server};

const SHORT: [&str; 8] = ["--repeats", "1", "--duration", "600ms", "--warmup", "100ms", "--out", "out"];

fn compare(machine: &Machine, more: &[&str]) -> Ended {
    let mut arguments = vec!["compare", "workload.yaml"];
    arguments.extend(SHORT);
    arguments.extend(more);
    machine.run(&arguments)
}

#[test]
fn two_servers_are_compared_under_every_arm_and_nothing_is_left_behind() {
    let machine = Machine::new();
    machine.workload(&(server("chat", "") + &server("agent", "")));
    let ended = compare(&machine, &["--arms", "time-slicing,mps,mps:30/60,mps-memory,mig:1g.18gb", "--allow-settings"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.output.lines().all(|line| line.starts_with("simulated")), "{}", ended.output);
    let run = machine.record("out");
    let passes: Vec<usize> = run.arms.iter().map(|arm| arm.passes.len()).collect();
    assert_eq!(passes, [2, 1, 1, 1, 1, 0], "{:?}", run.notes);
    assert!(run.arm(&Arm::Mig("1g.18gb".to_owned())).expect("listed").refused.is_some());
    for window in run.arms.iter().flat_map(|arm| &arm.passes).flat_map(|pass| &pass.windows) {
        assert_eq!(window.failure, None);
        assert!(window.work.units > 20.0 && window.work.completed > 2, "{window:?}");
    }
    assert!(fs::read_to_string(machine.path("out/report.html")).expect("page").contains("simulated"));
    assert!(fs::read(machine.path("out/timeline.gif")).expect("animation").starts_with(b"GIF89a"));
    assert_eq!(machine.left_behind(), Vec::<String>::new());
}

#[test]
fn a_tenant_that_dies_in_the_middle_is_told_with_its_last_words_and_the_others_finish() {
    let machine = Machine::new();
    machine.workload(&(server("steady", "") + &server("frail", ", \"diesAfter\": 6")));
    let ended = compare(&machine, &["--arms", "time-slicing"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let run = machine.record("out");
    let shared = &run.arm(&Arm::TimeSlicing).expect("arm").passes[0].windows;
    assert_eq!(shared[0].failure, None);
    assert!(shared[0].work.completed > 2);
    let words = shared[1].failure.as_deref().expect("failed");
    assert!(words.contains("illegal memory access"), "{words}");
    assert!(ended.errors.contains(words) && ended.output.contains("frail"), "{ended:?}");
    assert_eq!(machine.left_behind(), Vec::<String>::new());
}

#[test]
fn a_kernel_tenant_without_cuda_fails_with_the_reason_and_not_with_a_backtrace() {
    let machine = Machine::new();
    machine.workload("  - name: decoder\n    kernel: {kind: decode, layers: 1, width: 128}\n");
    let ended = compare(&machine, &["--arms", "time-slicing"]);
    assert_eq!(ended.code, Some(4), "no real GPU has the simulated one's UUID: {ended:?}");
    assert!(ended.errors.contains("GPU") && !ended.errors.contains("panicked"), "{}", ended.errors);
}

#[test]
fn more_memory_than_the_gpu_has_is_said_before_anything_starts() {
    let machine = Machine::new();
    machine.workload("  - name: hoarder\n    kernel: {kind: memory, size: 900GiB}\n");
    let ended = compare(&machine, &["--arms", "time-slicing"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.errors.contains("hoarder 900 GiB") || ended.errors.contains("hoarder 901 GiB"), "{}", ended.errors);
    assert!(!machine.path("out/run.json").exists());
}

#[test]
fn a_second_run_on_the_gpu_is_turned_away_and_an_interrupted_one_keeps_what_it_measured() {
    let machine = Machine::new();
    machine.workload(&server("chat", ""));
    let arguments =
        ["compare", "workload.yaml", "--repeats", "50", "--duration", "300ms", "--warmup", "50ms", "--out", "out"];
    let child = machine.start(&arguments);
    let pid = rustix::process::Pid::from_child(&child);
    while !machine.left_behind().iter().any(|name| name.ends_with(".json")) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = machine.run(&["compare", "workload.yaml", "--out", "second"]);
    assert_eq!(second.code, Some(5), "{second:?}");
    assert!(second.errors.contains(&child.id().to_string()), "names the holder: {}", second.errors);
    std::thread::sleep(Duration::from_secs(6));
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("interrupted");
    let ended = Ended::from(child.wait_with_output().expect("ended"));
    assert_eq!(ended.code, Some(130), "{ended:?}");
    let run = machine.record("out");
    assert!(run.notes.iter().any(|note| note.starts_with("interrupted")), "{:?}", run.notes);
    assert!(run.arms.iter().any(|arm| !arm.passes.is_empty()));
    assert_eq!(machine.left_behind(), Vec::<String>::new());
}

#[test]
fn what_a_killed_run_leaves_the_next_run_ends() {
    let machine = Machine::new();
    machine.workload(&server("chat", ""));
    let mut child = machine.start(&[
        "compare",
        "workload.yaml",
        "--arms",
        "mps",
        "--repeats",
        "50",
        "--duration",
        "20s",
        "--out",
        "out",
    ]);
    while machine.left_behind().iter().filter(|name| name.ends_with(".json")).count() < 1 {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("killed");
    child.wait().expect("reaped");
    assert_ne!(machine.left_behind(), Vec::<String>::new(), "a killed run cannot clean up");
    machine.workload(&server("chat", ""));
    let ended = compare(&machine, &["--arms", "time-slicing"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(machine.left_behind().iter().filter(|name| name.ends_with(".json")).count(), 0);
}

#[test]
fn a_full_disk_loses_nothing() {
    let machine = Machine::new();
    machine.workload(&server("chat", ""));
    let disk = machine.path("out");
    fs::create_dir(&disk).expect("mount point");
    let mount = |words: &[&str]| {
        std::process::Command::new(words[0]).args(&words[1..]).arg(&disk).status().is_ok_and(|status| status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs"]) {
        eprintln!("SKIPPED: a full disk needs a file system of 4 KiB, and mounting is not allowed here");
        return;
    }
    let ended = compare(&machine, &["--arms", "time-slicing"]);
    assert!(mount(&["umount"]));
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let kept = fs::read_dir(machine.path("")).expect("folder").flatten().map(|entry| entry.path());
    let kept: Vec<_> = kept.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    assert_eq!(kept.len(), 1, "{}", ended.errors);
    assert!(
        ended.errors.contains("because: No space left on device") && ended.errors.contains("hint: the record is at"),
        "{}",
        ended.errors
    );
    assert!(!support::read(&kept[0]).arms.is_empty());
}

#[test]
fn unusable_arguments_say_what_is_usable() {
    let machine = Machine::new();
    machine.workload(&server("chat", ""));
    for (arguments, words) in [
        (["--arms", "mpz"], "the arms are: solo, time-slicing"),
        (["--duration", "soon"], "not a number of seconds"),
        (["--price", "free"], "US dollars"),
        (["--gpu", "7"], "there are: 0 (NVIDIA Simulated"),
    ] {
        let ended = compare_with(&machine, &arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?} {ended:?}");
        assert!(ended.errors.contains(words), "{}", ended.errors);
    }
}

fn compare_with(machine: &Machine, arguments: &[&str]) -> Ended {
    let mut all = vec!["compare", "workload.yaml", "--out", "other"];
    all.extend(arguments);
    machine.run(&all)
}

#[test]
fn every_problem_of_a_workload_is_told_at_once() {
    let machine = Machine::new();
    machine.workload("  - name: a\n    kernel: {kind: decode, widht: 100}\n  - name: a\n    kernel: {kind: prefill}\n    load: {open: {requestsPerSecond: -1}}\n");
    let ended = compare(&machine, &[]);
    assert_eq!(ended.code, Some(2));
    for words in ["widht", "workload.yaml:6", "requestsPerSecond"] {
        assert!(ended.errors.contains(words), "{words} in {}", ended.errors);
    }
}

#[test]
fn a_record_makes_its_report_again_and_compares_with_another() {
    let machine = Machine::new();
    machine.workload(&server("chat", ""));
    assert_eq!(compare(&machine, &["--arms", "time-slicing"]).code, Some(0));
    let again = machine.run(&["report", "out/run.json", "--out", "again"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    let page = |folder: &str| fs::read_to_string(machine.path(folder).join("report.html")).expect("page");
    assert_eq!(page("again").replace("out/run.json", "run.json"), page("out"));
    let json: serde_json::Value =
        serde_json::from_str(&machine.run(&["report", "out/run.json", "--table-only", "--output", "json"]).output)
            .expect("JSON");
    assert!(json.to_string().contains("time-slicing"));
    let diff = machine.run(&["diff", "out/run.json", "out/run.json"]);
    assert_eq!(diff.code, Some(0), "{diff:?}");
    assert!(diff.output.contains("no difference seen"), "{}", diff.output);
    let results = machine.run(&["results", "out/run.json"]);
    assert!(results.output.contains("../out/run.json"), "{}", results.output);
}
