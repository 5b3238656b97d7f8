//! What holds whatever happens.

use proptest::prelude::*;

use super::super::super::event::{Action, Answer, Force, GpuEvent};
use super::super::{Phase, RECOVERY, SECOND, SUSPICION};
use super::{Bench, client, process, shuts};

fn any_event() -> impl Strategy<Value = Option<GpuEvent>> {
    let pid = 1..4_u32;
    let clients = prop::collection::vec(pid.clone().prop_map(client), 0..4);
    let answer = prop_oneof![
        Just(Answer::Serving),
        Just(Answer::Initializing),
        Just(Answer::Fault),
        Just(Answer::Silent("no answer".to_owned())),
    ];
    prop_oneof![
        4 => Just(None),
        1 => Just(Some(GpuEvent::Xid(31))),
        1 => Just(Some(GpuEvent::Ill("XID 48".to_owned()))),
        1 => any::<bool>().prop_map(|anew| Some(GpuEvent::Well { anew })),
        1 => any::<bool>().prop_map(|adopted| Some(GpuEvent::DaemonUp { adopted })),
        1 => clients.clone().prop_map(|clients| Some(GpuEvent::DaemonDown { how: "died".to_owned(), clients })),
        1 => Just(Some(GpuEvent::DaemonRefused("why".to_owned()))),
        3 => (answer, clients.clone()).prop_map(|(answer, clients)| Some(GpuEvent::Status(answer, clients))),
        1 => clients.prop_map(|affected| Some(GpuEvent::Reported { culprit: None, affected })),
        2 => pid.prop_map(|pid| Some(GpuEvent::Gone(process(pid)))),
    ]
}

/// A world that answers as a sound daemon, driver and clients do; says what it still owes.
fn answer_soundly(bench: &mut Bench, actions: &[Action]) {
    for action in actions {
        match action {
            Action::Ensure(..) | Action::Restart(..) => {
                bench.happen(GpuEvent::DaemonUp { adopted: false });
            }
            Action::AskStatus(_) => {
                bench.happen(GpuEvent::Status(Answer::Serving, Vec::new()));
            }
            Action::Signal(process, Force::Kill) => {
                bench.happen(GpuEvent::Gone(process.clone()));
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_sound_world_makes_the_gpu_healthy_again(
        shared in any::<bool>(),
        events in prop::collection::vec((any_event(), 0..20 * SECOND), 0..40),
    ) {
        let mut bench = if shared { Bench::shared() } else { Bench::whole() };
        for (event, span) in events {
            if let Some(event) = event {
                bench.happen(event);
            }
            bench.wait(span);
        }
        bench.happen(GpuEvent::Well { anew: false });
        for _ in 0..2_000 {
            let actions = bench.wait(SECOND);
            answer_soundly(&mut bench, &actions);
        }
        prop_assert!(bench.gpu.is_healthy(), "{:?}", bench.gpu);
        prop_assert_eq!(bench.gpu.phase(), &Phase::Serving);
    }

    #[test]
    fn the_kubelet_is_told_every_change_of_health_and_only_changes(
        shared in any::<bool>(),
        events in prop::collection::vec((any_event(), 0..20 * SECOND), 0..40),
    ) {
        let mut bench = if shared { Bench::shared() } else { Bench::whole() };
        let mut told = bench.gpu.is_healthy();
        for (event, span) in events {
            let mut actions = event.map_or_else(Vec::new, |event| bench.happen(event));
            actions.extend(bench.wait(span));
            for action in &actions {
                if let Action::SetHealth { healthy, .. } = action {
                    prop_assert_ne!(*healthy, told);
                    told = *healthy;
                }
            }
            let should = matches!(bench.gpu.phase(), Phase::Serving)
                || matches!(bench.gpu.phase(), Phase::Suspect { since, .. } if bench.now < since.0 + SUSPICION);
            let should = should && bench.gpu.illness().is_none();
            prop_assert_eq!(told, bench.gpu.is_healthy());
            prop_assert!(!told || should, "healthy in {:?}", bench.gpu.phase());
        }
    }

    #[test]
    fn nobody_is_ended_and_no_daemon_replaced_while_the_gpu_is_healthy_or_before_the_grace(
        events in prop::collection::vec((any_event(), 0..20 * SECOND), 0..40),
    ) {
        let mut bench = Bench::shared();
        for (event, span) in events {
            let healthy = bench.gpu.is_healthy();
            let mut actions = event.map_or_else(Vec::new, |event| bench.happen(event));
            let fresh = healthy && bench.gpu.clients().is_empty();
            let ends = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Signal(..) | Action::ShutServers(_)));
            prop_assert!(!(healthy && ends(&actions)));
            let replaced = actions.iter().any(|action| matches!(action, Action::Restart(..)));
            prop_assert!(!replaced || !healthy || fresh, "{actions:?}");
            actions = bench.wait(span.min(RECOVERY));
            if shuts(&actions) {
                prop_assert!(!bench.gpu.is_healthy());
            }
        }
    }
}
