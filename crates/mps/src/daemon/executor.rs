//! Carries out what [`life::step`] wants and tells it what happened.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use cotenant_model::GpuUuid;
use rustix::process::Signal;

use super::directory::{last_words, make_directory, make_log_directory, remove_directories};
use super::{Health, MpsError, Patience, Settings};
use crate::clock::Deadline;
use crate::dialogue::{Dialect, Dialogue, DialogueError, Server, base_environment};
use crate::foreign::servers_of;
use crate::life::{self, Action, Event, Serving, State};
use crate::place::{Trap, open_output};
use crate::process::{self, Ended, Identity};
use crate::registry::{DaemonRecord, Registry, RegistryError};
use crate::reply::ServerStatus;

/// How long servers may take to follow SIGTERM once their daemon is gone.
const SERVER_GRACE: Duration = Duration::from_millis(500);
/// Between two questions to a daemon that is draining.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two looks at a daemon that is starting, which takes 14 ms (driver 580).
const START_PAUSE: Duration = Duration::from_millis(5);

/// A daemon's process with its state.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) settings: Settings,
    pub(crate) state: State,
    /// Where the process is recorded; `None` for one that another run left, or that outlives its starter.
    registry: Option<Registry>,
    mark: String,
    /// The handle to wait for; `None` for a process that another run started.
    child: Option<Child>,
    process: Option<Identity>,
    /// Whether the directory was made here: another one is not removed.
    owns_directory: bool,
    /// Every server seen so far.
    servers: Vec<Identity>,
    failure: Option<MpsError>,
    /// How the process ended, where that is known.
    exit: Option<ExitStatus>,
    /// What will keep clients of other users out.
    pub(crate) traps: Vec<Trap>,
    ended: Ended,
}

impl Executor {
    pub(super) fn new(settings: Settings, registry: &Registry) -> Self {
        let (_name, mark) = registry.mark();
        Self { registry: Some(registry.clone()), ..Self::of(settings, mark) }
    }

    /// A daemon with fixed folders, which no register knows.
    pub(crate) fn resident(settings: Settings) -> Self {
        let mark = format!("resident {}", settings.pipe().display());
        Self::of(settings, mark)
    }

    /// The same for one that runs already.
    pub(crate) fn resident_at(settings: Settings, process: Identity) -> Self {
        let traps = settings.residence.as_ref().map(|residence| residence.place.traps()).unwrap_or_default();
        Self { state: State::Silent, process: Some(process), traps, ..Self::resident(settings) }
    }

    fn of(settings: Settings, mark: String) -> Self {
        Self {
            settings,
            state: State::Stopped,
            registry: None,
            mark,
            child: None,
            process: None,
            owns_directory: false,
            servers: Vec::new(),
            failure: None,
            exit: None,
            traps: Vec::new(),
            ended: Ended::default(),
        }
    }

    /// Takes over a process that another run left, to end it.
    fn adopt(daemon: &DaemonRecord, process: &Identity, mark: &str) -> Self {
        let mut settings = Settings::at(daemon.gpu.clone(), &daemon.directory, daemon.program.clone());
        settings.log.clone_from(&daemon.log);
        let state = if process.is_alive() { State::Active } else { State::Stopped };
        Self { state, process: Some(process.clone()), owns_directory: true, ..Self::of(settings, mark.to_owned()) }
    }

    pub(crate) const fn process(&self) -> Option<&Identity> {
        self.process.as_ref()
    }

    pub(crate) fn dialogue(&self) -> Dialogue {
        self.settings.dialogue()
    }

    pub(crate) fn last_words(&self) -> String {
        last_words(&self.settings.log)
    }

    pub(crate) fn take_failure(&mut self) -> MpsError {
        let gpu = self.settings.gpu.clone();
        self.failure.take().unwrap_or_else(|| MpsError::Stuck { gpu, pids: self.ended.survivors.clone() })
    }

    /// Feeds an event and what follows from it, until the daemon serves or nothing more can happen.
    pub(crate) fn run(&mut self, event: Event) -> State {
        let mut next = Some(event);
        while let Some(event) = next {
            next = self.feed(event);
            if next.is_none() {
                next = self.await_event();
            }
        }
        self.state
    }

    /// One step and its actions; an action may bring the next event.
    fn feed(&mut self, event: Event) -> Option<Event> {
        let before = self.state;
        let step = life::step(before, event);
        self.state = step.state;
        tracing::debug!(gpu = %self.settings.gpu, ?before, ?event, state = ?self.state, "MPS control daemon");
        self.note_failure(before, event);
        step.actions.iter().filter_map(|action| self.perform(*action)).last()
    }

    /// Keeps why a start failed or a daemon died, before its logs are swept.
    fn note_failure(&mut self, before: State, event: Event) {
        let (gpu, last_words) = (self.settings.gpu.clone(), self.last_words());
        match (before, event) {
            (State::Starting, Event::Late) => {
                let patience = self.settings.patience.start;
                self.failure = Some(MpsError::Late { gpu, patience, last_words });
            }
            (state, Event::Exited) if state == State::Starting || state.serves() => {
                self.failure = Some(MpsError::Died { gpu, last_words });
            }
            _ => {}
        }
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Spawn => self.spawn().err().map(|error| {
                self.failure = Some(error);
                Event::SpawnFailed
            }),
            Action::ReleaseClients => {
                self.remember_servers();
                end_clients(&self.dialogue(), &self.settings.gpu);
                None
            }
            Action::Quit => self.quit("quit"),
            // Half of the time for clients to leave by themselves, half for the daemon to follow.
            Action::QuitWithClients => {
                self.quit(&format!("quit -t {}", (self.settings.patience.quit / 2).as_secs().max(1)))
            }
            Action::Terminate => {
                self.remember_servers();
                self.signal(Signal::TERM);
                None
            }
            Action::Kill => {
                self.remember_servers();
                self.signal(Signal::KILL);
                None
            }
            Action::Sweep => {
                self.sweep();
                None
            }
        }
    }

    fn spawn(&mut self) -> Result<(), MpsError> {
        self.lodge()?;
        let failed = |source| MpsError::Run { program: self.settings.program.clone(), source };
        let child = start_process(&self.settings, &self.mark).map_err(failed)?;
        let (pid, child) = (child.id(), self.child.insert(child));
        let Some(registry) = &self.registry else {
            self.process = Identity::of(pid);
            return Ok(());
        };
        match registry.record_daemon(pid, self.settings.record()) {
            Ok(process) => self.process = Some(process),
            Err(source) => {
                end_child(child);
                self.child = None;
                // One that is gone before it was recorded has said why.
                let (gpu, last_words) = (self.settings.gpu.clone(), last_words(&self.settings.log));
                let gone = matches!(source, RegistryError::Gone { .. });
                return Err(if gone { MpsError::Died { gpu, last_words } } else { MpsError::Record { gpu, source } });
            }
        }
        Ok(())
    }

    /// Makes the daemon's directories.
    fn lodge(&mut self) -> Result<(), MpsError> {
        if let Some(residence) = &self.settings.residence {
            let failed = |source| MpsError::Place { gpu: self.settings.gpu.clone(), source };
            self.traps = residence.place.prepare().map_err(failed)?;
            return Ok(());
        }
        make_directory(&self.settings.directory)?;
        self.owns_directory = true;
        make_directory(&self.settings.pipe())?;
        make_log_directory(&self.settings.log)
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Tells the daemon to quit; older drivers do not know the time limit of `quit`.
    fn quit(&self, command: &str) -> Option<Event> {
        let patience = self.settings.patience.quit;
        let dialogue = self.dialogue();
        // In protocol 3 it is an option that ends servers and clients too; in protocol 2 that option means something else.
        let command = if dialogue.dialect() == Dialect::Three { "-q" } else { command };
        match dialogue.ask_within(command, patience) {
            Ok(reply) if is_refusal(&reply) && command.starts_with("quit -t") => self.quit("quit"),
            Ok(reply) if is_refusal(&reply) => Some(Event::Refused),
            Err(DialogueError::Failed { .. } | DialogueError::Run { .. }) if !self.is_gone() => Some(Event::Refused),
            Err(DialogueError::Late { .. }) => Some(Event::Late),
            Ok(_) | Err(_) => None,
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.process.as_ref().is_none_or(|process| !process.is_alive())
    }

    /// Keeps the identities of servers while the daemon can still name them.
    fn remember_servers(&mut self) {
        let children = self.process.as_ref().map(Identity::children).unwrap_or_default();
        for server in children.into_iter().chain(servers_of(&self.settings.pipe())) {
            if !self.servers.contains(&server) {
                self.servers.push(server);
            }
        }
    }

    /// Ends what is left, and removes the directories and the record once nothing is.
    fn sweep(&mut self) {
        let Some(process) = self.process.take() else {
            self.remove_directories();
            return;
        };
        let (known, mark, pipe) = (std::mem::take(&mut self.servers), self.mark.clone(), self.settings.pipe());
        let members = || {
            let mut all = process::certain_family(&process, Some(&mark));
            all.extend(known.iter().chain(&servers_of(&pipe)).filter(|server| server.is_alive()).cloned());
            all
        };
        self.ended = process::end(members, SERVER_GRACE);
        if let Some(mut child) = self.child.take() {
            self.exit = end_child(&mut child);
        }
        if !self.ended.survivors.is_empty() {
            return;
        }
        self.remove_directories();
        if let Some(registry) = &self.registry {
            registry.forget(&process);
        }
    }

    /// How the process ended, where it was this process's child.
    pub(crate) const fn exit(&self) -> Option<ExitStatus> {
        self.exit
    }

    fn remove_directories(&self) {
        if let Some(residence) = &self.settings.residence {
            if let Err(error) = residence.place.clean() {
                tracing::warn!(gpu = %self.settings.gpu, %error, "the folders of a daemon cannot be emptied");
            }
        } else if self.owns_directory {
            remove_directories(&self.settings.record());
        }
    }

    /// Waits for what happens next; `None` where the daemon serves or is over.
    fn await_event(&mut self) -> Option<Event> {
        let patience = self.settings.patience;
        match self.state {
            State::Starting => Some(self.await_answer(Deadline::after(patience.start))),
            State::Draining(_) => Some(self.await_drain(Deadline::after(patience.drain))),
            State::Quitting(_) => Some(self.await_exit(patience.quit)),
            State::Terminating(_) => Some(self.await_exit(patience.terminate)),
            State::Killing(_) => Some(self.await_exit(patience.kill)),
            State::Stuck(_) => {
                self.ended.survivors = self.process.iter().map(|process| process.pid).collect();
                None
            }
            State::Stopped | State::Failed | State::Idle | State::Active | State::Fault | State::Silent => None,
        }
    }

    fn await_exit(&self, patience: Duration) -> Event {
        let deadline = Deadline::after(patience);
        if let Some(process) = self.process.as_ref().filter(|process| process.is_alive()) {
            process::await_end(process.pid, deadline);
        }
        if self.is_gone() { Event::Exited } else { Event::Late }
    }

    fn await_answer(&self, deadline: Deadline) -> Event {
        let dialogue = self.dialogue();
        loop {
            if self.is_gone() {
                return Event::Exited;
            }
            let Some(left) = deadline.remaining() else { return Event::Late };
            // The socket comes with the daemon's readiness to listen; before it a question is in vain.
            let listens = self.settings.pipe().join("control").exists();
            if listens && dialogue.answers(left.min(self.settings.patience.dialogue)) {
                return Event::Answered(Serving::None);
            }
            std::thread::sleep(START_PAUSE.min(left));
        }
    }

    fn await_drain(&self, deadline: Deadline) -> Event {
        let dialogue = self.dialogue();
        loop {
            if self.is_gone() {
                return Event::Exited;
            }
            match clients_of(&dialogue) {
                Ok(clients) if clients.is_empty() => return Event::Drained,
                Err(DialogueError::Late { .. }) => return Event::Unanswered,
                Ok(_) | Err(_) => {}
            }
            if deadline.passed() {
                return Event::Late;
            }
            std::thread::sleep(PAUSE);
        }
    }

    pub(crate) fn ask(&mut self, command: &str) -> Result<String, MpsError> {
        let answer = self.dialogue().ask(command);
        answer.map_err(|source| self.note_no_answer(source))
    }

    pub(crate) fn examine(&mut self) -> Result<Health, MpsError> {
        let servers = self.dialogue().examine().map_err(|source| self.note_no_answer(source))?;
        self.remember_servers();
        self.run(Event::Answered(serving(&servers)));
        Ok(Health { state: self.state, servers })
    }

    /// What a question without answer means: a death or a silence.
    fn note_no_answer(&mut self, source: DialogueError) -> MpsError {
        let gpu = self.settings.gpu.clone();
        if self.is_gone() && self.state.serves() {
            self.run(Event::Exited);
            return self.take_failure();
        }
        if matches!(source, DialogueError::Late { .. } | DialogueError::NoDaemon { .. }) {
            self.run(Event::Unanswered);
        }
        MpsError::Dialogue { gpu, source }
    }

    pub(crate) fn stop(&mut self) -> Result<(), MpsError> {
        if self.state.serves() && self.is_gone() {
            self.run(Event::Exited);
        }
        self.run(Event::Stop);
        if self.ended.survivors.is_empty() && self.state == State::Stopped {
            return Ok(());
        }
        Err(MpsError::Stuck { gpu: self.settings.gpu.clone(), pids: self.ended.survivors.clone() })
    }
}

fn start_process(settings: &Settings, mark: &str) -> io::Result<Child> {
    let output = open_output(&settings.log)?;
    #[expect(clippy::disallowed_methods, reason = "the executor that starts it reaps it")]
    Command::new(&settings.program)
        .args(settings.arguments())
        .env_clear()
        .envs(base_environment())
        .envs(settings.environment.iter().cloned())
        .env("CUDA_VISIBLE_DEVICES", &settings.gpu.0)
        .env("CUDA_MPS_PIPE_DIRECTORY", settings.pipe())
        .env("CUDA_MPS_LOG_DIRECTORY", &settings.log)
        .env(process::MARK, mark)
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
}

fn end_child(child: &mut Child) -> Option<ExitStatus> {
    drop(child.kill());
    process::await_end(child.id(), Deadline::after(Duration::from_secs(1)));
    child.try_wait().ok().flatten()
}

fn is_refusal(reply: &str) -> bool {
    let reply = reply.trim_start().to_ascii_lowercase();
    ["unknown", "invalid", "usage", "permission", "failed", "error"].iter().any(|word| reply.starts_with(word))
}

fn serving(servers: &[Server]) -> Serving {
    if servers.is_empty() {
        return Serving::None;
    }
    let in_fault = servers.iter().any(|server| server.status == ServerStatus::Fault);
    if in_fault { Serving::Fault } else { Serving::Active }
}

/// Server and client, for every client of every server.
fn clients_of(dialogue: &Dialogue) -> Result<Vec<(u32, u32)>, DialogueError> {
    let mut all = Vec::new();
    for server in dialogue.servers()? {
        all.extend(dialogue.clients(server)?.into_iter().map(|client| (server, client)));
    }
    Ok(all)
}

/// Ends the GPU work of every client of a daemon that another run left, as far as the daemon answers.
pub(crate) fn release_clients(daemon: &DaemonRecord) {
    let patience = Patience::default().dialogue;
    end_clients(&Dialogue::new(&daemon.program, &daemon.pipe(), patience, Dialect::Two), &daemon.gpu);
}

/// Ends the work of every client; those of a server in fault have none, and asking would block the daemon.
fn end_clients(dialogue: &Dialogue, gpu: &GpuUuid) {
    let released = clients_of(dialogue).and_then(|clients| {
        let end = |(server, client): &(u32, u32)| match dialogue.terminate_client(*server, *client) {
            Err(DialogueError::Faulty { .. } | DialogueError::Reply { .. }) => Ok(()),
            other => other,
        };
        clients.iter().try_for_each(end)
    });
    if let Err(error) = released {
        tracing::warn!(%gpu, %error, "cannot release the clients of a daemon");
    }
}

/// Ends a daemon that another run left, in the order of [`super::Daemon::stop`]. Directories and record stay.
pub(crate) fn shut_down(daemon: &DaemonRecord, process: &Identity, mark: &str) -> Ended {
    let mut executor = Executor::adopt(daemon, process, mark);
    if executor.state == State::Stopped {
        executor.sweep();
    } else {
        executor.run(Event::Stop);
    }
    executor.ended
}
