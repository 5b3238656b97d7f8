//! Daemons through real processes: the simulated control program, started, asked, hurt and ended.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cotenant_testkit::mps::{Client, Installation, Quit, Script, Start};
use rustix::process::Signal;
use tempfile::TempDir;

use super::*;
use crate::process::Identity;
use crate::run_root::RunRoot;

/// A control program, a register and a place for one daemon.
struct Stage {
    installation: Installation,
    registry: Registry,
    place: TempDir,
}

/// Bounds short enough for a test and long enough for a busy machine.
const SHORT: Patience = Patience {
    start: Duration::from_secs(10),
    dialogue: Duration::from_secs(5),
    server: Duration::from_secs(10),
    drain: Duration::from_millis(150),
    quit: Duration::from_millis(300),
    terminate: Duration::from_millis(200),
    kill: Duration::from_secs(5),
};

impl Stage {
    fn new(script: &Script) -> Self {
        let place = tempfile::tempdir().unwrap();
        let registry = Registry::open(RunRoot::at(&place.path().join("run")).unwrap()).unwrap();
        Self { installation: Installation::new(script).unwrap(), registry, place }
    }

    fn directory(&self) -> PathBuf {
        self.place.path().join("daemon")
    }

    fn settings(&self) -> Settings {
        let gpu = GpuUuid("GPU-d97c10ed-7751-cbb6-523f-757784dff59a".to_owned());
        Settings { patience: SHORT, ..Settings::at(gpu, &self.directory(), self.installation.program()) }
    }

    fn start(&self) -> Daemon {
        Daemon::start(self.settings(), &self.registry).unwrap()
    }

    fn assert_nothing_is_left(&self, processes: &[Identity]) {
        for process in processes {
            assert!(!process.is_alive(), "{process:?} is left");
        }
        assert!(!self.directory().exists());
        assert!(self.registry.records().unwrap().is_empty());
        assert!(crate::foreign::servers_of(&self.directory().join("pipe")).is_empty());
    }
}

/// The daemon's process and its server's.
fn processes(daemon: &mut Daemon) -> Vec<Identity> {
    let server = daemon.start_server().unwrap().servers[0].pid;
    [daemon.pid().unwrap(), server].into_iter().filter_map(Identity::of).collect()
}

#[test]
fn a_daemon_starts_idle_serves_and_stops_without_a_trace() {
    let stage = Stage::new(&Script::default());
    let mut daemon = stage.start();
    assert_eq!(daemon.health().unwrap(), Health { state: State::Idle, servers: vec![] });
    assert_eq!(stage.registry.records().unwrap().len(), 1);
    let processes = processes(&mut daemon);
    assert_eq!(processes.len(), 2);
    let pipe = daemon.client_environment(ClientLimits::default()).swap_remove(1).1;
    let client = Client::connect(Path::new(&pipe), 4711).unwrap();
    let health = daemon.health().unwrap();
    let server = Server { pid: client.server(), status: ServerStatus::Active, clients: vec![4711] };
    assert_eq!(health, Health { state: State::Active, servers: vec![server] });
    drop(client);
    daemon.stop().unwrap();
    stage.assert_nothing_is_left(&processes);
}

#[test]
fn a_daemon_that_comes_late_is_waited_for() {
    let stage = Stage::new(&Script { start: Start::Late(200), ..Script::default() });
    assert_eq!(stage.start().state(), State::Idle);
    stage.assert_nothing_is_left(&[]);
}

#[test]
fn a_daemon_that_never_listens_is_given_up_and_ended() {
    let stage = Stage::new(&Script { start: Start::Never, deaf: true, ..Script::default() });
    let patience = Patience { start: Duration::from_millis(300), ..SHORT };
    let error = Daemon::start(Settings { patience, ..stage.settings() }, &stage.registry).unwrap_err();
    assert!(matches!(error, MpsError::Late { .. }), "{error}");
    stage.assert_nothing_is_left(&[]);
}

#[test]
fn a_daemon_that_listens_and_never_answers_is_given_up_and_ended() {
    let stage = Stage::new(&Script { unanswered: ["get_server_list".to_owned()].into(), ..Script::default() });
    let patience = Patience { start: Duration::from_millis(300), ..SHORT };
    let error = Daemon::start(Settings { patience, ..stage.settings() }, &stage.registry).unwrap_err();
    assert!(matches!(error, MpsError::Late { .. }), "{error}");
    stage.assert_nothing_is_left(&[]);
}

#[test]
fn the_last_words_of_a_daemon_that_dies_at_its_start_are_told() {
    let stage = Stage::new(&Script { start: Start::Die("MPS is not supported here".to_owned()), ..Script::default() });
    let error = Daemon::start(stage.settings(), &stage.registry).unwrap_err();
    assert!(matches!(error, MpsError::Died { .. }), "{error:?}");
    assert!(error.to_string().contains("MPS is not supported here"), "{error}");
    stage.assert_nothing_is_left(&[]);
}

#[test]
fn a_program_that_cannot_be_run_is_named() {
    let stage = Stage::new(&Script::default());
    let settings = Settings { program: "/nonexistent/control".into(), ..stage.settings() };
    let error = Daemon::start(settings, &stage.registry).unwrap_err();
    assert_eq!(error.to_string(), "cannot run /nonexistent/control");
    stage.assert_nothing_is_left(&[]);
}

#[test]
fn a_pipe_directory_with_too_long_a_path_is_refused_before_anything_is_made() {
    let stage = Stage::new(&Script::default());
    let directory = stage.place.path().join("x".repeat(90));
    let error =
        Daemon::start(Settings { directory: directory.clone(), ..stage.settings() }, &stage.registry).unwrap_err();
    assert!(matches!(error, MpsError::Place { source: PlaceError::PathTooLong { limit: 88, .. }, .. }), "{error}");
    assert!(!directory.exists());
}

#[test]
fn a_directory_that_exists_is_not_taken_over_nor_removed() {
    let stage = Stage::new(&Script::default());
    fs::create_dir_all(stage.directory().join("pipe")).unwrap();
    fs::write(stage.directory().join("pipe/control"), "x").unwrap();
    let error = Daemon::start(stage.settings(), &stage.registry).unwrap_err();
    assert!(matches!(error, MpsError::Directory { .. }), "{error}");
    assert!(stage.directory().join("pipe/control").exists());
}

#[test]
fn logs_outside_the_directory_are_kept() {
    let stage = Stage::new(&Script::default());
    let log = stage.place.path().join("log");
    let daemon = Daemon::start(Settings { log: log.clone(), ..stage.settings() }, &stage.registry).unwrap();
    daemon.stop().unwrap();
    stage.assert_nothing_is_left(&[]);
    assert!(fs::read_to_string(log.join("output.log")).unwrap().contains("Starting control daemon"));
}

#[test]
fn a_fault_of_a_server_is_seen_and_its_end_too() {
    let stage = Stage::new(&Script::default());
    let mut daemon = stage.start();
    daemon.start_server().unwrap();
    stage.installation.rewrite(&Script { server_status: Some("FAULT".to_owned()), ..Script::default() }).unwrap();
    let health = daemon.health().unwrap();
    assert_eq!((health.state, &health.servers[0].status), (State::Fault, &ServerStatus::Fault));
    stage.installation.rewrite(&Script::default()).unwrap();
    assert_eq!(daemon.health().unwrap().state, State::Active);
}

#[test]
fn a_daemon_that_falls_silent_is_told_in_time_and_may_speak_again() {
    let stage = Stage::new(&Script::default());
    let patience = Patience { dialogue: Duration::from_secs(1), ..SHORT };
    let mut daemon = Daemon::start(Settings { patience, ..stage.settings() }, &stage.registry).unwrap();
    stage
        .installation
        .rewrite(&Script { unanswered: ["get_server_list".to_owned()].into(), ..Script::default() })
        .unwrap();
    let error = daemon.health().unwrap_err();
    assert!(matches!(error, MpsError::Dialogue { source: DialogueError::Late { .. }, .. }), "{error:?}");
    assert_eq!(daemon.state(), State::Silent);
    stage.installation.rewrite(&Script::default()).unwrap();
    assert_eq!(daemon.health().unwrap().state, State::Idle);
}

#[test]
fn garbage_is_an_error_that_quotes_it_and_does_not_keep_the_daemon_from_stopping() {
    let stage = Stage::new(&Script::default());
    let mut daemon = stage.start();
    let processes = processes(&mut daemon);
    let replies = [("get_server_list".to_owned(), "\u{1}segmentation fault\n".to_owned())].into();
    stage.installation.rewrite(&Script { replies, ..Script::default() }).unwrap();
    let error = daemon.health().unwrap_err();
    assert!(matches!(&error, MpsError::Dialogue { source: DialogueError::Reply { reply, .. }, .. }
        if reply.contains("segmentation fault")));
    daemon.stop().unwrap();
    stage.assert_nothing_is_left(&processes);
}

#[test]
fn a_daemon_that_was_killed_is_found_dead_and_its_server_is_ended() {
    let stage = Stage::new(&Script::default());
    let mut daemon = stage.start();
    let processes = processes(&mut daemon);
    processes[0].signal(Signal::KILL);
    assert!(Deadline::after(SHORT.start).wait(|| !processes[0].is_alive()));
    let error = daemon.health().unwrap_err();
    assert!(matches!(error, MpsError::Died { .. }), "{error:?}");
    assert_eq!((daemon.state(), daemon.pid()), (State::Failed, None));
    stage.assert_nothing_is_left(&processes);
    daemon.stop().unwrap();
}

#[test]
fn clients_are_told_to_leave_before_the_daemon_quits() {
    let stage = Stage::new(&Script::default());
    let patience = Patience { drain: Duration::from_secs(10), quit: Duration::from_secs(10), ..SHORT };
    let mut daemon = Daemon::start(Settings { patience, ..stage.settings() }, &stage.registry).unwrap();
    let processes = processes(&mut daemon);
    let mut client = Client::connect(&stage.directory().join("pipe"), 4711).unwrap();
    let client = std::thread::spawn(move || client.wait_for_error().unwrap());
    daemon.stop().unwrap();
    assert_eq!(client.join().unwrap(), "810");
    stage.assert_nothing_is_left(&processes);
}

#[test]
fn every_way_of_not_quitting_ends_in_a_stop() {
    let hangs = Script { quit: Quit::Hang, ..Script::default() };
    let deaf = Script { quit: Quit::Ignore, deaf: true, ..Script::default() };
    let mute = Script {
        unanswered: ["get_server_list", "get_client_list", "terminate_client", "quit"].map(str::to_owned).into(),
        ..deaf.clone()
    };
    for script in [hangs, Script { quit: Quit::Refuse, ..Script::default() }, deaf, mute] {
        let stage = Stage::new(&Script { deaf: script.deaf, ..Script::default() });
        let patience = Patience { dialogue: Duration::from_secs(1), ..SHORT };
        let mut daemon = Daemon::start(Settings { patience, ..stage.settings() }, &stage.registry).unwrap();
        let processes = processes(&mut daemon);
        stage.installation.rewrite(&script).unwrap();
        daemon.stop().unwrap();
        stage.assert_nothing_is_left(&processes);
    }
}

#[test]
fn a_client_that_does_not_leave_cannot_keep_the_daemon_with_or_without_a_time_limit_of_quit() {
    for quit_without_timeout in [false, true] {
        let stage = Stage::new(&Script { quit_without_timeout, ..Script::default() });
        let mut daemon = stage.start();
        let processes = processes(&mut daemon);
        let _stubborn = Client::connect(&stage.directory().join("pipe"), 4711).unwrap();
        daemon.stop().unwrap();
        stage.assert_nothing_is_left(&processes);
    }
}

#[test]
fn a_panic_leaves_nothing() {
    let stage = Stage::new(&Script::default());
    let mut left = Vec::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut daemon = stage.start();
        left = processes(&mut daemon);
        panic!("in the middle of a comparison");
    }));
    assert!(panicked.is_err());
    assert_eq!(left.len(), 2);
    stage.assert_nothing_is_left(&left);
}
