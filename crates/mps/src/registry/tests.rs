//! What is left behind: by runs that were killed, with real processes.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use cotenant_testkit::mps::{Client, Installation, Quit, Script};
use rustix::process::Signal;
use tempfile::TempDir;

use super::*;
use crate::daemon::{Daemon, Settings};

/// Tells the test executable to be a run that owns things instead of a test; holds its place and control program.
const OWNER: &str = "COTENANT_TEST_OWNER";
const PATIENCE: Duration = Duration::from_secs(20);

fn registry_at(place: &Path) -> Registry {
    Registry::open(RunRoot::at(&place.join("run")).unwrap()).unwrap()
}

fn settings_at(place: &Path, program: &Path) -> Settings {
    Settings::at(GpuUuid("GPU-1".to_owned()), &place.join("run/daemon"), program.to_owned())
}

#[expect(clippy::disallowed_methods, reason = "the tests that start it wait for it")]
fn sleeper(registry: &Registry) -> Child {
    let (name, mark) = registry.mark();
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 120 & wait"]).env(name, mark).process_group(0).stdout(Stdio::null());
    command.spawn().unwrap()
}

/// Not a test of its own: the run that the tests below kill. It owns a daemon with a server, and a tenant.
#[test]
fn a_run_that_owns_a_daemon_and_a_tenant() {
    let Some(order) = std::env::var_os(OWNER) else { return };
    let (place, program) = order.to_str().unwrap().split_once(':').unwrap();
    let registry = registry_at(Path::new(place));
    let mut tenant = sleeper(&registry);
    registry.record(tenant.id(), "tenant a").unwrap();
    let mut daemon = Daemon::start(settings_at(Path::new(place), Path::new(program)), &registry).unwrap();
    daemon.start_server().unwrap();
    fs::write(Path::new(place).join("ready"), "").unwrap();
    tenant.wait().unwrap();
}

/// A run that owns a daemon and a tenant, killed with SIGKILL unless the test spares it.
struct Run {
    place: TempDir,
    installation: Installation,
    process: Child,
}

impl Run {
    #[expect(clippy::disallowed_methods, reason = "`kill` and `drop` wait for it")]
    fn start() -> Self {
        let (place, installation) = (tempfile::tempdir().unwrap(), Installation::new(&Script::default()).unwrap());
        let order = format!("{}:{}", place.path().display(), installation.program().display());
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "registry::tests::a_run_that_owns_a_daemon_and_a_tenant"])
            .env(OWNER, order)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let ready = place.path().join("ready");
        assert!(Deadline::after(PATIENCE).wait(|| ready.exists()), "the run did not start");
        Self { place, installation, process }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn pipe(&self) -> PathBuf {
        self.place.path().join("run/daemon/pipe")
    }

    /// Everything that the run owns: daemon, server, tenant and its child.
    fn owned(&self) -> Vec<Identity> {
        let records = registry_at(self.place.path()).records().unwrap();
        let recorded: Vec<Identity> = records.into_iter().map(|record| record.process).collect();
        let children = recorded.iter().flat_map(Identity::children);
        children.chain(recorded.iter().cloned()).collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        drop(registry_at(self.place.path()).reap_leftovers());
    }
}

#[test]
fn what_a_killed_run_left_is_ended_in_order_and_reported_once() {
    let mut run = Run::start();
    let owned = run.owned();
    assert_eq!(owned.len(), 4, "{owned:?}");
    let mut client = Client::connect(&run.pipe(), 4711).unwrap();
    let client = std::thread::spawn(move || client.wait_for_error().unwrap());
    run.kill();
    assert!(owned.iter().all(Identity::is_alive));
    let registry = registry_at(run.place.path());
    let reaped = registry.reap_leftovers().unwrap();
    assert_eq!(client.join().unwrap(), "810");
    let found: Vec<(&str, u32)> = reaped.iter().map(|one| (one.what.as_str(), one.owner)).collect();
    let owner = run.process.id();
    assert_eq!(found, [("tenant a", owner), ("MPS control daemon of GPU-1", owner)]);
    assert!(reaped.iter().all(|one| matches!(one.outcome, Outcome::Ended(_))), "{reaped:?}");
    assert!(!owned.iter().any(Identity::is_alive));
    assert!(!run.place.path().join("run/daemon").exists());
    assert_eq!(registry.reap_leftovers().unwrap(), []);
}

#[test]
fn a_left_daemon_that_will_not_quit_is_ended_all_the_same() {
    let mut run = Run::start();
    let owned = run.owned();
    run.kill();
    run.installation.rewrite(&Script { quit: Quit::Refuse, ..Script::default() }).unwrap();
    let reaped = registry_at(run.place.path()).reap_leftovers().unwrap();
    assert!(reaped.iter().all(|one| matches!(one.outcome, Outcome::Ended(_))), "{reaped:?}");
    assert!(!owned.iter().any(Identity::is_alive));
}

#[test]
fn a_server_and_a_tenants_child_that_outlived_their_killed_parents_are_ended() {
    let mut run = Run::start();
    let owned = run.owned();
    run.kill();
    let records = registry_at(run.place.path()).records().unwrap();
    for record in &records {
        record.process.signal(Signal::KILL);
    }
    assert!(Deadline::after(PATIENCE).wait(|| !records.iter().any(|record| record.process.is_alive())));
    assert_eq!(owned.iter().filter(|one| one.is_alive()).count(), 2);
    let reaped = registry_at(run.place.path()).reap_leftovers().unwrap();
    assert!(reaped.iter().all(|one| matches!(one.outcome, Outcome::Ended(_))), "{reaped:?}");
    assert!(!owned.iter().any(Identity::is_alive));
    assert!(!run.place.path().join("run/daemon").exists());
}

#[test]
fn a_daemon_whose_run_was_killed_before_it_could_record_it_is_ended_too() {
    let mut run = Run::start();
    let registry = registry_at(run.place.path());
    let (daemons, others): (Vec<_>, Vec<_>) =
        registry.records().unwrap().into_iter().partition(|record| record.daemon.is_some());
    registry.forget(&daemons[0].process);
    run.kill();
    let reaped = registry.reap_leftovers().unwrap();
    assert!(reaped.iter().any(|one| one.pid == daemons[0].process.pid), "{reaped:?}");
    assert!(!daemons.iter().chain(&others).any(|record| record.process.is_alive()));
    assert!(!run.place.path().join("run/daemon").exists());
}

#[test]
fn nothing_of_a_living_run_is_touched() {
    let run = Run::start();
    let owned = run.owned();
    assert_eq!(registry_at(run.place.path()).reap_leftovers().unwrap(), []);
    assert!(owned.len() == 4 && owned.iter().all(Identity::is_alive));
}

#[test]
fn a_process_that_got_a_recorded_number_later_is_not_ended() {
    let place = tempfile::tempdir().unwrap();
    let registry = registry_at(place.path());
    let mut stranger = sleeper(&registry);
    let identity = Identity::of(stranger.id()).unwrap();
    let gone = |identity: &Identity| Identity { start_time: identity.start_time - 1, ..identity.clone() };
    let owner = gone(&Identity::current().unwrap());
    let record = Record { process: gone(&identity), owner, what: "tenant".to_owned(), daemon: None };
    registry.write_whole(&registry.path_of(&record.process), &record).unwrap();
    let reaped = registry.reap_leftovers().unwrap();
    assert_eq!(reaped.iter().map(|one| &one.outcome).collect::<Vec<_>>(), [&Outcome::Gone]);
    assert!(identity.is_alive());
    assert!(registry.records().unwrap().is_empty());
    assert_eq!(process::end_process_group(&identity, Duration::from_secs(5)).survivors, Vec::<u32>::new());
    stranger.wait().unwrap();
}

#[test]
fn records_of_another_namespace_stay_and_those_of_another_boot_go_without_a_signal() {
    let place = tempfile::tempdir().unwrap();
    let registry = registry_at(place.path());
    let own = Identity::current().unwrap();
    let elsewhere = Identity { pid_namespace: "pid:[1]".to_owned(), start_time: 1, ..own.clone() };
    let before = Identity { boot_id: "before".to_owned(), start_time: 2, ..own };
    for process in [elsewhere, before] {
        let record = Record { owner: process.clone(), process, what: "tenant".to_owned(), daemon: None };
        registry.write_whole(&registry.path_of(&record.process), &record).unwrap();
    }
    let reaped = registry.reap_leftovers().unwrap();
    assert_eq!(reaped.iter().map(|one| &one.outcome).collect::<Vec<_>>(), [&Outcome::Gone]);
    assert_eq!(registry.records().unwrap().len(), 1);
}

#[test]
fn a_torn_record_is_passed_over_and_keeps_nobody_from_cleaning_up() {
    let place = tempfile::tempdir().unwrap();
    let registry = registry_at(place.path());
    fs::write(registry.shared.directory.join("1-1.json"), "{\"process\":").unwrap();
    assert_eq!(registry.reap_leftovers().unwrap(), []);
}

#[test]
fn a_process_that_is_gone_cannot_be_recorded_and_a_forgotten_one_has_no_record() {
    let place = tempfile::tempdir().unwrap();
    let registry = registry_at(place.path());
    let mut child = sleeper(&registry);
    let identity = registry.record(child.id(), "tenant").unwrap();
    assert_eq!(registry.records().unwrap().len(), 1);
    registry.forget(&identity);
    registry.forget(&identity);
    assert!(registry.records().unwrap().is_empty());
    assert_eq!(process::end_process_group(&identity, Duration::from_secs(5)).survivors, Vec::<u32>::new());
    child.wait().unwrap();
    assert!(matches!(registry.record(identity.pid, "tenant"), Err(RegistryError::Gone { .. })));
}
