//! A fault from its first sign to the last affected client's end.

use cotenant_model::Nanoseconds;
use cotenant_model::sharing::config::Faults;
use cotenant_mps::Identity;

use super::{Gpu, LASTING, Phase, SECOND};
use crate::agent::state::event::{Action, Answer, Client, Culprit, Force, Holder, Note, Pod, Subject};

/// How long a daemon may take to shut its servers by force (33 ms on driver 580).
const SHUTTING: u64 = 5 * SECOND;
/// How long a process may take to follow a signal.
const SIGNAL: u64 = 5 * SECOND;
/// How long a server may take to say `ACTIVE` once nobody whom the fault reached is left.
const CLEARING: u64 = 5 * SECOND;

/// What happened to a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Its MPS server is or was in fault.
    Server,
    /// Its control daemon died; how.
    Daemon(String),
    /// Its control daemon does not answer.
    Silent,
}

impl Cause {
    /// The word of metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Server => "mps-server",
            Self::Daemon(_) => "mps-daemon-died",
            Self::Silent => "mps-daemon-silent",
        }
    }

    /// Whether the daemon cannot serve again.
    const fn needs_fresh_daemon(&self) -> bool {
        matches!(self, Self::Daemon(_) | Self::Silent)
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server => f.write_str("a client's fault stopped its MPS server"),
            Self::Daemon(how) => write!(f, "its MPS control daemon died ({how})"),
            Self::Silent => f.write_str("its MPS control daemon does not answer"),
        }
    }
}

/// How far the end of the affected clients has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// They have time to end by themselves.
    Grace,
    /// Their server was shut by force. Never `terminate_client` here: in `FAULT` it blocks the whole daemon until that client
    /// has exited.
    Shut,
    /// They were sent SIGTERM.
    Asked,
    /// They were sent SIGKILL.
    Killed,
}

/// A GPU's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What happened first.
    pub cause: Cause,
    /// Since when the GPU is unhealthy.
    pub since: Nanoseconds,
    /// Clients that it reached and that are not gone.
    pub affected: Vec<Client>,
    /// How far the end of the affected has come.
    pub stage: Stage,
    /// When the next stage begins.
    pub until: Nanoseconds,
    /// Whether only a fresh daemon can serve again.
    pub fresh: bool,
}

/// What was found about a fault of an MPS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Who certainly caused it.
    pub culprit: Option<Culprit>,
    /// Everybody who was there.
    pub present: Vec<Holder>,
}

impl Gpu {
    /// The GPU has failed, or a fault that is known shows again.
    pub(super) fn fail(&mut self, cause: &Cause, faults: &Faults, actions: &mut Vec<Action>) {
        let (mut fault, is_new) = match &self.phase {
            Phase::Fault(fault) => (Fault { fresh: fault.fresh || cause.needs_fresh_daemon(), ..fault.clone() }, false),
            Phase::Starting
            | Phase::Serving
            | Phase::Suspect { .. }
            | Phase::Recovering { .. }
            | Phase::Broken { .. } => {
                self.announce(cause, actions);
                (self.new_fault(cause, faults), true)
            }
        };
        let strangers: Vec<Client> =
            self.clients.iter().filter(|client| !fault.affected.contains(client)).cloned().collect();
        actions.extend(strangers.iter().map(|client| Action::Watch(self.uuid.clone(), client.process.clone())));
        fault.affected.extend(strangers);
        let settled = fault.fresh && fault.affected.is_empty();
        let since = fault.since;
        if !is_new {
            self.phase = Phase::Fault(fault);
        } else {
            if *cause == Cause::Server {
                self.judge(actions);
            }
            self.enter(Phase::Fault(fault), actions);
            actions.push(Action::AskStatus(self.uuid.clone()));
        }
        if settled {
            self.start_afresh(since, actions);
        }
    }

    fn new_fault(&self, cause: &Cause, faults: &Faults) -> Fault {
        Fault {
            cause: cause.clone(),
            since: self.unhealthy_since(),
            affected: Vec::new(),
            stage: Stage::Grace,
            until: self.after(faults.grace.0),
            fresh: cause.needs_fresh_daemon(),
        }
    }

    fn announce(&self, cause: &Cause, actions: &mut Vec<Action>) {
        actions.push(Action::Faulted(self.uuid.clone(), cause.word()));
        actions.push(self.tell(true, "GpuFault", format!("GPU {} is unhealthy: {cause}", self.uuid)));
    }

    /// Says who did it, to its own pod and to those of the others, as surely as it can be said: with one client it is certain;
    /// with several the log names the one that connected first, whoever it was (seven of seven faults on driver 580).
    fn judge(&mut self, actions: &mut Vec<Action>) {
        let hint = self.hint.take().flatten();
        let (culprit, certain) = match &self.clients[..] {
            [only] => {
                let pid = only.process.pid;
                let command = hint.filter(|hint| hint.pid == pid).and_then(|hint| hint.command);
                (Some(Culprit { pid, command, holder: only.holder.clone() }), true)
            }
            _ => (hint, false),
        };
        let text = self.accusation(culprit.as_ref(), certain);
        let culprits_pod = culprit.as_ref().and_then(|culprit| culprit.holder.as_ref()).map(|holder| &holder.pod);
        if let (Some(pod), true) = (culprits_pod, certain) {
            actions.push(note_on(pod, "MpsFaultCaused", text.clone()));
        }
        let mut told: Vec<&Pod> = culprits_pod.filter(|_| certain).into_iter().collect();
        for pod in self.clients.iter().filter_map(|client| client.holder.as_ref()).map(|holder| &holder.pod) {
            if !told.contains(&pod) {
                told.push(pod);
                actions.push(note_on(pod, "MpsFaultSuffered", text.clone()));
            }
        }
        actions.push(self.tell(true, "MpsFault", text));
        let present = self.clients.iter().filter_map(|client| client.holder.clone()).collect();
        self.verdict = Some(Verdict { culprit: culprit.filter(|_| certain), present });
    }

    fn accusation(&self, culprit: Option<&Culprit>, certain: bool) -> String {
        let uuid = &self.uuid;
        let Some(culprit) = culprit else {
            return format!("a fault of one client ended the work of every process on GPU {uuid}; nobody is named");
        };
        let command = culprit.command.as_ref().map_or_else(String::new, |command| format!(" ({command})"));
        let pod = culprit.holder.as_ref().map_or_else(String::new, |holder| format!(" of pod {}", holder.pod));
        let who = format!("process {}{command}{pod}", culprit.pid);
        if certain {
            format!("{who} caused a fault on GPU {uuid} and was alone there")
        } else {
            format!(
                "a fault of one client ended the work of every process on GPU {uuid}; the MPS log names {who}, which is often \
                 only the one that connected first"
            )
        }
    }

    /// The log tells of a fault: the daemon is asked whether that is true.
    pub(super) fn be_told(&mut self, culprit: Option<Culprit>, actions: &mut Vec<Action>) {
        self.hint = Some(self.hint.take().flatten().or(culprit));
        match &self.phase {
            Phase::Serving => self.suspect("its log tells of a fault".to_owned(), actions),
            Phase::Suspect { .. } => actions.push(Action::AskStatus(self.uuid.clone())),
            Phase::Starting | Phase::Fault(_) | Phase::Recovering { .. } | Phase::Broken { .. } => {}
        }
    }

    /// What the control daemon said.
    pub(super) fn hear(&mut self, answer: Answer, clients: Vec<Client>, faults: &Faults, actions: &mut Vec<Action>) {
        match answer {
            Answer::Silent(_) => self.know(clients),
            Answer::Serving | Answer::Initializing | Answer::Fault => self.clients = clients,
        }
        match (self.phase.clone(), answer) {
            (Phase::Broken { .. } | Phase::Recovering { awaits_daemon: true, .. }, _) => {}
            (_, Answer::Fault) => self.hear_of_fault(faults, actions),
            (Phase::Serving, Answer::Silent(why)) => self.suspect(why, actions),
            (Phase::Starting | Phase::Suspect { .. }, Answer::Serving)
            | (Phase::Suspect { .. }, Answer::Initializing) => {
                if self.hint.take().flatten().is_some() {
                    let text = format!("the MPS log of GPU {} tells of a fault, and its server serves", self.uuid);
                    actions.push(self.tell(true, "MpsFaultPassed", text));
                }
                self.enter(Phase::Serving, actions);
            }
            (Phase::Recovering { since, .. }, Answer::Serving) => self.recover(since, actions),
            (Phase::Fault(fault), Answer::Serving) => self.compare(fault, actions),
            (Phase::Fault(_), Answer::Silent(_)) => self.fail_silently(faults, actions),
            (Phase::Starting | Phase::Suspect { .. } | Phase::Recovering { .. }, Answer::Silent(_))
            | (Phase::Starting | Phase::Recovering { .. } | Phase::Fault(_), Answer::Initializing)
            | (Phase::Serving, Answer::Serving | Answer::Initializing) => {}
        }
    }

    /// `FAULT` is a fault when the log told of one, or when it lasts.
    fn hear_of_fault(&mut self, faults: &Faults, actions: &mut Vec<Action>) {
        match self.phase.clone() {
            Phase::Serving if self.hint.is_none() => {
                let now = self.now.monotonic;
                let sign = "its server says FAULT".to_owned();
                self.enter(Phase::Suspect { since: now, sign, fault: Some(now) }, actions);
            }
            Phase::Suspect { since, sign, fault: None } if self.hint.is_none() => {
                self.phase = Phase::Suspect { since, sign, fault: Some(self.now.monotonic) };
            }
            Phase::Suspect { fault: Some(first), .. } if self.hint.is_none() && !self.has_passed(first, LASTING) => {}
            Phase::Starting
            | Phase::Serving
            | Phase::Suspect { .. }
            | Phase::Fault(_)
            | Phase::Recovering { .. }
            | Phase::Broken { .. } => self.fail(&Cause::Server, faults, actions),
        }
    }

    /// The server serves: whoever it no longer names has left it.
    fn compare(&mut self, mut fault: Fault, actions: &mut Vec<Action>) {
        if fault.fresh {
            return;
        }
        let (stay, left): (Vec<Client>, Vec<Client>) =
            fault.affected.into_iter().partition(|one| self.clients.iter().any(|client| client.process == one.process));
        if !stay.is_empty() {
            fault.affected = stay;
            self.phase = Phase::Fault(fault);
            return;
        }
        if fault.stage >= Stage::Shut {
            // They were taken off the GPU and may not know it.
            let until = self.after(SIGNAL);
            signal(&left, Force::Ask, actions);
            self.stragglers.extend(left.into_iter().map(|client| (client.process, until)));
        }
        self.recover(fault.since, actions);
    }

    pub(super) fn kill_stragglers(&mut self, actions: &mut Vec<Action>) {
        let now = self.now.monotonic;
        let late = self.stragglers.extract_if(.., |(_, until)| *until <= now);
        actions.extend(late.map(|(process, _)| Action::Signal(process, Force::Kill)));
    }

    /// A daemon that is silent during a fault: clients that the driver names are reached too.
    fn fail_silently(&mut self, faults: &Faults, actions: &mut Vec<Action>) {
        if let Phase::Fault(fault) = &self.phase {
            let cause = fault.cause.clone();
            self.fail(&cause, faults, actions);
        }
    }

    /// Its control daemon died.
    pub(super) fn lose_daemon(
        &mut self,
        how: String,
        clients: Vec<Client>,
        faults: &Faults,
        actions: &mut Vec<Action>,
    ) {
        self.know(clients);
        match self.phase {
            Phase::Starting | Phase::Recovering { .. } => self.break_down(how, actions),
            Phase::Serving | Phase::Suspect { .. } | Phase::Fault(_) => {
                self.fail(&Cause::Daemon(how), faults, actions);
            }
            Phase::Broken { .. } => {}
        }
    }

    /// Adds clients to those that are known.
    pub(super) fn know(&mut self, clients: Vec<Client>) {
        for client in clients {
            match self.clients.iter_mut().find(|known| known.process == client.process) {
                Some(known) => *known = client,
                None => self.clients.push(client),
            }
        }
    }

    /// A watched process is gone.
    pub(super) fn lose_client(&mut self, process: &Identity, actions: &mut Vec<Action>) {
        self.clients.retain(|client| client.process != *process);
        self.stragglers.retain(|(straggler, _)| straggler != process);
        let Phase::Fault(mut fault) = self.phase.clone() else { return };
        let before = fault.affected.len();
        fault.affected.retain(|client| client.process != *process);
        let was_last = before > 0 && fault.affected.is_empty();
        if was_last {
            self.settle(&fault, actions);
        } else {
            self.phase = Phase::Fault(fault);
        }
    }

    /// Everybody whom the fault reached is gone.
    fn settle(&mut self, fault: &Fault, actions: &mut Vec<Action>) {
        if fault.fresh {
            self.start_afresh(fault.since, actions);
            return;
        }
        let until = self.after(CLEARING);
        self.enter(Phase::Recovering { since: fault.since, until, awaits_daemon: false }, actions);
        actions.push(Action::AskStatus(self.uuid.clone()));
    }

    /// The time of a stage is up.
    pub(super) fn press(&mut self, mut fault: Fault, actions: &mut Vec<Action>) {
        if fault.affected.is_empty() {
            // The server has named nobody in all this time, and does not serve.
            self.start_afresh(fault.since, actions);
            return;
        }
        let (stage, span) = next(&fault);
        let pids: Vec<u32> = fault.affected.iter().map(|client| client.process.pid).collect();
        match stage {
            Stage::Shut => actions.push(Action::ShutServers(self.uuid.clone())),
            Stage::Asked => signal(&fault.affected, Force::Ask, actions),
            Stage::Killed if fault.stage != Stage::Killed => signal(&fault.affected, Force::Kill, actions),
            Stage::Grace | Stage::Killed => {
                let text = format!("processes {pids:?} on GPU {} survive SIGKILL; its daemon is replaced", self.uuid);
                actions.push(self.tell(true, "MpsClientStuck", text));
                self.start_afresh(fault.since, actions);
                return;
            }
        }
        fault.stage = stage;
        fault.until = self.after(span);
        self.phase = Phase::Fault(fault);
    }

    /// A note on the node.
    pub(super) fn tell(&self, warning: bool, reason: &'static str, text: String) -> Action {
        Action::Tell(Note { subject: Subject::Node, warning, reason, text })
    }
}

/// The stage after, and how long it lasts. A daemon that is dead cannot shut a server.
const fn next(fault: &Fault) -> (Stage, u64) {
    match fault.stage {
        Stage::Grace if !fault.fresh => (Stage::Shut, SHUTTING),
        Stage::Grace | Stage::Shut => (Stage::Asked, SIGNAL),
        Stage::Asked | Stage::Killed => (Stage::Killed, SIGNAL),
    }
}

fn signal(affected: &[Client], force: Force, actions: &mut Vec<Action>) {
    actions.extend(affected.iter().map(|client| Action::Signal(client.process.clone(), force)));
}

fn note_on(pod: &Pod, reason: &'static str, text: String) -> Action {
    Action::Tell(Note { subject: Subject::Pod(pod.clone()), warning: true, reason, text })
}
