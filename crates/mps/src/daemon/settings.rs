//! What a daemon is started with.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cotenant_model::GpuUuid;

use super::MpsError;
use crate::dialogue::{Dialect, Dialogue};
use crate::place::{Place, check_pipe_length};
use crate::program::find_program;
use crate::registry::{DaemonRecord, Registry};

/// How long each part of a daemon's life may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From its start to its first answer.
    pub start: Duration,
    /// One command and its reply.
    pub dialogue: Duration,
    /// From a server's start to `ACTIVE`.
    pub server: Duration,
    /// For clients to leave after they were released.
    pub drain: Duration,
    /// From `quit` to its end.
    pub quit: Duration,
    /// From SIGTERM to its end.
    pub terminate: Duration,
    /// From SIGKILL to its end.
    pub kill: Duration,
}

impl Default for Patience {
    /// Bounds for a daemon that is ill, far above what a sound one takes; a stop takes 18 s at most by them.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            start: seconds(10),
            dialogue: seconds(3),
            server: seconds(20),
            drain: seconds(3),
            quit: seconds(5),
            terminate: seconds(2),
            kill: seconds(3),
        }
    }
}

/// What a daemon is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The one GPU (or MIG device) that it shares.
    pub gpu: GpuUuid,
    /// Its own directory, which must not exist; made with mode 0700, with `pipe/` inside, and removed when it stops.
    pub directory: PathBuf,
    /// Directory for its logs; removed with `directory` where it lies inside, kept where it does not.
    pub log: PathBuf,
    /// The control program.
    pub program: PathBuf,
    /// Variables for the daemon beyond `PATH`, `LD_LIBRARY_PATH` and those that cotenant sets.
    pub environment: Vec<(String, String)>,
    /// How long each part of its life may take.
    pub patience: Patience,
    /// For a daemon that outlives its starter: its fixed folders and what it is started as.
    pub(crate) residence: Option<Residence>,
}

/// What a daemon with fixed folders is started as.
#[derive(Debug, Clone)]
pub(crate) struct Residence {
    pub(crate) place: Place,
    pub(crate) multi_user: bool,
    pub(crate) dialect: Dialect,
}

impl Settings {
    /// A daemon for a GPU in a new directory under the run root of the register, with the control program of
    /// [`find_program`].
    ///
    /// # Errors
    /// When there is no control program.
    pub fn new(gpu: GpuUuid, registry: &Registry) -> Result<Self, MpsError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let program = find_program().map_err(MpsError::Program)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = registry.root().path().join(format!("mps-{}-{count}", std::process::id()));
        Ok(Self::at(gpu, &directory, program))
    }

    /// A daemon for a GPU with a directory and a control program, logs inside.
    #[must_use]
    pub fn at(gpu: GpuUuid, directory: &Path, program: PathBuf) -> Self {
        Self {
            gpu,
            directory: directory.to_owned(),
            log: directory.join("log"),
            program,
            environment: Vec::new(),
            patience: Patience::default(),
            residence: None,
        }
    }

    /// The dialogue with the daemon.
    pub(crate) fn dialogue(&self) -> Dialogue {
        let dialect = self.residence.as_ref().map_or(Dialect::Two, |residence| residence.dialect);
        Dialogue::new(&self.program, &self.pipe(), self.patience.dialogue, dialect)
    }

    /// Arguments of a daemon in the foreground.
    pub(crate) fn arguments(&self) -> Vec<&'static str> {
        let mut arguments = vec!["-f"];
        match &self.residence {
            Some(Residence { dialect: Dialect::Two, multi_user: true, .. }) => arguments.push("-M"),
            Some(Residence { dialect: Dialect::Three, multi_user, .. }) => {
                arguments.extend(["-p", "3"]);
                arguments.extend(multi_user.then_some("-m"));
            }
            _ => {}
        }
        arguments
    }

    /// Directory of the daemon's sockets.
    pub(crate) fn pipe(&self) -> PathBuf {
        self.directory.join("pipe")
    }

    pub(crate) fn record(&self) -> DaemonRecord {
        DaemonRecord {
            gpu: self.gpu.clone(),
            program: self.program.clone(),
            directory: self.directory.clone(),
            log: self.log.clone(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), MpsError> {
        check_pipe_length(&self.pipe()).map_err(|source| MpsError::Place { gpu: self.gpu.clone(), source })
    }
}
