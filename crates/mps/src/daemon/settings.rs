//! What a daemon is started with.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cotenant_model::GpuUuid;

use super::MpsError;
use crate::program::find_program;
use crate::registry::{DaemonRecord, Registry};

/// Longest path of a UNIX socket, without its final zero (`sun_path` in `unix(7)`).
const SOCKET_PATH_LIMIT: usize = 107;
/// The longest name of a socket that a control daemon makes in its pipe directory.
const LONGEST_SOCKET: &str = "control_privileged";

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
        }
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

    /// A daemon whose socket has too long a path starts, fails to bind, and says that it cannot find itself.
    pub(crate) fn check(&self) -> Result<(), MpsError> {
        let path = self.pipe();
        let (length, limit) = (path.as_os_str().len(), SOCKET_PATH_LIMIT - LONGEST_SOCKET.len() - 1);
        if length > limit {
            return Err(MpsError::PathTooLong { path, length, limit });
        }
        Ok(())
    }
}
