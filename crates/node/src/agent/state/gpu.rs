//! One GPU: healthy or not, why, and what brings it back.
//!
//! ```text
//!                 daemon up, answers               sign of trouble
//!   Starting ────────────────────────▶ Serving ───────────────────────▶ Suspect (healthy for 0.7 s more)
//!      ▲                                ▲ ▲ ▲        it serves               │
//!      │ wanted under MPS               │ │ └────────────────────────────────┤
//!      │                                │ │                                  │ FAULT, or silent for 15 s
//!      │     server ACTIVE or gone      │ │ fresh daemon answers             ▼
//!      │                                │ └──────────── Recovering ◀────── Fault: grace ▶ shut the server ▶ SIGTERM ▶ SIGKILL
//!      │                                │                  │ ▲    affected gone
//!      │                                └── Fault          ▼ │ later
//!      │                                                 Broken (its daemon does not start; tried again for ever)
//!   want
//! ```
//!
//! A line of a log is a sign, `FAULT` its proof. `FAULT` without one counts when it lasts: a server that leaves for one of
//! another user says it for 0.2 s. Clients of a server that was shut by force are ended afterwards: their work is lost.
//!
//! That is about sharing. The card itself may be ill (an XID, a loss: `cotenant_gpu` says so), whatever its phase. The
//! devices are healthy in `Serving` and young `Suspect`, on a card that is well.

mod fault;
#[cfg(test)]
mod tests;

use cotenant_model::sharing::config::Faults;
use cotenant_model::{GpuUuid, Nanoseconds};
use cotenant_mps::Identity;

use super::event::{Action, Client, Culprit, GpuEvent, Moment};
use crate::keeper::protocol::DaemonSettings;

pub use fault::{Cause, Fault, Stage, Verdict};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

/// How long a suspicion may last before the devices are unhealthy: less than the promised second.
const SUSPICION: u64 = 700 * MILLISECOND;
/// How long a daemon may be silent before that is a fault of its own: five times the longest that a dialogue waits.
const SILENCE: u64 = 15 * SECOND;
/// How long `FAULT` must last to count where no log told of a fault: twice what a change of user takes (driver 580).
const LASTING: u64 = 400 * MILLISECOND;
/// Between two questions while something is wrong.
const CLOSE_LOOK: u64 = 250 * MILLISECOND;
/// Between two questions while nothing is. It stands on its own: a client can end a daemon's logging for good.
const SLOW_LOOK: u64 = 10 * SECOND;
/// How long a fresh daemon may take until it answers.
const RECOVERY: u64 = 30 * SECOND;
/// Longest pause between two starts of a daemon that does not start.
const LONGEST_PAUSE: u64 = 60 * SECOND;

/// Where a GPU stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Its daemon was asked for and has not answered.
    Starting,
    /// It serves.
    Serving,
    /// A sign of trouble that may mean nothing.
    Suspect {
        /// Since when.
        since: Nanoseconds,
        /// What the sign was.
        sign: String,
        /// Since when its server says `FAULT`.
        fault: Option<Nanoseconds>,
    },
    /// It failed.
    Fault(Fault),
    /// Everybody whom the fault reached is gone.
    Recovering {
        /// Since when it is unhealthy.
        since: Nanoseconds,
        /// When another way is tried.
        until: Nanoseconds,
        /// Whether its daemon is being replaced and not there yet: what the old one says does not count.
        awaits_daemon: bool,
    },
    /// Its daemon does not start.
    Broken {
        /// Since when it is unhealthy.
        since: Nanoseconds,
        /// What was said.
        why: String,
        /// When it is tried again.
        until: Nanoseconds,
        /// Whether what runs in its place may be ended; not before its first start, when somebody may use it.
        may_replace: bool,
    },
}

/// What is wrong with the card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Illness {
    /// Since when.
    pub since: Nanoseconds,
    /// Why.
    pub why: String,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    uuid: GpuUuid,
    daemon: Option<DaemonSettings>,
    phase: Phase,
    illness: Option<Illness>,
    /// Clients as they were last named.
    clients: Vec<Client>,
    /// What the kubelet was told.
    told_healthy: bool,
    /// When its daemon is asked next, or the driver.
    look: Nanoseconds,
    /// Starts in a row that failed.
    failures: u32,
    /// Whom the log named; `Some` once it told of a fault at all.
    hint: Option<Option<Culprit>>,
    /// What was found about a fault and is not counted yet.
    verdict: Option<Verdict>,
    /// Clients of a server that was shut by force, and when they are killed.
    stragglers: Vec<(Identity, Nanoseconds)>,
    now: Moment,
}

impl Gpu {
    /// A GPU that is offered from now on. Under MPS it is unhealthy until its daemon answers.
    #[must_use]
    pub fn new(uuid: GpuUuid, daemon: Option<DaemonSettings>, now: Moment) -> (Self, Vec<Action>) {
        let phase = Phase::Serving;
        let mut gpu = Self {
            uuid,
            daemon: None,
            phase,
            illness: None,
            clients: Vec::new(),
            told_healthy: true,
            look: Nanoseconds(u64::MAX),
            failures: 0,
            hint: None,
            verdict: None,
            stragglers: Vec::new(),
            now,
        };
        let actions = gpu.want(daemon, now);
        (gpu, actions)
    }

    /// Where it stands.
    #[must_use]
    pub const fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What is wrong with the card.
    #[must_use]
    pub const fn illness(&self) -> Option<&Illness> {
        self.illness.as_ref()
    }

    /// Whether its devices are healthy.
    #[must_use]
    pub const fn is_healthy(&self) -> bool {
        self.told_healthy
    }

    /// Whether its daemon was serving when it was last heard of.
    #[must_use]
    pub const fn serves(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Suspect { .. })
    }

    /// Its daemon, where it is shared by MPS.
    #[must_use]
    pub const fn daemon(&self) -> Option<&DaemonSettings> {
        self.daemon.as_ref()
    }

    /// Its MPS clients as they were last named.
    #[must_use]
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// What was found about a fault, once a fault.
    pub const fn take_verdict(&mut self) -> Option<Verdict> {
        self.verdict.take()
    }

    /// When a [`Gpu::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Nanoseconds> {
        let own = match &self.phase {
            Phase::Starting | Phase::Serving => u64::MAX,
            Phase::Suspect { since, .. } if self.told_healthy => since.0 + SUSPICION,
            Phase::Suspect { since, .. } => since.0 + SILENCE,
            Phase::Fault(fault) => fault.until.0,
            Phase::Recovering { until, .. } | Phase::Broken { until, .. } => until.0,
        };
        let stragglers = self.stragglers.iter().map(|(_, until)| until.0).min().unwrap_or(u64::MAX);
        Some(Nanoseconds(own.min(self.look.0).min(stragglers))).filter(|deadline| deadline.0 < u64::MAX)
    }

    /// Shares the GPU by MPS with such a daemon, or no longer. Whoever asks has seen to it that nobody uses the old one.
    pub fn want(&mut self, daemon: Option<DaemonSettings>, now: Moment) -> Vec<Action> {
        self.now = now;
        if self.daemon == daemon {
            return Vec::new();
        }
        if let (Some(before), Some(settings)) = (&self.daemon, &daemon)
            && !before.conflicts_with(settings)
        {
            let ensure = Action::Ensure(self.uuid.clone(), settings.clone());
            self.daemon = daemon;
            return vec![ensure];
        }
        let mut actions = Vec::new();
        if self.daemon.take().is_some() {
            actions.push(Action::Stop(self.uuid.clone()));
        }
        self.clients.clear();
        self.failures = 0;
        self.daemon = daemon;
        match &self.daemon {
            Some(settings) => {
                actions.push(Action::Ensure(self.uuid.clone(), settings.clone()));
                self.enter(Phase::Starting, &mut actions);
            }
            None => self.enter(Phase::Serving, &mut actions),
        }
        actions
    }

    /// The keeper can be spoken to again: what should run is asked for, which changes nothing where it runs.
    #[must_use]
    pub fn greet_keeper(&self) -> Vec<Action> {
        match (&self.daemon, &self.phase) {
            // A fault asks for a fresh daemon by itself once everybody is gone.
            (_, Phase::Fault(_)) | (None, _) => Vec::new(),
            (Some(settings), Phase::Recovering { .. }) => vec![Action::Restart(self.uuid.clone(), settings.clone())],
            (Some(settings), _) => vec![Action::Ensure(self.uuid.clone(), settings.clone())],
        }
    }

    /// The keeper cannot be spoken to: its daemons may live on, so they are asked.
    #[must_use]
    pub fn miss_keeper(&self) -> Vec<Action> {
        self.daemon.iter().map(|_| Action::AskStatus(self.uuid.clone())).collect()
    }

    /// What an event means and what is to be done.
    pub fn step(&mut self, event: GpuEvent, faults: &Faults, now: Moment) -> Vec<Action> {
        self.now = now;
        let mut actions = Vec::new();
        match event {
            GpuEvent::Ill(why) => self.fall_ill(why, &mut actions),
            GpuEvent::Well { anew } => self.be_well(anew, &mut actions),
            GpuEvent::Xid(number) => self.suspect(format!("XID {number}"), &mut actions),
            GpuEvent::Gone(process) => self.lose_client(&process, &mut actions),
            GpuEvent::MigApplied(_) => {}
            GpuEvent::DaemonUp { .. }
            | GpuEvent::DaemonDown { .. }
            | GpuEvent::DaemonRefused(_)
            | GpuEvent::Status(..)
            | GpuEvent::Reported { .. }
                if self.daemon.is_none() => {}
            GpuEvent::DaemonUp { .. } => self.meet_daemon(&mut actions),
            GpuEvent::DaemonDown { how, clients } => self.lose_daemon(how, clients, faults, &mut actions),
            GpuEvent::DaemonRefused(why) => self.break_down(why, &mut actions),
            GpuEvent::Status(answer, clients) => self.hear(answer, clients, faults, &mut actions),
            GpuEvent::Reported { culprit, affected } => {
                self.know(affected);
                self.be_told(culprit, &mut actions);
            }
        }
        actions
    }

    /// Deadlines that have passed.
    pub fn tick(&mut self, faults: &Faults, now: Moment) -> Vec<Action> {
        self.now = now;
        let mut actions = Vec::new();
        if self.deadline().is_none_or(|deadline| deadline > now.monotonic) {
            return actions;
        }
        self.take_a_look(&mut actions);
        self.kill_stragglers(&mut actions);
        match self.phase.clone() {
            Phase::Suspect { since, .. } if self.has_passed(since, SILENCE) => {
                self.fail(&Cause::Silent, faults, &mut actions);
            }
            Phase::Suspect { since, .. } if self.has_passed(since, SUSPICION) => self.say_health(&mut actions),
            Phase::Fault(fault) if fault.until <= now.monotonic => self.press(fault, &mut actions),
            Phase::Recovering { since, until, .. } if until <= now.monotonic => self.start_afresh(since, &mut actions),
            Phase::Broken { since, until, may_replace: true, .. } if until <= now.monotonic => {
                self.start_afresh(since, &mut actions);
            }
            Phase::Broken { until, .. } if until <= now.monotonic => self.ask_for_daemon(&mut actions),
            Phase::Starting
            | Phase::Serving
            | Phase::Suspect { .. }
            | Phase::Fault(_)
            | Phase::Recovering { .. }
            | Phase::Broken { .. } => {}
        }
        actions
    }

    fn has_passed(&self, since: Nanoseconds, span: u64) -> bool {
        self.now.monotonic.0 >= since.0.saturating_add(span)
    }

    fn after(&self, span: u64) -> Nanoseconds {
        Nanoseconds(self.now.monotonic.0.saturating_add(span))
    }

    /// The daemon or the driver is asked when it is time.
    fn take_a_look(&mut self, actions: &mut Vec<Action>) {
        if self.look > self.now.monotonic {
            return;
        }
        actions.extend(self.daemon.iter().map(|_| Action::AskStatus(self.uuid.clone())));
        self.look = self.next_look();
    }

    fn next_look(&self) -> Nanoseconds {
        match &self.phase {
            _ if self.daemon.is_none() => Nanoseconds(u64::MAX),
            Phase::Serving | Phase::Broken { .. } => self.after(SLOW_LOOK),
            Phase::Starting => self.after(8 * CLOSE_LOOK),
            Phase::Suspect { .. } | Phase::Fault(_) | Phase::Recovering { .. } => self.after(CLOSE_LOOK),
        }
    }

    fn enter(&mut self, phase: Phase, actions: &mut Vec<Action>) {
        self.phase = phase;
        self.look = self.next_look();
        self.say_health(actions);
    }

    /// Tells the kubelet what has changed.
    fn say_health(&mut self, actions: &mut Vec<Action>) {
        let healthy = match &self.phase {
            Phase::Serving => true,
            Phase::Suspect { since, .. } => self.told_healthy && !self.has_passed(*since, SUSPICION),
            Phase::Starting | Phase::Fault(_) | Phase::Recovering { .. } | Phase::Broken { .. } => false,
        };
        let healthy = healthy && self.illness.is_none();
        if healthy != self.told_healthy {
            self.told_healthy = healthy;
            actions.push(Action::SetHealth { uuid: self.uuid.clone(), healthy });
        }
    }

    /// A sign that may mean nothing: its daemon is asked.
    fn suspect(&mut self, sign: String, actions: &mut Vec<Action>) {
        if self.daemon.is_some() && self.phase == Phase::Serving {
            self.enter(Phase::Suspect { since: self.now.monotonic, sign, fault: None }, actions);
            actions.push(Action::AskStatus(self.uuid.clone()));
        }
    }

    fn fall_ill(&mut self, why: String, actions: &mut Vec<Action>) {
        let since = self.illness.as_ref().map_or(self.now.monotonic, |illness| illness.since);
        if self.illness.as_ref().is_none_or(|illness| illness.why != why) {
            actions.push(Action::Faulted(self.uuid.clone(), "card"));
            actions.push(self.tell(true, "GpuUnhealthy", format!("GPU {} is unhealthy: {why}", self.uuid)));
        }
        self.illness = Some(Illness { since, why });
        self.say_health(actions);
    }

    /// The card is well: what was on it may be gone.
    fn be_well(&mut self, anew: bool, actions: &mut Vec<Action>) {
        let Some(illness) = self.illness.take() else { return };
        match (&self.daemon, &mut self.phase) {
            (Some(_), Phase::Broken { until, .. }) => *until = self.now.monotonic,
            (Some(_), Phase::Serving | Phase::Suspect { .. } | Phase::Fault(_)) if anew => {
                self.start_afresh(illness.since, actions);
            }
            (Some(_), _) => actions.push(Action::AskStatus(self.uuid.clone())),
            (None, _) => {}
        }
        if self.phase == Phase::Serving {
            self.say_recovered(illness.since, actions);
        }
        self.say_health(actions);
    }

    /// Since when it is unhealthy; now, where it is not.
    fn unhealthy_since(&self) -> Nanoseconds {
        match &self.phase {
            Phase::Fault(fault) => fault.since,
            Phase::Recovering { since, .. } | Phase::Broken { since, .. } => *since,
            Phase::Starting | Phase::Serving | Phase::Suspect { .. } => self.now.monotonic,
        }
    }

    /// A daemon runs: whether it serves, it says itself.
    fn meet_daemon(&mut self, actions: &mut Vec<Action>) {
        self.failures = 0;
        match self.phase {
            Phase::Starting => actions.push(Action::AskStatus(self.uuid.clone())),
            Phase::Recovering { since, until, .. } => {
                self.phase = Phase::Recovering { since, until, awaits_daemon: false };
                actions.push(Action::AskStatus(self.uuid.clone()));
            }
            Phase::Broken { since, .. } => {
                self.enter(Phase::Recovering { since, until: self.after(RECOVERY), awaits_daemon: false }, actions);
                actions.push(Action::AskStatus(self.uuid.clone()));
            }
            Phase::Serving | Phase::Suspect { .. } | Phase::Fault(_) => {}
        }
    }

    /// Its daemon cannot be had; it is tried again, less and less often.
    fn break_down(&mut self, why: String, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Fault(_) | Phase::Serving | Phase::Suspect { .. }) {
            return;
        }
        let since = self.unhealthy_since();
        let pause = SECOND.saturating_mul(1 << self.failures.min(6)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        if !matches!(&self.phase, Phase::Broken { why: before, .. } if *before == why) {
            actions.push(self.tell(true, "MpsNotStarted", format!("no MPS control daemon for {}: {why}", self.uuid)));
        }
        let may_replace = match self.phase {
            Phase::Starting => false,
            Phase::Broken { may_replace, .. } => may_replace,
            Phase::Serving | Phase::Suspect { .. } | Phase::Fault(_) | Phase::Recovering { .. } => true,
        };
        self.enter(Phase::Broken { since, why, until: self.after(pause), may_replace }, actions);
    }

    /// Asks for the daemon that never ran, without disturbing what may run in its place.
    fn ask_for_daemon(&mut self, actions: &mut Vec<Action>) {
        let Some(settings) = &self.daemon else { return };
        actions.push(Action::Ensure(self.uuid.clone(), settings.clone()));
        if let Phase::Broken { until, .. } = &mut self.phase {
            *until = Nanoseconds(self.now.monotonic.0.saturating_add(RECOVERY));
        }
    }

    /// Replaces the daemon.
    fn start_afresh(&mut self, since: Nanoseconds, actions: &mut Vec<Action>) {
        match &self.daemon {
            Some(settings) => {
                actions.push(Action::Restart(self.uuid.clone(), settings.clone()));
                self.clients.clear();
                self.enter(Phase::Recovering { since, until: self.after(RECOVERY), awaits_daemon: true }, actions);
            }
            None => self.recover(since, actions),
        }
    }

    fn recover(&mut self, since: Nanoseconds, actions: &mut Vec<Action>) {
        self.hint = None;
        if self.illness.is_none() {
            self.say_recovered(since, actions);
        }
        self.enter(Phase::Serving, actions);
    }

    fn say_recovered(&self, since: Nanoseconds, actions: &mut Vec<Action>) {
        let took = Nanoseconds(self.now.monotonic.0.saturating_sub(since.0));
        actions.push(Action::Recovered(self.uuid.clone(), took));
        actions.push(self.tell(false, "GpuRecovered", format!("GPU {} serves again after {took}", self.uuid)));
    }
}
