//! Resident daemons through real processes: the simulated control program, started, lost, found, hurt and ended.

mod fault;
mod three;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cotenant_model::{Bytes, Percent};
use cotenant_testkit::mps::{Client, Installation, Script, ServerStart, Start};
use tempfile::TempDir;

use super::*;
use crate::log::{Entry, LogWatch};
use crate::place::{OUTPUT, PlaceError};
use crate::reply::ServerStatus;

const GPU: &str = "GPU-d97c10ed-7751-cbb6-523f-757784dff59a";
/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A control program and an MPS root.
struct Stage {
    installation: Installation,
    root: TempDir,
}

impl Stage {
    fn new(script: &Script) -> Self {
        Self { installation: Installation::new(script).unwrap(), root: tempfile::tempdir().unwrap() }
    }

    fn place(&self) -> Place {
        Place::new(&self.root.path().join("mps"), GpuUuid(GPU.to_owned())).unwrap()
    }

    fn settings(&self) -> ResidentSettings {
        let patience = Patience {
            start: PATIENCE,
            dialogue: Duration::from_secs(5),
            server: PATIENCE,
            drain: Duration::from_millis(150),
            quit: Duration::from_secs(5),
            terminate: Duration::from_secs(2),
            kill: PATIENCE,
        };
        let limits = ClientLimits { percent: Percent::try_from(50).ok(), memory: Some(Bytes::mebibytes(1500)) };
        let note = "what the keeper wants to know again".to_owned();
        ResidentSettings {
            limits,
            patience,
            note,
            ..ResidentSettings::with_program(self.place(), self.installation.program())
        }
    }

    fn start(&self) -> ResidentDaemon {
        ResidentDaemon::start(&self.settings()).unwrap()
    }

    fn client(&self, pid: u32) -> Client {
        Client::connect(&self.place().pipe(), pid).unwrap()
    }

    fn assert_nothing_is_left(&self) {
        assert!(find_daemon(&self.place()).is_none());
        assert!(crate::foreign::servers_of(&self.place().pipe()).is_empty());
        assert_eq!(fs::read_dir(self.place().pipe()).unwrap().count(), 0);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A test that failed leaves no daemon behind.
        for process in crate::foreign::control_daemons_of(&self.place().pipe()) {
            process.kill();
        }
        for server in crate::foreign::servers_of(&self.place().pipe()) {
            server.kill();
        }
    }
}

fn adopted(opened: Opened) -> ResidentDaemon {
    let Opened::Adopted(daemon) = opened else { panic!("{opened:?}") };
    daemon
}

fn different(opened: Opened) -> (ResidentDaemon, Vec<Difference>) {
    let Opened::Different { daemon, differences } = opened else { panic!("{opened:?}") };
    (daemon, differences)
}

/// Reads the log until `wanted` has come.
fn wait_for(watch: &mut LogWatch, wanted: impl Fn(&Entry) -> bool) -> Vec<Entry> {
    let (deadline, mut seen) = (Deadline::after(PATIENCE), Vec::new());
    while !seen.iter().any(&wanted) {
        assert!(!deadline.passed(), "{seen:?}");
        watch.wait(Duration::from_millis(100)).unwrap();
        seen.extend(watch.read().unwrap().lines.into_iter().map(|line| line.entry));
    }
    seen
}

#[test]
fn a_daemon_has_its_limits_before_its_first_client_and_its_folders_outlive_it() {
    let stage = Stage::new(&Script::default());
    let daemon = stage.start();
    let inode = fs::metadata(stage.place().pipe()).unwrap().ino();
    let client = stage.client(4711);
    assert_eq!((client.grant().memory, client.grant().percent), (Some(1500 << 20), 50.0));
    drop(client);
    daemon.stop().unwrap();
    stage.assert_nothing_is_left();
    let again = stage.start();
    assert_eq!(fs::metadata(stage.place().pipe()).unwrap().ino(), inode);
    again.stop().unwrap();
    let previous = fs::read_to_string(stage.place().log().join("previous.log")).unwrap();
    assert!(previous.contains("Exit with status 0"), "{previous}");
}

#[test]
fn a_daemon_that_does_not_keep_its_limits_is_not_left_running() {
    let replies = [("get_default_device_pinned_mem_limit".to_owned(), "3G\n".to_owned())].into();
    let stage = Stage::new(&Script { replies, ..Script::default() });
    let error = ResidentDaemon::start(&stage.settings()).unwrap_err();
    assert!(matches!(&error, MpsError::Limits { .. }), "{error:?}");
    assert_eq!(chain(&error, ": ").split(": ").last(), Some("the memory limit was set to 1.46 GiB and is 3 GiB"));
    stage.assert_nothing_is_left();
}

#[test]
fn a_client_that_comes_before_the_limits_does_not_keep_what_it_got() {
    let stage = Stage::new(&Script::default());
    let pipe = stage.place().pipe();
    let early = std::thread::spawn(move || {
        let deadline = Deadline::after(PATIENCE);
        loop {
            match Client::connect(&pipe, 4711) {
                Ok(client) => return client,
                Err(error) => assert!(!deadline.passed(), "{error}"),
            }
        }
    });
    let daemon = stage.start();
    let mut early = early.join().unwrap();
    let unlimited = early.grant().memory.is_none();
    assert!(!unlimited || early.wait_for_error().unwrap() == "806");
    daemon.stop().unwrap();
}

/// Tells the test executable that it is the keeper that is killed.
const KEEPER: &str = "COTENANT_TEST_KEEPER";

/// Not a test of its own: the keeper of the test below.
#[test]
fn a_keeper_that_is_killed() {
    let Ok(words) = std::env::var(KEEPER) else { return };
    let (root, program) = words.split_once(' ').unwrap();
    let place = Place::new(Path::new(root), GpuUuid(GPU.to_owned())).unwrap();
    let limits = ClientLimits { percent: None, memory: Some(Bytes::mebibytes(700)) };
    let settings =
        ResidentSettings { limits, note: "mine".to_owned(), ..ResidentSettings::with_program(place, program.into()) };
    let _daemon = ResidentDaemon::start(&settings).unwrap();
    fs::write(Path::new(root).join("started"), "").unwrap();
    std::thread::sleep(Duration::from_secs(120));
}

#[expect(clippy::disallowed_methods, reason = "the test that starts it waits for it")]
fn start_keeper(stage: &Stage) -> Child {
    let root = stage.root.path().join("mps");
    let keeper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "resident::tests::a_keeper_that_is_killed"])
        .env(KEEPER, format!("{} {}", root.display(), stage.installation.program().display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(Deadline::after(PATIENCE).wait(|| root.join("started").exists()));
    keeper
}

#[test]
fn a_daemon_outlives_its_killed_keeper_and_is_adopted_with_its_clients_by_the_next() {
    let stage = Stage::new(&Script::default());
    let mut keeper = start_keeper(&stage);
    let mut client = stage.client(4711);
    let found = find_daemon(&stage.place()).unwrap();
    assert_eq!(found.note(), Some("mine"));
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    let mut daemon = adopted(ResidentDaemon::open(&stage.settings()).unwrap());
    assert_eq!((daemon.process(), daemon.note()), (Some(&found.process), "mine"));
    assert_eq!(daemon.health().unwrap().servers[0].clients, [4711]);
    // The next clients get the limits of the next keeper.
    drop(client);
    daemon.restart_servers().unwrap();
    client = stage.client(4712);
    assert_eq!(client.grant().memory, Some(1500 << 20));
    drop(client);
    // Its end is noticed although it is nobody's child here.
    let handle = daemon.handle().unwrap().unwrap();
    found.process.kill();
    assert!(daemon.wait_for_end(PATIENCE));
    let ready = rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN);
    let patience = rustix::event::Timespec::try_from(PATIENCE).unwrap();
    assert_eq!(rustix::event::poll(&mut [ready], Some(&patience)).unwrap(), 1);
    assert_eq!(daemon.death().unwrap().status, None);
    stage.assert_nothing_is_left();
}

#[test]
fn a_daemon_with_other_settings_is_told_with_what_is_different_and_left_to_the_caller() {
    let stage = Stage::new(&Script::default());
    let first = stage.start();
    let process = first.process().unwrap().clone();
    drop(first);
    let other = ResidentSettings { multi_user: true, protocol: Protocol::Three, ..stage.settings() };
    let (daemon, differences) = different(ResidentDaemon::open(&other).unwrap());
    let wanted = [Difference::MultiUser { found: false }, Difference::Protocol { found: Dialect::Two }];
    assert_eq!(differences, wanted);
    assert!(process.is_alive());
    let error = ResidentDaemon::start(&stage.settings()).unwrap_err();
    assert!(matches!(error, MpsError::Running { .. }), "{error}");
    daemon.stop().unwrap();
    stage.assert_nothing_is_left();
}

#[test]
fn a_daemon_of_somebody_else_and_a_silent_one_are_not_adopted() {
    let stage = Stage::new(&Script::default());
    stage.place().prepare().unwrap();
    #[expect(clippy::disallowed_methods, reason = "it is waited for below")]
    let mut stranger = Command::new(stage.installation.program())
        .arg("-f")
        .env("CUDA_MPS_PIPE_DIRECTORY", stage.place().pipe())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert!(Deadline::after(PATIENCE).wait(|| find_daemon(&stage.place()).is_some()));
    let (daemon, differences) = different(ResidentDaemon::open(&stage.settings()).unwrap());
    assert_eq!(differences, [Difference::Unrecorded]);
    daemon.stop().unwrap();
    stranger.wait().unwrap();
    drop(stage.start());
    let unanswered = ["get_server_list".to_owned()].into();
    stage.installation.rewrite(&Script { unanswered, ..Script::default() }).unwrap();
    let patience = Patience { dialogue: Duration::from_millis(300), ..stage.settings().patience };
    let impatient = ResidentSettings { patience, ..stage.settings() };
    let (daemon, differences) = different(ResidentDaemon::open(&impatient).unwrap());
    assert_eq!(differences, [Difference::Silent]);
    daemon.stop().unwrap();
    stage.assert_nothing_is_left();
}

#[test]
fn a_death_is_told_with_its_signal_and_last_words_and_leaves_room_for_the_next() {
    let stage = Stage::new(&Script::default());
    let mut daemon = stage.start();
    let client = stage.client(4711);
    assert_eq!(daemon.death(), None);
    daemon.process().unwrap().kill();
    assert!(daemon.wait_for_end(PATIENCE));
    let death = daemon.death().unwrap();
    assert_eq!(death.status.and_then(|status| std::os::unix::process::ExitStatusExt::signal(&status)), Some(9));
    assert!(death.last_words.contains("Client {PID: 4711"), "{}", death.last_words);
    assert_eq!((daemon.state(), daemon.death()), (State::Failed, None));
    drop(client);
    stage.assert_nothing_is_left();
    stage.start().stop().unwrap();
}

#[test]
fn a_working_client_is_taken_off_the_gpu_before_it_is_ended() {
    let stage = Stage::new(&Script::default());
    let daemon = stage.start();
    let mut client = stage.client(4711);
    let (dialogue, server) = (daemon.dialogue(), client.server());
    dialogue.terminate_client(server, 4711).unwrap();
    assert_eq!(client.wait_for_error().unwrap(), "810");
    assert!(!dialogue.wait_until_no_clients(server, Duration::from_millis(50)).unwrap());
    drop(client);
    assert!(dialogue.wait_until_no_clients(server, PATIENCE).unwrap());
    let unknown = dialogue.terminate_client(server, 4712).unwrap_err();
    assert!(unknown.to_string().contains("Invalid process 4712!"), "{unknown}");
    daemon.stop().unwrap();
}

#[test]
fn servers_that_do_not_come_up_are_told_by_the_log() {
    let stage = Stage::new(&Script { server_start: ServerStart::Exit(1), ..Script::default() });
    let daemon = stage.start();
    let mut watch = LogWatch::open(&stage.place().log()).unwrap();
    assert_eq!(Client::connect(&stage.place().pipe(), 4711).unwrap_err().to_string(), "805");
    let seen = wait_for(&mut watch, |entry| matches!(entry, Entry::ServerEnded { status: 1, .. }));
    assert!(seen.contains(&Entry::ClientAsks { client: 4711, user: own_user(), waits: true }), "{seen:?}");
    assert!(seen.contains(&Entry::ServerFailed), "{seen:?}");
    daemon.stop().unwrap();
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[test]
fn a_client_of_another_user_waits_for_the_first_ones_and_in_multi_user_mode_does_not() {
    let other = own_user() + 1000;
    let stage = Stage::new(&Script::default());
    fs::set_permissions(stage.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = stage.start();
    let mut watch = LogWatch::open(&stage.place().log()).unwrap();
    let first = stage.client(4711);
    let pipe = stage.place().pipe();
    let second = std::thread::spawn(move || Client::connect_as(&pipe, 4712, other).unwrap());
    wait_for(&mut watch, |entry| *entry == Entry::ClientAsks { client: 4712, user: other, waits: true });
    assert!(!second.is_finished());
    let left = first.server();
    drop(first);
    let second = second.join().unwrap();
    assert_ne!(second.server(), left);
    drop(second);
    daemon.stop().unwrap();
    let shared = ResidentDaemon::start(&ResidentSettings { multi_user: true, ..stage.settings() }).unwrap();
    let first = stage.client(4711);
    let second = Client::connect_as(&stage.place().pipe(), 4712, other).unwrap();
    assert_eq!(first.server(), second.server());
    drop((first, second));
    shared.stop().unwrap();
    stage.assert_nothing_is_left();
}

#[test]
fn limits_change_while_a_daemon_runs_for_its_next_clients_and_cannot_be_taken_back() {
    let stage = Stage::new(&Script::default());
    let mut daemon = stage.start();
    let wider = ClientLimits { memory: Some(Bytes::mebibytes(4096)), ..stage.settings().limits };
    daemon.set_limits(wider, Vec::new()).unwrap();
    assert_eq!(stage.client(4711).grant().memory, Some(4 << 30));
    let error = daemon.set_limits(ClientLimits::default(), Vec::new()).unwrap_err();
    assert!(matches!(error, MpsError::Limits { .. }), "{error}");
    daemon.stop().unwrap();
}

#[test]
fn a_start_that_fails_says_why_and_leaves_the_folders_empty() {
    let stage = Stage::new(&Script { start: Start::Die("MPS is not supported here".to_owned()), ..Script::default() });
    let error = ResidentDaemon::start(&stage.settings()).unwrap_err();
    assert!(error.to_string().contains("MPS is not supported here"), "{error}");
    stage.assert_nothing_is_left();
    let missing = ResidentSettings { program: "/nonexistent/control".into(), ..stage.settings() };
    assert!(matches!(ResidentDaemon::start(&missing).unwrap_err(), MpsError::Run { .. }));
}

#[test]
fn a_root_that_cannot_be_made_is_named() {
    let stage = Stage::new(&Script::default());
    let file = stage.root.path().join("file");
    fs::write(&file, "").unwrap();
    let place = Place::new(&file, GpuUuid(GPU.to_owned())).unwrap();
    let error = ResidentDaemon::start(&ResidentSettings { place, ..stage.settings() }).unwrap_err();
    assert!(
        matches!(&error, MpsError::Place { source: PlaceError::Folder { path, .. }, .. } if *path == file),
        "{error:?}"
    );
}

#[test]
fn a_closed_parent_is_told_before_clients_of_other_users_fail_by_it() {
    let stage = Stage::new(&Script::default());
    // As `/run/nvidia` is on some systems.
    fs::set_permissions(stage.root.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let daemon = stage.start();
    let mut watch = LogWatch::open(&stage.place().log()).unwrap();
    let other = own_user() + 1000;
    assert_eq!(Client::connect_as(&stage.place().pipe(), 4711, other).unwrap_err().to_string(), "805");
    wait_for(&mut watch, |entry| matches!(entry, Entry::ServerEnded { status: 0, .. }));
    let wanted = Trap::ClosedParent { path: stage.root.path().to_owned(), mode: 0o700 };
    assert!(daemon.traps().contains(&wanted), "{:?}", daemon.traps());
    daemon.stop().unwrap();
}
