#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one action among all")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cotenant_model::sharing::config::{Drain, Faults, Quarantine, QuarantineAction};
use cotenant_model::sharing::{Device, DeviceId, GpuOffer, Offer, Resource, ResourceName, Share, Strategy as Sharing};
use cotenant_model::{Bytes, GpuUuid, Nanoseconds, Percent};
use cotenant_mps::{ClientLimits, Identity};
use proptest::prelude::*;

use super::event::{Action, Answer, Client, Event, GpuEvent, Holder, Moment, Pod, Proposal, Workload};
use super::{Memory, State};
use crate::keeper::protocol::DaemonSettings;

const SECOND: u64 = 1_000_000_000;

fn uuid(number: u32) -> GpuUuid {
    GpuUuid(format!("GPU-{number}"))
}

/// GPUs by number with how they are shared and among how many.
fn proposal(gpus: &[(u32, Sharing, u32)]) -> Proposal {
    let mut offer = Offer::default();
    let mut daemons = BTreeMap::new();
    let mut devices = BTreeMap::<&str, Vec<Device>>::new();
    for (number, strategy, replicas) in gpus {
        let gpu = uuid(*number);
        let share = (*strategy == Sharing::Mps).then(|| Share {
            memory: Bytes::mebibytes(8000 / u64::from(*replicas)),
            percent: Percent::try_from(50).unwrap(),
        });
        if let Some(share) = share {
            let settings = DaemonSettings {
                limits: ClientLimits { memory: Some(share.memory), percent: None },
                multi_user: *replicas == 2,
                ..DaemonSettings::default()
            };
            daemons.insert(gpu.clone(), settings);
        }
        for replica in 0..*replicas {
            let whole = *strategy == Sharing::Exclusive;
            let id = if whole { DeviceId(gpu.0.clone()) } else { DeviceId::share(&gpu, replica) };
            let name = if whole { "nvidia.com/gpu" } else { "nvidia.com/gpu.shared" };
            let (uuid, index) = (gpu.clone(), number.to_string());
            let device =
                Device { id, uuid, gpu: gpu.clone(), index, strategy: *strategy, share, class: None, numa_node: None };
            devices.entry(name).or_default().push(device);
        }
        offer.gpus.push(GpuOffer {
            gpu,
            index: *number,
            name: "Simulated".to_owned(),
            strategy: *strategy,
            devices: Vec::new(),
            reserve: Bytes(0),
            daemon: None,
            reasons: Vec::new(),
        });
    }
    let resource = |(name, devices): (&str, Vec<Device>)| Resource {
        name: ResourceName(name.to_owned()),
        one_per_container: false,
        devices,
    };
    offer.resources = devices.into_iter().map(resource).collect();
    let faults = Faults { grace: Nanoseconds(10 * SECOND), quarantine: None };
    Proposal { offer: Arc::new(offer), daemons, mig: BTreeMap::new(), faults, drain: Drain::Deny }
}

fn holder(pod: &str) -> Holder {
    let pod = Pod { namespace: "default".to_owned(), name: pod.to_owned(), uid: None };
    let workload = Workload("Deployment/default/models".to_owned());
    Holder { pod, container: "main".to_owned(), workload }
}

fn held(devices: &[(u32, u32, &str)]) -> Event {
    let entry = |(gpu, replica, pod): &(u32, u32, &str)| (DeviceId::share(&uuid(*gpu), *replica), holder(pod));
    Event::Holders(devices.iter().map(entry).collect())
}

fn at(seconds: u64) -> Moment {
    Moment { monotonic: Nanoseconds(seconds * SECOND), unix: 1_000_000 + seconds }
}

fn propose(proposal: &Proposal) -> Event {
    Event::Proposed(Box::new(proposal.clone()))
}

fn fresh(first: &Proposal) -> State {
    let (mut state, actions) = State::restore(Memory::default(), at(0));
    assert_eq!(actions, []);
    state.step(propose(first), at(0));
    state.step(held(&[]), at(0));
    state
}

fn published(actions: &[Action]) -> Option<Arc<Offer>> {
    actions.iter().find_map(|action| match action {
        Action::Publish(offer) => Some(Arc::clone(offer)),
        _ => None,
    })
}

fn evicted(actions: &[Action]) -> Vec<String> {
    let pods = actions.iter().filter_map(|action| match action {
        Action::Evict(pod, _) => Some(pod.name.clone()),
        _ => None,
    });
    pods.collect()
}

fn said(actions: &[Action], reason: &str) -> bool {
    actions.iter().any(|action| matches!(action, Action::Tell(note) if note.reason == reason))
}

#[test]
fn the_first_configuration_is_applied_at_once() {
    let first = proposal(&[(0, Sharing::Mps, 4), (1, Sharing::TimeSlicing, 2)]);
    let (mut state, _) = State::restore(Memory::default(), at(0));
    let actions = state.step(propose(&first), at(0));
    assert_eq!(published(&actions), Some(Arc::clone(&first.offer)));
    assert!(actions.contains(&Action::Ensure(uuid(0), first.daemons[&uuid(0)].clone())));
    let unhealthy = actions.iter().position(|action| *action == Action::SetHealth { uuid: uuid(0), healthy: false });
    let offered = actions.iter().position(|action| matches!(action, Action::Publish(_)));
    assert!(unhealthy < offered, "no device is offered healthy before its daemon answers");
}

#[test]
fn an_edit_that_touches_a_held_device_waits_for_its_pod_and_says_whom_it_waits_for() {
    let mut state = fresh(&proposal(&[(0, Sharing::TimeSlicing, 4)]));
    state.step(held(&[(0, 1, "one"), (0, 3, "three")]), at(1));
    let fewer = proposal(&[(0, Sharing::TimeSlicing, 2)]);
    let actions = state.step(propose(&fewer), at(2));
    assert_eq!(published(&actions), None);
    let plan = actions.iter().position(|action| matches!(action, Action::Tell(note) if note.reason == "ConfigPlan" && note.text.contains("- 2 × nvidia.com/gpu.shared")));
    let pending =
        actions.iter().position(|action| matches!(action, Action::Tell(note) if note.reason == "ConfigPending"));
    assert!(plan.is_some() && plan < pending, "{actions:?}");
    assert_eq!(state.edit().waits_for().collect::<Vec<_>>(), ["pod default/three"]);
    assert!(!said(&state.step(held(&[(0, 1, "one"), (0, 3, "three")]), at(3)), "ConfigPending"), "said once");
    let actions = state.step(held(&[(0, 1, "one")]), at(4));
    assert_eq!(published(&actions), Some(fewer.offer));
    assert!(!state.edit().waits());
}

#[test]
fn an_edit_that_only_adds_is_applied_beside_running_pods() {
    let mut state = fresh(&proposal(&[(0, Sharing::TimeSlicing, 2)]));
    state.step(held(&[(0, 1, "one")]), at(1));
    let more = proposal(&[(0, Sharing::TimeSlicing, 4), (1, Sharing::Exclusive, 1)]);
    assert!(published(&state.step(propose(&more), at(2))).is_some());
}

#[test]
fn an_edit_of_a_daemon_touches_every_device_of_its_gpu_and_no_other() {
    let mut state = fresh(&proposal(&[(0, Sharing::Mps, 4), (1, Sharing::Mps, 4)]));
    state.step(held(&[(1, 0, "other")]), at(1));
    let edited = proposal(&[(0, Sharing::Mps, 2), (1, Sharing::Mps, 4)]);
    let actions = state.step(propose(&edited), at(2));
    assert!(published(&actions).is_some());
    let position = |wanted: &Action| actions.iter().position(|action| action == wanted).unwrap();
    let ensure = position(&Action::Ensure(uuid(0), edited.daemons[&uuid(0)].clone()));
    assert!(position(&Action::Stop(uuid(0))) < ensure);
    assert!(!actions.contains(&Action::Stop(uuid(1))));
    assert!(published(&state.step(propose(&proposal(&[(1, Sharing::Exclusive, 1)])), at(3))).is_none());
}

#[test]
fn a_running_daemon_is_told_other_limits_and_nobody_waits() {
    let mut state = fresh(&proposal(&[(0, Sharing::Mps, 4)]));
    state.step(Event::Gpu(uuid(0), GpuEvent::Status(Answer::Serving, Vec::new())), at(1));
    state.step(held(&[(0, 0, "one")]), at(1));
    let mut edited = proposal(&[(0, Sharing::Mps, 4)]);
    let limits = ClientLimits { memory: Some(Bytes(1)), percent: None };
    let settings = DaemonSettings { limits, ..DaemonSettings::default() };
    edited.daemons = BTreeMap::from([(uuid(0), settings.clone())]);
    let actions = state.step(propose(&edited), at(2));
    assert!(published(&actions).is_some() && actions.contains(&Action::Ensure(uuid(0), settings)));
    assert!(!actions.iter().any(|action| matches!(action, Action::Stop(_) | Action::SetHealth { .. })));
}

#[test]
fn an_edit_that_is_taken_back_no_longer_waits() {
    let first = proposal(&[(0, Sharing::TimeSlicing, 4)]);
    let mut state = fresh(&first);
    state.step(held(&[(0, 3, "three")]), at(1));
    state.step(propose(&proposal(&[(0, Sharing::TimeSlicing, 2)])), at(2));
    assert!(said(&state.step(propose(&first), at(3)), "ConfigReverted"));
    assert_eq!(published(&state.step(held(&[]), at(4))), None);
}

#[test]
fn pods_are_evicted_only_where_the_file_allows_it_and_their_devices_take_no_other_meanwhile() {
    let mut state = fresh(&proposal(&[(0, Sharing::TimeSlicing, 4)]));
    state.step(held(&[(0, 1, "one"), (0, 3, "three")]), at(1));
    let mut fewer = proposal(&[(0, Sharing::TimeSlicing, 2)]);
    fewer.drain = Drain::Allow;
    let actions = state.step(propose(&fewer), at(2));
    assert_eq!(evicted(&actions), ["three"]);
    let closed = BTreeSet::from([DeviceId::share(&uuid(0), 2), DeviceId::share(&uuid(0), 3)]);
    assert!(actions.contains(&Action::Cordon(closed)));
    assert_eq!(evicted(&state.step(Event::Tick, at(3))), Vec::<String>::new());
    assert_eq!(state.deadline(), Some(at(32).monotonic));
    assert_eq!(evicted(&state.step(Event::Tick, at(32))), ["three"], "told again");
    let actions = state.step(held(&[(0, 1, "one")]), at(33));
    assert_eq!(published(&actions), Some(fewer.offer));
    assert!(actions.contains(&Action::Cordon(BTreeSet::new())));
}

#[test]
fn a_device_that_is_just_being_given_out_counts_as_held_until_its_pod_shows_or_a_minute_is_over() {
    let mut state = fresh(&proposal(&[(0, Sharing::TimeSlicing, 4)]));
    state.step(Event::Allocated(vec![DeviceId::share(&uuid(0), 3)]), at(1));
    let fewer = proposal(&[(0, Sharing::TimeSlicing, 2)]);
    assert!(published(&state.step(propose(&fewer), at(2))).is_none());
    assert!(published(&state.step(held(&[]), at(3))).is_none());
    assert!(published(&state.step(Event::Tick, at(62))).is_some());
}

#[test]
fn after_a_restart_what_was_offered_is_offered_again_before_an_edit_is_considered() {
    let first = proposal(&[(0, Sharing::TimeSlicing, 4)]);
    let memory = serde_json::to_string(&fresh(&first).memory()).unwrap();
    let (mut state, actions) = State::restore(serde_json::from_str(&memory).unwrap(), at(0));
    assert_eq!(published(&actions), Some(first.offer));
    let fewer = proposal(&[(0, Sharing::TimeSlicing, 2)]);
    assert!(published(&state.step(propose(&fewer), at(1))).is_none(), "nobody knows yet who holds what");
    assert!(state.wants_holders());
    assert!(published(&state.step(held(&[(0, 3, "three")]), at(2))).is_none());
    assert!(published(&state.step(held(&[]), at(3))).is_some());
}

#[test]
fn a_process_outside_pods_keeps_its_daemon() {
    let mut state = fresh(&proposal(&[(0, Sharing::Mps, 4)]));
    let process = Identity { pid: 9, start_time: 1, boot_id: "boot".to_owned(), pid_namespace: "pid:[1]".to_owned() };
    let stranger = Client { process, server: Some(5), holder: None };
    let says = |clients| Event::Gpu(uuid(0), GpuEvent::Status(Answer::Serving, clients));
    state.step(says(vec![stranger]), at(1));
    let whole = proposal(&[(0, Sharing::Exclusive, 1)]);
    assert!(published(&state.step(propose(&whole), at(2))).is_none());
    assert_eq!(state.edit().waits_for().collect::<Vec<_>>(), ["process 9"]);
    let asks = |actions: Vec<Action>| actions.contains(&Action::AskStatus(uuid(0)));
    assert_eq!([2, 3].map(|second| asks(state.step(held(&[]), at(second)))), [false, true], "once a second");
    let actions = state.step(says(Vec::new()), at(3));
    assert!(published(&actions).is_some() && actions.contains(&Action::Stop(uuid(0))));
}

#[test]
fn mig_devices_are_made_when_nobody_holds_the_gpu_and_nobody_gets_it_meanwhile() {
    let mut state = fresh(&proposal(&[(0, Sharing::Mig, 2), (1, Sharing::Mig, 2)]));
    state.step(held(&[(0, 0, "one")]), at(1));
    let mut edited = proposal(&[(0, Sharing::Mig, 2), (1, Sharing::Mig, 2)]);
    let layout = BTreeMap::from([("1g.18gb".to_owned(), 7)]);
    edited.mig = BTreeMap::from([(uuid(0), layout.clone()), (uuid(1), layout.clone())]);
    let actions = state.step(propose(&edited), at(2));
    assert!(actions.contains(&Action::ApplyMig(uuid(1), layout.clone())));
    assert!(said(&actions, "MigPending"));
    let closed = (0..2).map(|replica| DeviceId::share(&uuid(1), replica)).collect();
    assert!(actions.contains(&Action::Cordon(closed)));
    let refused = Event::Gpu(uuid(1), GpuEvent::MigApplied(Err("a process is on it".to_owned())));
    assert!(said(&state.step(refused, at(3)), "MigRefused"));
    assert_eq!(state.deadline(), Some(at(33).monotonic));
    assert!(state.step(Event::Tick, at(33)).contains(&Action::ApplyMig(uuid(1), layout.clone())));
    let actions = state.step(held(&[]), at(34));
    assert!(actions.contains(&Action::ApplyMig(uuid(0), layout)));
    for gpu in [0, 1] {
        state.step(Event::Gpu(uuid(gpu), GpuEvent::MigApplied(Ok(()))), at(35));
    }
    assert!(!state.edit().waits());
}

#[test]
fn daemons_that_died_while_the_keeper_was_away_are_faults_and_forgotten_ones_end_when_idle() {
    let mut state = fresh(&proposal(&[(0, Sharing::Mps, 4), (1, Sharing::Mps, 4)]));
    for gpu in [0, 1] {
        state.step(Event::Gpu(uuid(gpu), GpuEvent::Status(Answer::Serving, Vec::new())), at(1));
    }
    assert!(said(&state.step(Event::KeeperDown("refused".to_owned()), at(2)), "MpsKeeperAway"));
    assert!(state.gpus()[&uuid(0)].is_healthy(), "its daemon lives on as far as anybody knows");
    let actions = state.step(Event::KeeperUp(BTreeSet::from([uuid(1), uuid(7)])), at(3));
    assert!(actions.contains(&Action::SetHealth { uuid: uuid(0), healthy: false }));
    assert!(actions.contains(&Action::StopIdle(uuid(7))));
    assert!(state.gpus()[&uuid(1)].is_healthy());
}

fn client_of(number: u32, holder: Holder) -> Client {
    let (boot_id, pid_namespace) = ("boot".to_owned(), "pid:[1]".to_owned());
    let process = Identity { pid: number, start_time: 1, boot_id, pid_namespace };
    Client { process, server: Some(5), holder: Some(holder) }
}

/// A fault among pods of these workloads, and its end.
fn fault_among(state: &mut State, workloads: &[&str], now: Moment) -> Vec<Action> {
    let clients = workloads.iter().zip(1..).map(|(name, number)| {
        let mut holder = holder(&format!("{name}-pod"));
        holder.workload = Workload((*name).to_owned());
        client_of(number, holder)
    });
    let happen = |event| Event::Gpu(uuid(0), event);
    let mut actions = state.step(happen(GpuEvent::Reported { culprit: None, affected: Vec::new() }), now);
    actions.extend(state.step(happen(GpuEvent::Status(Answer::Fault, clients.collect())), now));
    state.step(happen(GpuEvent::Status(Answer::Serving, Vec::new())), now);
    actions
}

fn strict() -> Proposal {
    let mut first = proposal(&[(0, Sharing::Mps, 4)]);
    let (after, within) = (2, Nanoseconds(600 * SECOND));
    let action = QuarantineAction::Evict;
    first.faults.quarantine = Some(Quarantine { after, within, lasts: Nanoseconds(3600 * SECOND), action });
    first
}

fn serving(first: &Proposal) -> State {
    let mut state = fresh(first);
    state.step(Event::Gpu(uuid(0), GpuEvent::Status(Answer::Serving, Vec::new())), at(1));
    state
}

#[test]
fn a_repeat_offender_is_quarantined_as_configured_and_that_outlives_a_restart() {
    let first = strict();
    let mut state = serving(&first);
    assert!(!said(&fault_among(&mut state, &["Deployment/default/models"], at(1)), "Quarantined"));
    assert!(
        !said(&fault_among(&mut state, &["Deployment/default/models"], at(700)), "Quarantined"),
        "the first was too long ago"
    );
    let actions = fault_among(&mut state, &["Deployment/default/models"], at(900));
    assert!(said(&actions, "Quarantined") && actions.contains(&Action::Save));
    assert_eq!(evicted(&actions), ["Deployment/default/models-pod"]);
    let memory = serde_json::to_string(&state.memory()).unwrap();
    let (mut state, _) = State::restore(serde_json::from_str(&memory).unwrap(), at(0));
    state.step(propose(&first), at(1_000));
    assert_eq!(evicted(&state.step(held(&[(0, 1, "next")]), at(1_001))), ["next"]);
    assert_eq!(evicted(&state.step(held(&[(0, 1, "next")]), at(1_002))), Vec::<String>::new(), "told once");
    assert_eq!(evicted(&state.step(held(&[(0, 1, "later")]), at(5_000))), Vec::<String>::new(), "it is over");
}

#[test]
fn nobody_is_quarantined_on_a_suspicion_and_the_one_who_was_always_there_is() {
    let mut state = serving(&strict());
    for moment in [1, 2] {
        assert!(!said(&fault_among(&mut state, &["a", "b"], at(moment)), "Quarantined"), "either could be it");
    }
    let actions = fault_among(&mut state, &["b", "c"], at(3));
    assert_eq!(evicted(&actions), ["b-pod"]);
    assert!(!said(&fault_among(&mut state, &["a", "c"], at(4)), "Quarantined"), "what is solved does not count again");
}

#[test]
fn the_illness_of_a_mig_device_is_told_once_and_so_is_its_end() {
    let mut state = fresh(&proposal(&[(0, Sharing::Mig, 2)]));
    let device = GpuUuid("MIG-1".to_owned());
    let mut told = Vec::new();
    for well in [Ok(()), Err("XID 94".to_owned()), Err("XID 94".to_owned()), Ok(()), Ok(())] {
        let actions = state.step(Event::MigDevice(device.clone(), well), at(1));
        told.extend(actions.into_iter().filter(|action| matches!(action, Action::SetHealth { .. })));
    }
    let health = |healthy| Action::SetHealth { uuid: device.clone(), healthy };
    assert_eq!(told, [health(false), health(true)]);
}

#[derive(Debug, Clone)]
enum Turn {
    Propose(usize, bool),
    Hold(BTreeSet<(u32, u32)>),
    Pass(u64),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        (0..4_usize, any::<bool>()).prop_map(|(index, drain)| Turn::Propose(index, drain)),
        prop::collection::btree_set((0..2_u32, 0..4_u32), 0..4).prop_map(Turn::Hold),
        (0..120_u64).prop_map(Turn::Pass),
    ]
}

proptest! {
    #[test]
    fn no_edit_ends_a_daemon_or_takes_a_device_that_a_pod_holds_and_nobody_is_evicted_unasked(
        turns in prop::collection::vec(turn(), 1..30),
    ) {
        let choices = [
            proposal(&[(0, Sharing::Mps, 4), (1, Sharing::TimeSlicing, 4)]),
            proposal(&[(0, Sharing::Mps, 2), (1, Sharing::TimeSlicing, 2)]),
            proposal(&[(0, Sharing::TimeSlicing, 4), (1, Sharing::Mps, 4)]),
            proposal(&[(0, Sharing::Exclusive, 1)]),
        ];
        let mut state = fresh(&choices[0]);
        let (mut now, mut holders, mut drains) = (1, BTreeMap::new(), false);
        for turn in turns {
            let event = match turn {
                Turn::Propose(index, drain) => {
                    let mut proposal = choices[index].clone();
                    proposal.drain = if drain { Drain::Allow } else { Drain::Deny };
                    drains = drain;
                    propose(&proposal)
                }
                Turn::Hold(devices) => {
                    // A pod can only come to hold what is offered; what it holds it keeps for a while.
                    let offer = state.offer().cloned().unwrap_or_default();
                    let ids = devices.iter().map(|(gpu, replica)| DeviceId::share(&uuid(*gpu), *replica));
                    holders = ids.filter(|id| offer.device(id).is_some()).map(|id| (id, holder("pod"))).collect();
                    Event::Holders(holders.clone())
                }
                Turn::Pass(seconds) => {
                    now += seconds;
                    Event::Tick
                }
            };
            let actions = state.step(event, at(now));
            prop_assert!(drains || evicted(&actions).is_empty());
            let held: BTreeSet<GpuUuid> = holders.keys().map(DeviceId::uuid).collect();
            for action in &actions {
                if let Action::Stop(gpu) | Action::Restart(gpu, _) = action {
                    prop_assert!(!held.contains(gpu), "{gpu} is held");
                }
            }
            if let Some(offer) = published(&actions) {
                for device in holders.keys() {
                    prop_assert!(offer.device(device).is_some(), "{device} is held and gone");
                }
            }
        }
    }
}
