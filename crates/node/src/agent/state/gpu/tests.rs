#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one action among all")]

use cotenant_model::sharing::config::Faults;
use cotenant_model::{GpuUuid, Nanoseconds};
use cotenant_mps::Identity;

use super::super::event::{Action, Answer, Client, Culprit, Force, GpuEvent, Holder, Moment, Pod, Subject, Workload};
use super::{Gpu, Phase, SECOND};
use crate::keeper::protocol::DaemonSettings;

mod properties;

const GRACE: u64 = 10 * SECOND;

/// A GPU with a clock.
struct Bench {
    gpu: Gpu,
    now: u64,
    done: Vec<Action>,
}

fn uuid() -> GpuUuid {
    GpuUuid("GPU-1".to_owned())
}

fn faults() -> Faults {
    Faults { grace: Nanoseconds(GRACE), quarantine: None }
}

fn process(pid: u32) -> Identity {
    Identity { pid, start_time: 7, boot_id: "boot".to_owned(), pid_namespace: "pid:[1]".to_owned() }
}

fn client(pid: u32) -> Client {
    Client { process: process(pid), server: Some(500), holder: None }
}

fn in_pod(pid: u32, name: &str) -> Client {
    let pod = Pod { namespace: "default".to_owned(), name: name.to_owned(), uid: None };
    let workload = Workload(name.to_owned());
    Client { holder: Some(Holder { pod, container: "main".to_owned(), workload }), ..client(pid) }
}

impl Bench {
    fn shared() -> Self {
        let (gpu, done) = Gpu::new(uuid(), Some(DaemonSettings::default()), Moment::default());
        let mut bench = Self { gpu, now: 0, done };
        bench.happen(GpuEvent::DaemonUp { adopted: false });
        bench.happen(GpuEvent::Status(Answer::Serving, Vec::new()));
        bench
    }

    fn whole() -> Self {
        let (gpu, done) = Gpu::new(uuid(), None, Moment::default());
        Self { gpu, now: 0, done }
    }

    fn moment(&self) -> Moment {
        Moment { monotonic: Nanoseconds(self.now), unix: self.now / SECOND }
    }

    fn happen(&mut self, event: GpuEvent) -> Vec<Action> {
        let actions = self.gpu.step(event, &faults(), self.moment());
        self.done.extend(actions.clone());
        actions
    }

    fn wait(&mut self, span: u64) -> Vec<Action> {
        let end = self.now + span;
        let mut all = Vec::new();
        while let Some(next) = self.gpu.deadline().filter(|next| next.0 <= end) {
            self.now = next.0.max(self.now);
            all.extend(self.gpu.tick(&faults(), self.moment()));
        }
        self.now = end;
        self.done.extend(all.clone());
        all
    }

    fn signals(&self) -> Vec<(u32, Force)> {
        let signals = self.done.iter().filter_map(|action| match action {
            Action::Signal(process, force) => Some((process.pid, *force)),
            _ => None,
        });
        signals.collect()
    }

    fn restarts(&self) -> usize {
        self.done.iter().filter(|action| matches!(action, Action::Restart(..))).count()
    }
}

fn health(actions: &[Action]) -> Option<bool> {
    actions.iter().rev().find_map(|action| match action {
        Action::SetHealth { healthy, .. } => Some(*healthy),
        _ => None,
    })
}

fn shuts(actions: &[Action]) -> bool {
    actions.contains(&Action::ShutServers(uuid()))
}

/// The log tells of a fault, and the server says so.
fn fault(bench: &mut Bench, clients: Vec<Client>) -> Vec<Action> {
    let mut actions = bench.happen(GpuEvent::Reported { culprit: None, affected: clients.clone() });
    assert!(actions.contains(&Action::AskStatus(uuid())));
    actions.extend(bench.happen(GpuEvent::Status(Answer::Fault, clients)));
    actions
}

#[test]
fn a_gpu_under_mps_is_unhealthy_until_its_daemon_answers() {
    let (gpu, first) = Gpu::new(uuid(), Some(DaemonSettings::default()), Moment::default());
    assert_eq!(health(&first), Some(false));
    assert!(first.contains(&Action::Ensure(uuid(), DaemonSettings::default())));
    let mut bench = Bench { gpu, now: 0, done: first };
    assert_eq!(health(&bench.happen(GpuEvent::DaemonUp { adopted: true })), None);
    assert_eq!(health(&bench.happen(GpuEvent::Status(Answer::Serving, Vec::new()))), Some(true));
}

#[test]
fn a_fault_makes_it_unhealthy_at_once_and_the_servers_recovery_makes_it_healthy() {
    let mut bench = Bench::shared();
    bench.happen(GpuEvent::Status(Answer::Serving, vec![client(1), client(2)]));
    assert_eq!(health(&fault(&mut bench, vec![client(1), client(2)])), Some(false));
    bench.wait(SECOND);
    bench.happen(GpuEvent::Gone(process(1)));
    assert!(!bench.gpu.is_healthy());
    let actions = bench.happen(GpuEvent::Gone(process(2)));
    assert!(actions.contains(&Action::AskStatus(uuid())));
    let actions = bench.happen(GpuEvent::Status(Answer::Serving, Vec::new()));
    assert!(actions.contains(&Action::Recovered(uuid(), Nanoseconds(SECOND))));
    assert_eq!(health(&actions), Some(true));
    assert_eq!((bench.signals(), bench.restarts()), (Vec::new(), 0));
}

#[test]
fn a_line_of_the_log_alone_changes_nothing() {
    let mut bench = Bench::shared();
    let actions = bench.happen(GpuEvent::Reported { culprit: None, affected: vec![client(1)] });
    assert_eq!((health(&actions), actions.contains(&Action::AskStatus(uuid()))), (None, true));
    bench.happen(GpuEvent::Status(Answer::Serving, vec![client(1)]));
    assert_eq!(*bench.gpu.phase(), Phase::Serving);
    assert_eq!(bench.gpu.take_verdict(), None);
    bench.happen(GpuEvent::Status(Answer::Fault, vec![client(1)]));
    assert!(bench.gpu.is_healthy(), "what was told before is forgotten");
}

#[test]
fn a_server_that_says_fault_for_the_moment_of_a_change_of_users_is_none_and_one_that_goes_on_is() {
    let mut bench = Bench::shared();
    bench.happen(GpuEvent::Status(Answer::Fault, Vec::new()));
    assert!(bench.wait(300_000_000).contains(&Action::AskStatus(uuid())));
    bench.happen(GpuEvent::Status(Answer::Serving, Vec::new()));
    assert_eq!(*bench.gpu.phase(), Phase::Serving);
    bench.happen(GpuEvent::Status(Answer::Fault, Vec::new()));
    bench.wait(250_000_000);
    bench.happen(GpuEvent::Status(Answer::Fault, Vec::new()));
    bench.wait(250_000_000);
    assert_eq!(health(&bench.happen(GpuEvent::Status(Answer::Fault, Vec::new()))), Some(false));
    assert!(bench.now < SECOND, "within the promised second");
}

#[test]
fn a_server_whose_clients_stay_is_shut_after_their_grace_and_they_are_told_to_go() {
    let mut bench = Bench::shared();
    fault(&mut bench, vec![client(1), client(2)]);
    assert!(!shuts(&bench.wait(GRACE - 1)));
    bench.happen(GpuEvent::Gone(process(2)));
    assert!(shuts(&bench.wait(1)));
    let actions = bench.happen(GpuEvent::Status(Answer::Serving, Vec::new()));
    assert_eq!((health(&actions), bench.signals()), (Some(true), vec![(1, Force::Ask)]));
    bench.wait(6 * SECOND);
    assert_eq!(bench.signals(), [(1, Force::Ask), (1, Force::Kill)]);
    assert_eq!(bench.restarts(), 0);
}

#[test]
fn clients_of_a_server_that_cannot_be_shut_are_signalled_and_its_daemon_replaced() {
    let mut bench = Bench::shared();
    fault(&mut bench, vec![client(1)]);
    assert!(shuts(&bench.wait(GRACE)));
    bench.wait(5 * SECOND);
    assert_eq!(bench.signals(), [(1, Force::Ask)]);
    bench.wait(5 * SECOND);
    assert_eq!(bench.signals(), [(1, Force::Ask), (1, Force::Kill)]);
    assert_eq!(bench.restarts(), 0);
    bench.happen(GpuEvent::Gone(process(1)));
    bench.wait(6 * SECOND);
    assert_eq!(bench.restarts(), 1, "a server that does not say ACTIVE is replaced");
    let stale = bench.happen(GpuEvent::Status(Answer::Serving, Vec::new()));
    assert_eq!(health(&stale), None, "that was the daemon which is being replaced");
    bench.happen(GpuEvent::DaemonUp { adopted: false });
    assert_eq!(health(&bench.happen(GpuEvent::Status(Answer::Serving, Vec::new()))), Some(true));
}

#[test]
fn a_process_that_survives_everything_does_not_keep_the_gpu_for_ever() {
    let mut bench = Bench::shared();
    fault(&mut bench, vec![client(1)]);
    bench.wait(GRACE + 30 * SECOND);
    assert!(bench.done.iter().any(|action| matches!(action, Action::Tell(note) if note.reason == "MpsClientStuck")));
    assert!(bench.restarts() >= 1);
}

#[test]
fn a_daemon_that_died_is_replaced_when_its_clients_are_gone_and_not_before() {
    let mut bench = Bench::shared();
    bench.happen(GpuEvent::Status(Answer::Serving, vec![client(1)]));
    let actions = bench.happen(GpuEvent::DaemonDown { how: "signal 9".to_owned(), clients: vec![client(2)] });
    assert_eq!(health(&actions), Some(false));
    assert!(!shuts(&bench.wait(GRACE)), "there is no daemon that could");
    assert_eq!(bench.signals(), [(1, Force::Ask), (2, Force::Ask)]);
    bench.happen(GpuEvent::Gone(process(1)));
    assert_eq!(bench.restarts(), 0);
    bench.happen(GpuEvent::Gone(process(2)));
    assert_eq!(bench.restarts(), 1);
}

#[test]
fn a_daemon_that_died_without_clients_is_replaced_at_once() {
    let mut bench = Bench::shared();
    bench.happen(GpuEvent::DaemonDown { how: "signal 9".to_owned(), clients: Vec::new() });
    assert_eq!(bench.restarts(), 1);
    bench.happen(GpuEvent::DaemonUp { adopted: false });
    assert_eq!(health(&bench.happen(GpuEvent::Status(Answer::Serving, Vec::new()))), Some(true));
}

#[test]
fn a_daemon_that_does_not_start_is_tried_again_less_and_less_often_and_said_once() {
    let mut bench = Bench::shared();
    bench.happen(GpuEvent::DaemonDown { how: "signal 9".to_owned(), clients: Vec::new() });
    let mut spans = Vec::new();
    for _ in 0..10 {
        bench.happen(GpuEvent::DaemonRefused("no program".to_owned()));
        let (before, start) = (bench.restarts(), bench.now);
        while bench.restarts() == before {
            bench.wait(SECOND);
        }
        spans.push((bench.now - start) / SECOND);
    }
    assert_eq!(spans, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    let said = |action: &&Action| matches!(action, Action::Tell(note) if note.reason == "MpsNotStarted");
    assert!(bench.done.iter().filter(said).count() <= 10);
    bench.happen(GpuEvent::DaemonUp { adopted: false });
    bench.happen(GpuEvent::Status(Answer::Serving, Vec::new()));
    assert!(bench.gpu.is_healthy());
}

#[test]
fn a_daemon_that_never_ran_is_asked_for_again_and_nothing_in_its_place_is_ended() {
    let (gpu, done) = Gpu::new(uuid(), Some(DaemonSettings::default()), Moment::default());
    let mut bench = Bench { gpu, now: 0, done };
    bench.happen(GpuEvent::DaemonRefused("another daemon has clients".to_owned()));
    let actions = bench.wait(2 * SECOND);
    assert!(actions.contains(&Action::Ensure(uuid(), DaemonSettings::default())));
    assert_eq!(bench.restarts(), 0);
}

#[test]
fn an_applications_xid_is_only_a_suspicion_that_an_answer_clears() {
    let mut bench = Bench::shared();
    let actions = bench.happen(GpuEvent::Xid(31));
    assert_eq!((health(&actions), actions.contains(&Action::AskStatus(uuid()))), (None, true));
    bench.happen(GpuEvent::Status(Answer::Serving, Vec::new()));
    assert_eq!(*bench.gpu.phase(), Phase::Serving);
    bench.happen(GpuEvent::Xid(31));
    bench.wait(100_000_000);
    assert_eq!(health(&fault(&mut bench, vec![client(1)])), Some(false));
}

#[test]
fn a_silent_daemon_is_unhealthy_within_a_second_and_its_clients_are_left_alone_for_fifteen() {
    let mut bench = Bench::shared();
    bench.happen(GpuEvent::Status(Answer::Serving, vec![client(1)]));
    bench.happen(GpuEvent::Status(Answer::Silent("no answer".to_owned()), Vec::new()));
    assert_eq!(health(&bench.wait(SECOND)), Some(false));
    bench.wait(10 * SECOND);
    assert_eq!(health(&bench.happen(GpuEvent::Status(Answer::Serving, vec![client(1)]))), Some(true));
    bench.happen(GpuEvent::Status(Answer::Silent("no answer".to_owned()), Vec::new()));
    bench.wait(15 * SECOND);
    assert!(matches!(bench.gpu.phase(), Phase::Fault(_)));
}

#[test]
fn an_ill_card_is_unhealthy_whatever_its_daemon_says_and_nobody_is_ended_for_it() {
    for mut bench in [Bench::whole(), Bench::shared()] {
        assert_eq!(health(&bench.happen(GpuEvent::Ill("XID 48".to_owned()))), Some(false));
        bench.happen(GpuEvent::Ill("XID 48".to_owned()));
        bench.wait(100 * SECOND);
        bench.happen(GpuEvent::Status(Answer::Serving, vec![client(1)]));
        assert!(!bench.gpu.is_healthy());
        let actions = bench.happen(GpuEvent::Well { anew: false });
        assert_eq!(health(&actions), Some(true));
        assert!(actions.contains(&Action::Recovered(uuid(), Nanoseconds(100 * SECOND))));
        assert_eq!((bench.signals(), bench.restarts()), (Vec::new(), 0));
        let said = |action: &&Action| matches!(action, Action::Tell(note) if note.reason == "GpuUnhealthy");
        assert_eq!(bench.done.iter().filter(said).count(), 1);
    }
}

#[test]
fn a_card_that_was_gone_gets_a_fresh_daemon() {
    let mut bench = Bench::shared();
    bench.happen(GpuEvent::Ill("it fell off the bus".to_owned()));
    assert_eq!(health(&bench.happen(GpuEvent::Well { anew: true })), None);
    assert_eq!(bench.restarts(), 1);
    bench.happen(GpuEvent::DaemonUp { adopted: false });
    assert_eq!(health(&bench.happen(GpuEvent::Status(Answer::Serving, Vec::new()))), Some(true));
}

#[test]
fn a_daemon_that_did_not_start_on_an_ill_card_is_tried_at_once_when_it_is_well() {
    let mut bench = Bench::shared();
    bench.happen(GpuEvent::Ill("it fell off the bus".to_owned()));
    bench.happen(GpuEvent::DaemonDown { how: "no GPU".to_owned(), clients: Vec::new() });
    for _ in 0..10 {
        bench.happen(GpuEvent::DaemonRefused("no GPU".to_owned()));
        bench.wait(60 * SECOND);
    }
    bench.happen(GpuEvent::DaemonRefused("no GPU".to_owned()));
    let before = bench.restarts();
    bench.happen(GpuEvent::Well { anew: true });
    bench.wait(0);
    assert_eq!(bench.restarts(), before + 1);
}

fn told(bench: &Bench) -> Vec<String> {
    let notes = bench.done.iter().filter_map(|action| match action {
        Action::Tell(note) => Some(note),
        _ => None,
    });
    let on_pod = notes.filter_map(|note| match &note.subject {
        Subject::Pod(pod) => Some(format!("{} {}", note.reason, pod.name)),
        Subject::Node => None,
    });
    on_pod.collect()
}

#[test]
fn a_client_that_was_alone_is_named_whatever_the_log_says() {
    let mut bench = Bench::shared();
    let another = Culprit { pid: 77, command: None, holder: None };
    bench.happen(GpuEvent::Reported { culprit: Some(another), affected: Vec::new() });
    bench.happen(GpuEvent::Status(Answer::Fault, vec![in_pod(1, "bad")]));
    let verdict = bench.gpu.take_verdict().unwrap();
    assert_eq!(verdict.culprit.map(|culprit| culprit.pid), Some(1));
    assert_eq!((told(&bench), bench.gpu.take_verdict()), (vec!["MpsFaultCaused bad".to_owned()], None));
}

#[test]
fn among_several_clients_the_one_in_the_log_is_a_suspect_and_each_pod_is_told() {
    let mut bench = Bench::shared();
    let culprit = Culprit { pid: 1, command: Some("python".to_owned()), holder: in_pod(1, "first").holder };
    bench.happen(GpuEvent::Reported { culprit: Some(culprit), affected: Vec::new() });
    bench.happen(GpuEvent::Status(Answer::Fault, vec![in_pod(1, "first"), in_pod(2, "second")]));
    bench.happen(GpuEvent::Status(Answer::Fault, vec![in_pod(1, "first"), in_pod(2, "second")]));
    assert_eq!(told(&bench), ["MpsFaultSuffered first", "MpsFaultSuffered second"]);
    let verdict = bench.gpu.take_verdict().unwrap();
    assert_eq!((verdict.culprit, verdict.present.len()), (None, 2));
    let named = |action: &&Action| matches!(action, Action::Tell(note) if note.reason == "MpsFault" && note.text.contains("process 1 (python)"));
    assert_eq!(bench.done.iter().filter(named).count(), 1);
}
