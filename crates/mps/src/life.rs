//! The life of a control daemon as a function: no input, no output, no clock.

/// Where a daemon stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No process; everything of it is removed.
    Stopped,
    /// The process exists and its dialogue has not answered yet.
    Starting,
    /// It answers and has no server: no client has come yet.
    Idle,
    /// It answers and its servers serve.
    Active,
    /// It answers and a server is in fault: new clients are turned away until the affected ones have left.
    Fault,
    /// It did not answer in time.
    Silent,
    /// Its clients have been told to leave.
    Draining(Verdict),
    /// It has been told to quit.
    Quitting(Verdict),
    /// It has been sent SIGTERM.
    Terminating(Verdict),
    /// It has been sent SIGKILL.
    Killing(Verdict),
    /// SIGKILL did not end it; nothing may be started in its place.
    Stuck(Verdict),
    /// No process: it died unasked, or its start failed; everything of it is removed.
    Failed,
}

/// Why a daemon is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// A stop was asked for.
    Asked,
    /// Its start failed.
    Broken,
}

/// What its servers say of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Serving {
    /// There is none.
    None,
    /// All are active, or about to be.
    Active,
    /// At least one is in fault.
    Fault,
}

/// What happens to a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A start was asked for.
    Start,
    /// A stop was asked for.
    Stop,
    /// Its process could not be started.
    SpawnFailed,
    /// Its dialogue answered.
    Answered(Serving),
    /// Its dialogue did not answer in time.
    Unanswered,
    /// No client is left.
    Drained,
    /// It refused to quit.
    Refused,
    /// The time of the present state is up.
    Late,
    /// Its process has ended.
    Exited,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Start the process.
    Spawn,
    /// Tell every client's work to end.
    ReleaseClients,
    /// Tell the daemon to quit.
    Quit,
    /// Tell the daemon to quit although clients are left.
    QuitWithClients,
    /// Send SIGTERM.
    Terminate,
    /// Send SIGKILL.
    Kill,
    /// End servers that are left, remove its directories and its record.
    Sweep,
}

/// The state that follows and what to do, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The next state.
    pub state: State,
    /// What to do in it.
    pub actions: &'static [Action],
}

impl State {
    /// Whether the daemon can serve clients or will again.
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(self, Self::Idle | Self::Active | Self::Fault | Self::Silent)
    }

    /// Why it is being ended, where it is.
    #[must_use]
    pub const fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Draining(v) | Self::Quitting(v) | Self::Terminating(v) | Self::Killing(v) | Self::Stuck(v) => Some(v),
            Self::Stopped | Self::Starting | Self::Idle | Self::Active | Self::Fault | Self::Silent | Self::Failed => {
                None
            }
        }
    }
}

/// What follows from an event. An event that means nothing in a state changes nothing.
#[must_use]
pub const fn step(state: State, event: Event) -> Step {
    match state {
        State::Stopped | State::Failed => step_without_process(state, event),
        State::Starting => step_starting(event),
        State::Idle | State::Active | State::Fault | State::Silent => step_serving(state, event),
        State::Draining(verdict)
        | State::Quitting(verdict)
        | State::Terminating(verdict)
        | State::Killing(verdict)
        | State::Stuck(verdict) => step_ending(state, verdict, event),
    }
}

const fn to(state: State, actions: &'static [Action]) -> Step {
    Step { state, actions }
}

const fn step_without_process(state: State, event: Event) -> Step {
    match event {
        Event::Start => to(State::Starting, &[Action::Spawn]),
        // A stop acknowledges a failure.
        Event::Stop => to(State::Stopped, &[]),
        Event::SpawnFailed
        | Event::Answered(_)
        | Event::Unanswered
        | Event::Drained
        | Event::Refused
        | Event::Late
        | Event::Exited => to(state, &[]),
    }
}

const fn step_starting(event: Event) -> Step {
    match event {
        Event::Answered(serving) => to(serving_state(serving), &[]),
        Event::SpawnFailed | Event::Exited => to(State::Failed, &[Action::Sweep]),
        // No client can have come: there is nobody to be gentle with.
        Event::Stop => to(State::Terminating(Verdict::Asked), &[Action::Terminate]),
        Event::Late => to(State::Terminating(Verdict::Broken), &[Action::Terminate]),
        Event::Start | Event::Unanswered | Event::Drained | Event::Refused => to(State::Starting, &[]),
    }
}

const fn step_serving(state: State, event: Event) -> Step {
    match (event, state) {
        (Event::Answered(serving), _) => to(serving_state(serving), &[]),
        (Event::Unanswered, _) => to(State::Silent, &[]),
        (Event::Exited, _) => to(State::Failed, &[Action::Sweep]),
        // One that does not answer cannot be talked into leaving.
        (Event::Stop, State::Silent) => to(State::Terminating(Verdict::Asked), &[Action::Terminate]),
        // Clients in fault have no work left, and to ask them to leave would block the daemon.
        (Event::Stop, State::Fault) => to(State::Quitting(Verdict::Asked), &[Action::QuitWithClients]),
        (Event::Stop, _) => to(State::Draining(Verdict::Asked), &[Action::ReleaseClients]),
        _ => to(state, &[]),
    }
}

const fn step_ending(state: State, verdict: Verdict, event: Event) -> Step {
    match (state, event) {
        (_, Event::Exited) => to(over(verdict), &[Action::Sweep]),
        (State::Stuck(_), Event::Stop) => to(State::Killing(Verdict::Asked), &[Action::Kill]),
        (_, Event::Stop) => to(asked(state), &[]),
        (State::Draining(_), Event::Drained) => to(State::Quitting(verdict), &[Action::Quit]),
        (State::Draining(_), Event::Late) => to(State::Quitting(verdict), &[Action::QuitWithClients]),
        (State::Draining(_) | State::Quitting(_), Event::Unanswered | Event::Refused)
        | (State::Quitting(_), Event::Late) => to(State::Terminating(verdict), &[Action::Terminate]),
        (State::Terminating(_), Event::Late) => to(State::Killing(verdict), &[Action::Kill]),
        (State::Killing(_), Event::Late) => to(State::Stuck(verdict), &[]),
        _ => to(state, &[]),
    }
}

const fn serving_state(serving: Serving) -> State {
    match serving {
        Serving::None => State::Idle,
        Serving::Active => State::Active,
        Serving::Fault => State::Fault,
    }
}

const fn over(verdict: Verdict) -> State {
    match verdict {
        Verdict::Asked => State::Stopped,
        Verdict::Broken => State::Failed,
    }
}

/// The same ending, now asked for.
const fn asked(state: State) -> State {
    match state {
        State::Draining(_) => State::Draining(Verdict::Asked),
        State::Quitting(_) => State::Quitting(Verdict::Asked),
        State::Terminating(_) => State::Terminating(Verdict::Asked),
        State::Killing(_) => State::Killing(Verdict::Asked),
        State::Stuck(_) => State::Stuck(Verdict::Asked),
        State::Stopped
        | State::Starting
        | State::Idle
        | State::Active
        | State::Fault
        | State::Silent
        | State::Failed => state,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events() -> impl Strategy<Value = Event> {
        prop::sample::select(vec![
            Event::Start,
            Event::Stop,
            Event::SpawnFailed,
            Event::Answered(Serving::None),
            Event::Answered(Serving::Active),
            Event::Answered(Serving::Fault),
            Event::Unanswered,
            Event::Drained,
            Event::Refused,
            Event::Late,
            Event::Exited,
        ])
    }

    /// Whether there is no process.
    fn is_over(state: State) -> bool {
        matches!(state, State::Stopped | State::Failed)
    }

    /// A world in which at most what the actions started is alive.
    #[derive(Debug, Default)]
    struct World {
        alive: bool,
        spawned_twice: bool,
        swept: bool,
    }

    impl World {
        fn perform(&mut self, actions: &[Action]) {
            for action in actions {
                match action {
                    Action::Spawn => {
                        self.spawned_twice |= self.alive;
                        (self.alive, self.swept) = (true, false);
                    }
                    Action::Sweep => self.swept = true,
                    Action::ReleaseClients
                    | Action::Quit
                    | Action::QuitWithClients
                    | Action::Terminate
                    | Action::Kill => {}
                }
            }
        }

        /// Whether an event can happen in this world.
        fn allows(&self, event: Event, state: State) -> bool {
            match event {
                Event::Exited => self.alive,
                Event::SpawnFailed => state == State::Starting,
                Event::Answered(_) => self.alive,
                Event::Start | Event::Stop | Event::Unanswered | Event::Drained | Event::Refused | Event::Late => true,
            }
        }
    }

    /// Lives through what of `script` can happen.
    fn live(script: &[Event]) -> (State, World) {
        let (mut state, mut world) = (State::Stopped, World::default());
        for event in script.iter().copied() {
            if !world.allows(event, state) {
                continue;
            }
            if matches!(event, Event::Exited | Event::SpawnFailed) {
                world.alive = false;
            }
            let next = step(state, event);
            world.perform(next.actions);
            state = next.state;
        }
        (state, world)
    }

    proptest! {
        #[test]
        fn never_are_two_daemons_alive_and_no_process_is_forgotten(script in prop::collection::vec(events(), 0..60)) {
            let (state, world) = live(&script);
            prop_assert!(!world.spawned_twice);
            prop_assert_eq!(world.alive, !is_over(state));
        }

        #[test]
        fn what_is_over_has_been_swept(script in prop::collection::vec(events(), 0..60)) {
            let (state, world) = live(&script);
            let started = script.contains(&Event::Start);
            prop_assert!(!is_over(state) || !started || world.swept || state == State::Stopped);
            prop_assert!(state != State::Failed || world.swept);
        }

        #[test]
        fn a_stop_reaches_sigkill_by_the_passing_of_time_alone_and_then_stopped(
            script in prop::collection::vec(events(), 0..60),
        ) {
            let (mut state, mut world) = live(&script);
            let mut killed = !world.alive;
            for event in [Event::Stop, Event::Late, Event::Late, Event::Late, Event::Late] {
                let next = step(state, event);
                killed |= next.actions.contains(&Action::Kill) || matches!(next.state, State::Killing(_));
                world.perform(next.actions);
                state = next.state;
            }
            prop_assert!(killed, "{state:?}");
            if world.alive {
                state = step(state, Event::Exited).state;
            }
            prop_assert_eq!(state, State::Stopped);
        }

        #[test]
        fn a_stop_that_was_asked_for_never_ends_in_failed(
            before in prop::collection::vec(events(), 0..30),
            after in prop::collection::vec(events(), 0..30),
        ) {
            let (mut state, _world) = live(&before);
            state = step(state, Event::Stop).state;
            for event in after.into_iter().filter(|event| *event != Event::Start) {
                state = step(state, event).state;
                prop_assert!(!state.serves() && state != State::Failed, "{state:?}");
            }
        }
    }

    #[test]
    fn clients_are_released_before_quit_and_quit_comes_before_any_signal() {
        let mut state = State::Active;
        let mut done = Vec::new();
        for event in [Event::Stop, Event::Drained, Event::Late, Event::Late, Event::Exited] {
            let next = step(state, event);
            done.extend_from_slice(next.actions);
            state = next.state;
        }
        let wanted = [Action::ReleaseClients, Action::Quit, Action::Terminate, Action::Kill, Action::Sweep];
        assert_eq!(done, wanted);
        assert_eq!(state, State::Stopped);
    }

    #[test]
    fn a_start_that_comes_late_ends_in_failed() {
        let late = step(State::Starting, Event::Late).state;
        assert_eq!(step(late, Event::Exited).state, State::Failed);
    }

    #[test]
    fn a_daemon_that_cannot_be_killed_keeps_its_place() {
        let stuck = State::Stuck(Verdict::Asked);
        assert_eq!(step(stuck, Event::Start), Step { state: stuck, actions: &[] });
    }
}
