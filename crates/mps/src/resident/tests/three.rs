//! Protocol version 3.

use super::*;
use crate::three::client_directory;

#[test]
fn protocol_3_gives_each_class_a_namespace_with_limits_of_its_own() {
    let stage = Stage::new(&Script { protocol_three: true, ..Script::default() });
    let small = ClientLimits { percent: Percent::try_from(25).ok(), memory: Some(Bytes::mebibytes(700)) };
    let namespaces = vec![Namespace { name: "small".to_owned(), limits: small }];
    let settings = ResidentSettings { namespaces, ..stage.settings() };
    let mut daemon = ResidentDaemon::start(&settings).unwrap();
    assert_eq!(daemon.dialogue().dialect(), Dialect::Three);
    let pipe = client_directory(&stage.place().pipe(), "small");
    let (mut client, whole) = (Client::connect(&pipe, 4711).unwrap(), stage.client(4712));
    assert_eq!((client.grant().memory, client.grant().percent), (Some(700 << 20), 25.0));
    assert_eq!((whole.grant().memory, whole.grant().percent), (Some(1500 << 20), 50.0));
    let health = daemon.health().unwrap();
    assert_eq!((health.state, health.servers[0].clients.len()), (State::Active, 2));
    client.fault().unwrap();
    client.wait_for_error().unwrap();
    assert_eq!(daemon.dialogue().status(client.server()).unwrap(), ServerStatus::Fault);
    daemon.restart_servers().unwrap();
    let next = Client::connect(&pipe, 4713).unwrap();
    assert_eq!((next.server() == client.server(), next.grant().memory), (false, Some(700 << 20)));
    drop((client, whole, next));
    drop(daemon);
    adopted(ResidentDaemon::open(&settings).unwrap()).stop().unwrap();
    stage.assert_nothing_is_left();
}

#[test]
fn a_protocol_3_that_does_not_come_up_is_given_up_for_protocol_2_where_that_is_allowed() {
    let unanswered = ["server create".to_owned()].into();
    let stage = Stage::new(&Script { protocol_three: true, unanswered, ..Script::default() });
    let patience = Patience { dialogue: Duration::from_secs(1), ..stage.settings().patience };
    let settings = ResidentSettings { patience, ..stage.settings() };
    let strict = ResidentSettings { protocol: Protocol::Three, ..settings.clone() };
    let error = ResidentDaemon::start(&strict).unwrap_err();
    assert!(matches!(error, MpsError::Dialogue { source: DialogueError::Late { .. }, .. }), "{error:?}");
    stage.assert_nothing_is_left();
    let daemon = ResidentDaemon::start(&settings).unwrap();
    assert_eq!(daemon.dialogue().dialect(), Dialect::Two);
    daemon.stop().unwrap();
    assert!(stage.place().log().join(OUTPUT).exists());
}
