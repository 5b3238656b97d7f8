use std::fs;

use super::*;

/// Three different sockets' identities.
fn identities() -> [Identity; 3] {
    let folder = tempfile::tempdir().expect("folder");
    ["a", "b", "c"].map(|name| {
        fs::write(folder.path().join(name), "").expect("file");
        Identity::at(&folder.path().join(name)).expect("identity")
    })
}

struct World {
    session: Session,
    start: Instant,
    kubelet: Option<Identity>,
    peer: bool,
    streams: Streams,
}

impl World {
    fn new(kubelet: Option<Identity>) -> Self {
        let start = Instant::now();
        Self { session: Session::new(start), start, kubelet, peer: false, streams: Streams::default() }
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.start + Duration::from_millis(milliseconds)
    }

    /// Whether the kubelet is asked at this time.
    fn asks(&mut self, milliseconds: u64) -> bool {
        let now = self.at(milliseconds);
        self.session.step(Seen { now, kubelet: self.kubelet, peer: self.peer, streams: &self.streams })
    }

    fn answer(&mut self, milliseconds: u64, trouble: Option<&str>) {
        self.session.answered(self.at(milliseconds), trouble);
    }

    fn open(&mut self) {
        self.streams.open.insert(self.streams.opened);
        self.streams.opened += 1;
    }

    fn watched(milliseconds: u64, kubelet: Identity) -> Self {
        let mut world = Self::new(Some(kubelet));
        assert!(world.asks(milliseconds));
        world.answer(milliseconds, None);
        world.open();
        assert!(!world.asks(milliseconds));
        assert_eq!(world.session.watched(), Some(1));
        world
    }
}

#[test]
fn nobody_is_asked_while_no_kubelet_is_there() {
    let mut world = World::new(None);
    assert!(!world.asks(0) && !world.asks(1_000_000));
    assert_eq!(world.session.deadline(), None);
    world.kubelet = Some(identities()[0]);
    assert!(world.asks(1_000_001));
    assert!(!world.asks(1_000_002), "asked once");
}

#[test]
fn a_plugin_is_registered_when_the_kubelet_watches_it_and_not_before() {
    let mut world = World::new(Some(identities()[0]));
    // A stream that was there before is somebody else's.
    world.open();
    assert!(world.asks(0));
    world.answer(1, None);
    assert!(!world.asks(2));
    assert_eq!(world.session.watched(), None);
    world.open();
    assert!(!world.asks(3));
    assert_eq!(world.session.watched(), Some(1));
    world.streams.open.remove(&0);
    assert!(!world.asks(4));
    assert_eq!(world.session.watched(), Some(1));
}

#[test]
fn refusals_are_repeated_after_growing_delays_with_a_bound() {
    let mut world = World::new(Some(identities()[0]));
    let (mut now, mut delays) = (0, Vec::new());
    for _attempt in 0..12 {
        assert!(world.asks(now));
        world.answer(now, Some("no"));
        let deadline = world.session.deadline().expect("again");
        let delay = (deadline - world.at(now)).as_millis();
        assert!(!world.asks(now + u64::try_from(delay).expect("delay") - 1));
        now += u64::try_from(delay).expect("delay");
        delays.push(delay);
    }
    assert_eq!(delays[..4], [50, 100, 200, 400]);
    assert_eq!(delays.last(), Some(&15_000));
    assert_eq!(world.session.trouble(), Some("no"));
}

#[test]
fn another_kubelet_is_asked_at_once() {
    let [first, second, third] = identities();
    let mut world = World::watched(0, first);
    world.kubelet = Some(second);
    assert!(world.asks(1));
    // It is restarted again before it answers.
    world.kubelet = Some(third);
    assert!(!world.asks(2));
    world.answer(3, None);
    assert!(world.asks(4));
    // A refusal of the one before does not count against the next.
    for now in [5, 1_000, 2_000, 4_000] {
        world.answer(now, Some("no"));
        world.asks(now + 900);
    }
    world.answer(5_000, Some("no"));
    assert!(!world.asks(5_001));
    world.kubelet = Some(first);
    assert!(world.asks(5_002));
}

#[test]
fn a_kubelet_that_watches_is_not_asked_again_when_its_socket_is_gone() {
    let mut world = World::watched(0, identities()[0]);
    world.kubelet = None;
    assert!(!world.asks(1) && !world.asks(1_000_000));
    assert_eq!(world.session.watched(), Some(1));
}

#[test]
fn when_another_plugin_for_the_resource_ends_the_kubelet_is_asked_again() {
    let mut world = World::watched(0, identities()[0]);
    world.peer = true;
    assert!(!world.asks(1));
    assert_eq!(world.session.watched(), Some(1));
    world.peer = false;
    assert!(world.asks(2));
    world.answer(3, Some("no"));
    world.peer = true;
    assert!(!world.asks(4));
    world.peer = false;
    assert!(!world.asks(5), "there was no session to lose");
}

#[test]
fn an_ended_session_is_opened_again_and_more_slowly_when_it_never_holds() {
    let mut world = World::watched(0, identities()[0]);
    world.streams.open.clear();
    assert!(!world.asks(60_000));
    assert_eq!(world.session.watched(), None);
    assert!(world.asks(60_050));
    world.answer(60_050, None);
    world.open();
    assert!(!world.asks(60_050));
    assert_eq!(world.session.watched(), Some(2));
    world.streams.open.clear();
    assert!(!world.asks(60_060) && !world.asks(60_159));
    assert!(world.asks(60_160));
}

#[test]
fn a_kubelet_that_agrees_and_does_nothing_is_asked_again() {
    let mut world = World::new(Some(identities()[0]));
    assert!(world.asks(0));
    world.answer(0, None);
    assert!(!world.asks(9_999));
    assert_eq!(world.session.deadline(), Some(world.at(10_000)));
    assert!(!world.asks(10_000));
    assert!(world.session.trouble().expect("trouble").contains("did not ask for the devices"));
    assert!(world.asks(10_050));
}
