//! A control daemon that outlives its starter: in fixed folders, found and taken over by the next keeper.

mod search;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use cotenant_model::GpuUuid;
use cotenant_model::cause::chain;
use serde::{Deserialize, Serialize};

use crate::clock::Deadline;
use crate::daemon::{Executor, Health, MpsError, Patience, Residence, Settings};
use crate::dialogue::{Dialect, Dialogue, DialogueError};
use crate::life::{Event, State};
use crate::limits::{ClientLimits, LimitError};
use crate::place::{Place, Trap, check_length};
use crate::probe::Protocol;
use crate::process::{Identity, await_end};
use crate::program::find_program;
use crate::three::{self, Namespace};

pub use search::{Found, find_daemon};

/// Variable in the environment of a resident daemon: what it was started as, for whoever finds it.
const RECORD: &str = "COTENANT_MPS_DAEMON";

/// What a resident daemon is to be.
#[derive(Debug, Clone)]
pub struct ResidentSettings {
    /// Its GPU and folders.
    pub place: Place,
    /// The control program.
    pub program: PathBuf,
    /// One server of root for clients of every user, instead of one user at a time: users are not kept apart then.
    pub multi_user: bool,
    /// The protocol.
    pub protocol: Protocol,
    /// What each client may use at most, whatever its environment says.
    pub limits: ClientLimits,
    /// Namespaces with limits of their own; protocol 2 has none.
    pub namespaces: Vec<Namespace>,
    /// A text of the caller's that is found again with the daemon.
    pub note: String,
    /// How long each part of its life may take.
    pub patience: Patience,
}

/// What is written into a daemon's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    program: PathBuf,
    multi_user: bool,
    three: bool,
    #[serde(default)]
    note: String,
}

/// What [`ResidentDaemon::open`] came to.
#[derive(Debug)]
pub enum Opened {
    /// None ran; one was started.
    Started(ResidentDaemon),
    /// One ran that is as wanted; its limits were set anew.
    Adopted(ResidentDaemon),
    /// One runs that is not as wanted. Its clients lose their server when it is [stopped](ResidentDaemon::stop).
    Different {
        /// The daemon.
        daemon: ResidentDaemon,
        /// What is different, at least one.
        differences: Vec<Difference>,
    },
}

/// What of a running daemon is not as wanted and cannot be changed while it runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// Nobody wrote down what it was started as: it is somebody else's.
    #[error("it was not started by cotenant")]
    Unrecorded,
    /// It shares another GPU.
    #[error("it shares {}", found.as_deref().unwrap_or("every GPU"))]
    Gpu {
        /// Its `CUDA_VISIBLE_DEVICES`.
        found: Option<String>,
    },
    /// It was started with another program.
    #[error("it was started with {}", found.display())]
    Program {
        /// That program.
        found: PathBuf,
    },
    /// Its multi-user mode.
    #[error("its multi-user mode is {}", if *found { "on" } else { "off" })]
    MultiUser {
        /// Whether it is on.
        found: bool,
    },
    /// Its protocol.
    #[error("it speaks protocol {}", match found { Dialect::Two => 2, Dialect::Three => 3 })]
    Protocol {
        /// That protocol.
        found: Dialect,
    },
    /// It does not answer.
    #[error("it does not answer")]
    Silent,
}

/// How a daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// Its exit status or signal; `None` for one that was adopted.
    pub status: Option<ExitStatus>,
    /// The end of its output.
    pub last_words: String,
}

/// A running resident daemon. Dropped, it runs on.
#[derive(Debug)]
pub struct ResidentDaemon {
    executor: Executor,
    limits: ClientLimits,
    namespaces: Vec<Namespace>,
    note: String,
}

impl ResidentSettings {
    /// A daemon with the control program of [`find_program`], without limits.
    ///
    /// # Errors
    /// When there is no control program.
    pub fn new(place: Place) -> Result<Self, MpsError> {
        Ok(Self::with_program(place, find_program().map_err(MpsError::Program)?))
    }

    /// A daemon with a control program, without limits.
    #[must_use]
    pub fn with_program(place: Place, program: PathBuf) -> Self {
        Self {
            place,
            program,
            multi_user: false,
            protocol: Protocol::default(),
            limits: ClientLimits::default(),
            namespaces: Vec::new(),
            note: String::new(),
            patience: Patience::default(),
        }
    }

    fn record(&self, dialect: Dialect) -> Record {
        let (program, note) = (self.program.clone(), self.note.clone());
        Record { program, multi_user: self.multi_user, three: dialect == Dialect::Three, note }
    }

    fn settings(&self, dialect: Dialect) -> Settings {
        let record = serde_json::to_string(&self.record(dialect)).unwrap_or_default();
        let residence = Residence { place: self.place.clone(), multi_user: self.multi_user, dialect };
        Settings {
            log: self.place.log(),
            environment: vec![(RECORD.to_owned(), record)],
            patience: self.patience,
            residence: Some(residence),
            ..Settings::at(self.place.gpu().clone(), &self.place.directory(), self.program.clone())
        }
    }

    /// Namespaces add to the path of a socket.
    fn check(&self, dialect: Dialect) -> Result<(), MpsError> {
        let failed = |source| MpsError::Place { gpu: self.place.gpu().clone(), source };
        if dialect == Dialect::Three {
            let longest = self.namespaces.iter().max_by_key(|namespace| namespace.name.len());
            let name = longest.map_or("default", |namespace| &namespace.name);
            check_length(&three::client_directory(&self.place.pipe(), name), "control").map_err(failed)?;
        }
        Ok(())
    }
}

impl ResidentDaemon {
    /// Takes over the daemon that runs in the folders, where it is as wanted, or starts one where none runs.
    ///
    /// # Errors
    /// When `/proc` cannot be read, when a start fails (nothing is left of it then), or when an adopted daemon does not keep
    /// its limits (it runs on).
    pub fn open(settings: &ResidentSettings) -> Result<Opened, MpsError> {
        let Some(found) = find_daemon(&settings.place) else { return Self::start(settings).map(Opened::Started) };
        let mut daemon = Self::of_found(&found, settings);
        let mut differences = found.differences_from(settings);
        if differences.is_empty() && daemon.health().is_err() {
            differences.push(Difference::Silent);
        }
        if !differences.is_empty() {
            return Ok(Opened::Different { daemon, differences });
        }
        daemon.set_limits(settings.limits, settings.namespaces.clone())?;
        Ok(Opened::Adopted(daemon))
    }

    /// Starts a daemon and returns once it answers and has its limits. With [`Protocol::Automatic`] a daemon whose protocol 3
    /// does not come up is started again with protocol 2.
    ///
    /// # Errors
    /// When one runs already, or when it cannot be started, dies, does not answer in time, or does not keep its limits.
    /// Nothing is left of it then but its folders and logs.
    pub fn start(settings: &ResidentSettings) -> Result<Self, MpsError> {
        if let Some(found) = find_daemon(&settings.place) {
            return Err(MpsError::Running { gpu: settings.place.gpu().clone(), pid: found.process.pid });
        }
        let dialect = settings.protocol.resolve(&settings.program);
        let started = Self::start_as(settings, dialect);
        match started {
            Err(error) if dialect == Dialect::Three && settings.protocol == Protocol::Automatic => {
                let gpu = settings.place.gpu();
                tracing::warn!(%gpu, error = %chain(&error, ": "), "MPS protocol 3 does not come up; protocol 2 is used");
                Self::start_as(settings, Dialect::Two)
            }
            other => other,
        }
    }

    fn start_as(settings: &ResidentSettings, dialect: Dialect) -> Result<Self, MpsError> {
        settings.check(dialect)?;
        let executor = Executor::resident(settings.settings(dialect));
        let mut daemon =
            Self { executor, limits: ClientLimits::default(), namespaces: Vec::new(), note: settings.note.clone() };
        if !daemon.executor.run(Event::Start).serves() {
            return Err(daemon.executor.take_failure());
        }
        let set =
            daemon.set_limits(settings.limits, settings.namespaces.clone()).and_then(|()| daemon.end_early_servers());
        if let Err(error) = set {
            // Clients must not run without the limits that they were promised.
            daemon.executor.stop()?;
            return Err(error);
        }
        Ok(daemon)
    }

    /// Ends a server that started before the limits were set: clients that had waited for the daemon come at once, and the
    /// limits of a server are those at its start.
    fn end_early_servers(&mut self) -> Result<(), MpsError> {
        let dialogue = self.dialogue();
        if dialogue.dialect() == Dialect::Three {
            return Ok(());
        }
        let ended = dialogue
            .servers()
            .and_then(|servers| servers.into_iter().try_for_each(|server| dialogue.shut_down_server(server, true)));
        ended.map_err(|source| self.dialogue_failed(source))
    }

    fn of_found(found: &Found, wanted: &ResidentSettings) -> Self {
        let record = found.record.clone().unwrap_or_else(|| wanted.record(wanted.protocol.resolve(&wanted.program)));
        let dialect = if record.three { Dialect::Three } else { Dialect::Two };
        let actual = ResidentSettings {
            program: record.program,
            multi_user: record.multi_user,
            note: record.note.clone(),
            ..wanted.clone()
        };
        Self {
            executor: Executor::resident_at(actual.settings(dialect), found.process.clone()),
            limits: wanted.limits,
            namespaces: wanted.namespaces.clone(),
            note: record.note,
        }
    }

    /// The GPU that it shares.
    #[must_use]
    pub const fn gpu(&self) -> &GpuUuid {
        &self.executor.settings.gpu
    }

    /// Its process; `None` when it is over.
    #[must_use]
    pub const fn process(&self) -> Option<&Identity> {
        self.executor.process()
    }

    /// Where it stood when it was last looked at.
    #[must_use]
    pub const fn state(&self) -> State {
        self.executor.state
    }

    /// The text that it was started with.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }

    /// What will keep clients of other users out.
    #[must_use]
    pub fn traps(&self) -> &[Trap] {
        &self.executor.traps
    }

    /// A dialogue with it, which lives as long as its pipe directory.
    #[must_use]
    pub fn dialogue(&self) -> Dialogue {
        self.executor.dialogue()
    }

    /// A handle that becomes readable when it has ended; `None` when it is over. Call [`ResidentDaemon::death`] then.
    ///
    /// # Errors
    /// When the kernel has no handle to give.
    pub fn handle(&self) -> io::Result<Option<OwnedFd>> {
        self.process().map_or(Ok(None), Identity::handle)
    }

    /// Waits until it has ended, unasked or not; whether that came in `patience`.
    #[must_use]
    pub fn wait_for_end(&self, patience: Duration) -> bool {
        if let Some(process) = self.process().filter(|process| process.is_alive()) {
            await_end(process.pid, Deadline::after(patience));
        }
        self.executor.is_gone()
    }

    /// How it died, when it has died unasked: what it left behind is ended and its folders are emptied. `None` while it lives.
    pub fn death(&mut self) -> Option<Death> {
        if self.executor.state.serves() && self.executor.is_gone() {
            let last_words = self.executor.last_words();
            self.executor.run(Event::Exited);
            return Some(Death { status: self.executor.exit(), last_words });
        }
        None
    }

    /// Asks the daemon for its servers, their state and clients.
    ///
    /// # Errors
    /// When it has died, or does not answer usably; [`ResidentDaemon::state`] is then `Failed` or `Silent`.
    pub fn health(&mut self) -> Result<Health, MpsError> {
        self.executor.examine()
    }

    /// Changes what clients may use at most: of the next servers, and for the next clients of those that run. Clients keep what
    /// they started with. The limits are read back.
    ///
    /// # Errors
    /// When the daemon does not answer usably or tells other limits than it was given: a memory limit cannot be taken back
    /// while a daemon runs.
    pub fn set_limits(&mut self, limits: ClientLimits, namespaces: Vec<Namespace>) -> Result<(), MpsError> {
        (self.limits, self.namespaces) = (limits, namespaces);
        self.apply_limits().map_err(|source| match source {
            LimitError::Dialogue(source) => self.dialogue_failed(source),
            source @ LimitError::NotKept { .. } => MpsError::Limits { gpu: self.gpu().clone(), source },
        })
    }

    fn apply_limits(&self) -> Result<(), LimitError> {
        let dialogue = self.dialogue();
        if dialogue.dialect() == Dialect::Three {
            return three::set_up(&dialogue, self.gpu(), self.limits, &self.namespaces);
        }
        dialogue.set_default_limits(self.limits).map_err(LimitError::Dialogue)?;
        let (memory, percent) = dialogue.default_limits().map_err(LimitError::Dialogue)?;
        self.limits.check(memory, percent)
    }

    /// Ends every server, with its clients, and lets new clients in: how to leave a fault whose clients do not leave.
    ///
    /// # Errors
    /// When the daemon does not answer usably.
    pub fn restart_servers(&mut self) -> Result<(), MpsError> {
        let dialogue = self.dialogue();
        let ended = dialogue.servers().and_then(|servers| {
            servers.iter().try_for_each(|server| dialogue.shut_down_server(*server, true)).map(|()| servers)
        });
        let servers = ended.map_err(|source| self.dialogue_failed(source))?;
        if !servers.is_empty() && dialogue.dialect() == Dialect::Three {
            return self.set_limits(self.limits, self.namespaces.clone());
        }
        Ok(())
    }

    /// Stops the daemon: releases its clients, tells it to quit, then SIGTERM, then SIGKILL, each with its bound; ends its
    /// servers and empties its folders, which stay.
    ///
    /// # Errors
    /// [`MpsError::Stuck`] when a process survives SIGKILL.
    pub fn stop(mut self) -> Result<(), MpsError> {
        if self.executor.state == State::Silent {
            // One that was just found has not been asked yet; one that stays silent is ended by signals.
            drop(self.executor.examine());
        }
        self.executor.stop()
    }

    fn dialogue_failed(&self, source: DialogueError) -> MpsError {
        MpsError::Dialogue { gpu: self.gpu().clone(), source }
    }
}
