//! Faults of clients, and the ways out of them.

use super::*;

#[test]
fn a_fault_is_told_by_the_log_blocks_new_clients_and_ends_with_the_affected_ones() {
    let stage = Stage::new(&Script::default());
    let mut daemon = stage.start();
    let mut watch = LogWatch::open(&stage.place().log()).unwrap();
    let (first, mut culprit) = (stage.client(4711), stage.client(4712));
    let server = first.server();
    culprit.fault().unwrap();
    let seen = wait_for(&mut watch, |entry| *entry == Entry::Affected { client: 4712 });
    // As on driver 580: the first is named, not the culprit.
    assert!(seen.contains(&Entry::Fault { named: 4711 }), "{seen:?}");
    assert_eq!(culprit.wait_for_error().unwrap(), "700");
    assert_eq!(daemon.health().unwrap().state, State::Fault);
    assert_eq!(Client::connect(&stage.place().pipe(), 4713).unwrap_err().to_string(), "807");
    let dialogue = daemon.dialogue();
    let refused = dialogue.terminate_client(server, 4711).unwrap_err();
    assert!(matches!(refused, DialogueError::Faulty { .. }), "{refused}");
    assert!(!dialogue.wait_until_active(Duration::from_millis(50)).unwrap());
    drop((first, culprit));
    assert!(dialogue.wait_until_active(PATIENCE).unwrap());
    wait_for(&mut watch, |entry| *entry == Entry::FaultCleared);
    assert_eq!(stage.client(4714).server(), server);
    daemon.stop().unwrap();
    stage.assert_nothing_is_left();
}

#[test]
fn a_fault_whose_clients_stay_is_left_by_restarting_the_server() {
    let stage = Stage::new(&Script::default());
    let mut daemon = stage.start();
    let mut straggler = stage.client(4711);
    straggler.fault().unwrap();
    assert_eq!(straggler.wait_for_error().unwrap(), "700");
    daemon.restart_servers().unwrap();
    assert_eq!(daemon.health().unwrap(), Health { state: State::Idle, servers: vec![] });
    let next = stage.client(4712);
    assert_ne!(next.server(), straggler.server());
    assert_eq!(next.grant().memory, Some(1500 << 20));
    drop(next);
    daemon.stop().unwrap();
    stage.assert_nothing_is_left();
}

#[test]
fn a_daemon_in_a_fault_stops_in_time_although_asking_its_clients_to_leave_would_block_it() {
    let stage = Stage::new(&Script::default());
    let mut daemon = stage.start();
    let mut straggler = stage.client(4711);
    straggler.fault().unwrap();
    straggler.wait_for_error().unwrap();
    assert_eq!(daemon.health().unwrap().state, State::Fault);
    daemon.stop().unwrap();
    stage.assert_nothing_is_left();
}
