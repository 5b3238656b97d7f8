//! One control daemon of one GPU.

mod directory;
mod executor;
mod settings;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cotenant_model::GpuUuid;
use rustix::process::geteuid;

use crate::clock::Deadline;
use crate::dialogue::{DialogueError, Server};
use crate::life::{Event, State};
use crate::limits::{ClientLimits, LimitError, client_environment};
use crate::place::PlaceError;
use crate::program::ProgramError;
use crate::registry::{Registry, RegistryError};
use crate::reply::ServerStatus;

pub(crate) use executor::Executor;

pub(crate) use directory::remove_directories;
pub(crate) use executor::{release_clients, shut_down};
pub(crate) use settings::Residence;
pub use settings::{Patience, Settings};

/// Why a daemon could not be started, spoken to or stopped.
#[derive(Debug, thiserror::Error)]
pub enum MpsError {
    /// There is no control program.
    #[error("MPS cannot be used")]
    Program(#[source] ProgramError),
    /// The folders of the daemon cannot be used.
    #[error("the folders of the MPS control daemon of {gpu} cannot be used")]
    Place {
        /// The GPU.
        gpu: GpuUuid,
        /// Why.
        #[source]
        source: PlaceError,
    },
    /// The daemon does not keep the limits that it was given; it was ended.
    #[error("the MPS control daemon of {gpu} does not keep its limits")]
    Limits {
        /// The GPU.
        gpu: GpuUuid,
        /// Why.
        #[source]
        source: LimitError,
    },
    /// A daemon runs already in the folders.
    #[error("an MPS control daemon of {gpu} runs already, process {pid}")]
    Running {
        /// The GPU.
        gpu: GpuUuid,
        /// Its process id.
        pid: u32,
    },
    /// A directory of the daemon cannot be made; that it exists already is this error too.
    #[error("cannot make {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The control program cannot be run.
    #[error("cannot run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The daemon's process cannot be recorded; it was not kept.
    #[error("the MPS control daemon of {gpu} cannot be recorded")]
    Record {
        /// The GPU.
        gpu: GpuUuid,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// The daemon died.
    #[error("the MPS control daemon of {gpu} died{}", said(last_words))]
    Died {
        /// The GPU.
        gpu: GpuUuid,
        /// The end of its output and log.
        last_words: String,
    },
    /// The daemon did not answer in time after its start; it was ended.
    #[error("the MPS control daemon of {gpu} did not answer in {patience:?}{}", said(last_words))]
    Late {
        /// The GPU.
        gpu: GpuUuid,
        /// How long was waited.
        patience: Duration,
        /// The end of its output and log.
        last_words: String,
    },
    /// A command got no usable reply.
    #[error("the MPS control daemon of {gpu} gives no usable answer")]
    Dialogue {
        /// The GPU.
        gpu: GpuUuid,
        /// Why.
        #[source]
        source: DialogueError,
    },
    /// A server did not become active.
    #[error("the MPS server of {gpu} is not active after {patience:?}{}", said(last_words))]
    ServerLate {
        /// The GPU.
        gpu: GpuUuid,
        /// How long was waited.
        patience: Duration,
        /// The end of the daemon's output and log.
        last_words: String,
    },
    /// The daemon or its server survived SIGKILL: a process sleeps in the driver.
    #[error("the MPS control daemon of {gpu} cannot be ended: {pids:?} survive SIGKILL")]
    Stuck {
        /// The GPU.
        gpu: GpuUuid,
        /// Process ids that are left.
        pids: Vec<u32>,
    },
}

fn said(last_words: &str) -> String {
    if last_words.is_empty() { String::new() } else { format!("; it said: {last_words}") }
}

/// What a daemon says of itself and its servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Where the daemon stands: idle, active or in fault.
    pub state: State,
    /// Its servers; none before the first client.
    pub servers: Vec<Server>,
}

/// A running control daemon; dropped, it is stopped with everything it started.
#[derive(Debug)]
pub struct Daemon {
    executor: Executor,
}

impl Daemon {
    /// Starts a daemon and returns once its dialogue answers. Its server comes with the first client.
    ///
    /// # Errors
    /// When it cannot be started, dies, or does not answer in time. Nothing is left of it then.
    pub fn start(settings: Settings, registry: &Registry) -> Result<Self, MpsError> {
        settings.check()?;
        let mut daemon = Self { executor: Executor::new(settings, registry) };
        match daemon.executor.run(Event::Start) {
            state if state.serves() => Ok(daemon),
            _ => Err(daemon.executor.take_failure()),
        }
    }

    /// The variables that make a process a client of this daemon, with these limits. Set them on an environment from
    /// which [`crate::MPS_VARIABLES`] were removed.
    #[must_use]
    pub fn client_environment(&self, limits: ClientLimits) -> Vec<(String, String)> {
        client_environment(self.gpu(), &self.executor.settings.pipe(), self.log_directory(), limits)
    }

    /// The GPU it shares.
    #[must_use]
    pub const fn gpu(&self) -> &GpuUuid {
        &self.executor.settings.gpu
    }

    /// Directory of `control.log`, `server.log` and `output.log`, the process's own output.
    #[must_use]
    pub fn log_directory(&self) -> &Path {
        &self.executor.settings.log
    }

    /// Process id of the control daemon; `None` when it is over.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.executor.process().map(|process| process.pid)
    }

    /// Where it stood when it was last looked at.
    #[must_use]
    pub const fn state(&self) -> State {
        self.executor.state
    }

    /// Asks the daemon for its servers, their state and clients.
    ///
    /// # Errors
    /// When it has died, or does not answer usably; [`Daemon::state`] is then `Failed` or `Silent`.
    pub fn health(&mut self) -> Result<Health, MpsError> {
        self.executor.examine()
    }

    /// Starts the server before the first client and waits until it is active, so that no client's start includes it.
    ///
    /// # Errors
    /// When the daemon refuses, dies, or the server is not active in [`Patience::server`].
    pub fn start_server(&mut self) -> Result<Health, MpsError> {
        self.executor.ask(&format!("start_server -uid {}", geteuid().as_raw()))?;
        let patience = self.executor.settings.patience.server;
        let deadline = Deadline::after(patience);
        loop {
            let health = self.health()?;
            if !health.servers.is_empty() && health.servers.iter().all(|s| s.status == ServerStatus::Active) {
                return Ok(health);
            }
            if deadline.passed() {
                let (gpu, last_words) = (self.gpu().clone(), self.executor.last_words());
                return Err(MpsError::ServerLate { gpu, patience, last_words });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the daemon: releases its clients, tells it to quit, then SIGTERM, then SIGKILL, each with its bound; ends its
    /// servers and removes its directories.
    ///
    /// # Errors
    /// [`MpsError::Stuck`] when a process survives SIGKILL; its record stays for the next run.
    pub fn stop(mut self) -> Result<(), MpsError> {
        self.executor.stop()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.executor.stop() {
            tracing::warn!(%error, "an MPS control daemon was left behind");
        }
    }
}
