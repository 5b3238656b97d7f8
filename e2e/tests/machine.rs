//! A machine without a cluster: that it is a world of its own, and that nothing is left of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use e2e::machine::{Bind, Machine, Part, Specification};
use e2e::process::{self, Identity, command};
use e2e::wait::until;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

fn specification() -> Specification {
    Specification { hostname: "test".to_owned(), binds: Vec::new(), door: None }
}

fn start(specification: &Specification, outside: Option<TcpListener>) -> (TempDir, Machine) {
    let folder = tempfile::Builder::new().prefix("e2e-").tempdir_in("/run").unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_e2e-machine"));
    let machine = Machine::start(folder.path(), program, specification, outside).unwrap();
    (folder, machine)
}

fn part(name: &str, program: &str, arguments: &[&str]) -> Part {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Part { name: name.to_owned(), program: program.to_owned(), arguments }
}

fn inside(machine: &Machine, script: &str) -> String {
    process::run(machine.command("sh").args(["-c", script]), SOON).unwrap().trim().to_owned()
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_machine_sees_its_own_processes_network_and_name_and_cannot_write_to_the_hosts_disk() {
    let (folder, machine) = start(&specification(), None);
    assert_eq!(inside(&machine, "hostname"), "test");
    assert_eq!(inside(&machine, "ls /sys/class/net /proc/net/dev >/dev/null; grep -c : /proc/net/dev"), "1");
    assert!(inside(&machine, "cat /proc/1/comm").starts_with("e2e-machine"));
    assert_eq!(inside(&machine, "ls /var/lib | wc -l"), "0");
    assert_eq!(inside(&machine, "touch /etc/x 2>/dev/null || echo refused"), "refused");
    assert_eq!(inside(&machine, "echo 2 > /proc/sys/vm/swappiness 2>/dev/null || echo refused"), "refused");
    inside(&machine, "touch /run/e2e/log/seen");
    assert!(folder.path().join("log/seen").exists());
    Machine::end(folder.path()).unwrap();
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn what_a_kubelet_writes_for_the_whole_host_stays_in_the_machine() {
    let (folder, machine) = start(&specification(), None);
    let setting = "/proc/sys/kernel/panic";
    let before = fs::read_to_string(setting).unwrap();
    inside(&machine, "echo 4711 > /proc/sys/kernel/panic");
    assert_eq!(inside(&machine, "cat /proc/sys/kernel/panic"), "4711");
    assert_eq!(fs::read_to_string(setting).unwrap(), before);
    Machine::end(folder.path()).unwrap();
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn killing_a_machine_ends_parts_and_what_they_left_behind() {
    let (folder, machine) = start(&specification(), None);
    // The part leaves an orphan in a session of its own, as containerd leaves its shims.
    machine.start_part(&part("parent", "sh", &["-c", "setsid sleep 4711 & sleep 4711"])).unwrap();
    let sleeping = || {
        let found = processes("sleep\u{0}4711\u{0}");
        anyhow::ensure!(found.len() == 2, "{found:?}");
        Ok(found)
    };
    let sleepers = until("two sleeping processes", SOON, sleeping).unwrap();
    Machine::end(folder.path()).unwrap();
    assert!(sleepers.iter().all(|process| !process.is_alive()));
    Machine::end(folder.path()).unwrap();
    assert!(Machine::attach(folder.path()).is_err());
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_machine_whose_harness_was_killed_can_be_ended_by_another() {
    let folder = tempfile::Builder::new().prefix("e2e-").tempdir_in("/run").unwrap();
    fs::create_dir(folder.path().join("log")).unwrap();
    let text = serde_json::to_vec(&specification()).unwrap();
    fs::write(folder.path().join("machine.json"), text).unwrap();
    let program = env!("CARGO_BIN_EXE_e2e-machine");
    // The shell stands for the harness, and is killed when the machine is there.
    let script = format!("unshare -m -n -p -i -u -f --kill-child=SIGKILL {program} {} & wait", folder.path().display());
    let mut harness = command("sh").args(["-c", &script]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let machine = until("the machine", SOON, || Machine::attach(folder.path())).unwrap();
    until("its parts", SOON, || machine.parts()).unwrap();
    harness.kill().unwrap();
    harness.wait().unwrap();
    assert_eq!(machine.parts().unwrap(), []);
    Machine::end(folder.path()).unwrap();
    assert!(machine.parts().is_err());
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_machine_whose_harness_is_gone_before_it_is_ready_does_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("log")).unwrap();
    fs::write(folder.path().join("machine.json"), serde_json::to_vec(&specification()).unwrap()).unwrap();
    let mut unshare = command("unshare");
    unshare.args(["-m", "-n", "-p", "-i", "-u", "-f", "--kill-child=SIGKILL", env!("CARGO_BIN_EXE_e2e-machine")]);
    let mut child = unshare.arg(folder.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(!child.wait().unwrap().success());
    assert!(Machine::attach(folder.path()).is_err());
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_part_is_stopped_gently_or_not_and_started_again() {
    let (folder, machine) = start(&specification(), None);
    machine.start_part(&part("gentle", "sleep", &["4712"])).unwrap();
    machine.start_part(&part("deaf", "sh", &["-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"])).unwrap();
    let refused = machine.start_part(&part("gentle", "sleep", &["1"])).unwrap_err();
    assert!(format!("{refused:#}").contains("gentle runs already"), "{refused:#}");
    let log = folder.path().join("log/deaf.log");
    let trapped = until("the trap", SOON, || {
        anyhow::ensure!(fs::read_to_string(&log)?.contains("up"), "no word");
        Ok(())
    });
    trapped.unwrap();
    machine.stop_part("gentle", SOON).unwrap();
    machine.stop_part("deaf", Duration::from_millis(300)).unwrap();
    let ends: Vec<_> = machine.parts().unwrap().into_iter().map(|part| part.ended.unwrap()).collect();
    assert_eq!(ends, ["signal 9", "signal 15"]);
    machine.start_again("gentle").unwrap();
    assert!(machine.start_again("gentle").is_err());
    assert!(machine.start_again("nobody").is_err());
    let absent = machine.start_part(&part("absent", "no-program-has-this-name", &[])).unwrap_err();
    assert!(format!("{absent:#}").contains("cannot start no-program-has-this-name"), "{absent:#}");
    Machine::end(folder.path()).unwrap();
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_machine_that_cannot_be_set_up_says_why_and_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = Bind { source: PathBuf::from("/nowhere"), target: PathBuf::from("/opt/x") };
    let specification = Specification { binds: vec![nowhere], ..specification() };
    let program = Path::new(env!("CARGO_BIN_EXE_e2e-machine"));
    let failed = Machine::start(folder.path(), program, &specification, None).unwrap_err();
    assert!(format!("{failed:#}").contains("cannot take /nowhere"), "{failed:#}");
    assert!(Machine::attach(folder.path()).is_err());
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_door_leads_into_the_machines_network() {
    let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = outside.local_addr().unwrap().port();
    let door = Some("127.0.0.1:4711".parse().unwrap());
    let (folder, machine) = start(&Specification { door, ..specification() }, Some(outside));
    process::run(machine.network_command("ip").args(["link", "set", "lo", "up"]), SOON).unwrap();
    machine.start_part(&part("server", "busybox", &["nc", "-l", "-p", "4711", "-e", "echo", "inside"])).unwrap();
    let answer = until("an answer", SOON, || {
        let said = process::run(command("busybox").args(["nc", "127.0.0.1", &port.to_string()]), SOON)?;
        anyhow::ensure!(!said.is_empty(), "nobody listens yet");
        Ok(said)
    });
    assert_eq!(answer.unwrap(), "inside\n");
    Machine::end(folder.path()).unwrap();
}

/// Processes of this host with exactly these arguments.
fn processes(arguments: &str) -> Vec<Identity> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let matching =
        ids.filter(|id| fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| line == arguments.as_bytes()));
    matching.filter_map(|id| Identity::of(id).ok()).collect()
}
