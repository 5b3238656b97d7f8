//! The register of owned processes: what a run leaves behind when it is killed, the next run finds here and ends.
//!
//! One JSON file a process, written under the run root before the process is used, flushed and renamed into place. It
//! names the process and its owner by [`Identity`], so neither a reused process id nor a second run that is alive can be
//! mistaken.

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cotenant_model::GpuUuid;
use serde::{Deserialize, Serialize};

use crate::clock::Deadline;
use crate::daemon::{release_clients, remove_directories, shut_down};
use crate::foreign;
use crate::process::{self, Ended, Identity};
use crate::run_root::{RunRoot, RunRootError};

/// How long a left-over process may take to follow SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How long a second run waits for one that is just cleaning up.
const REAP_LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// Why the register could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The run root cannot be used.
    #[error("cannot keep a register of processes")]
    RunRoot(#[source] RunRootError),
    /// There is no process to record.
    #[error("process {pid} ended before it was recorded")]
    Gone {
        /// Its id.
        pid: u32,
    },
    /// A file of the register cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another run is cleaning up and does not finish.
    #[error("another cotenant has been cleaning up for more than {REAP_LOCK_PATIENCE:?}")]
    Busy,
}

/// The processes that this run owns, on disk.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: RunRoot,
    directory: PathBuf,
    owner: Identity,
}

/// What is on disk of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The process.
    pub(crate) process: Identity,
    /// The cotenant that started it.
    pub(crate) owner: Identity,
    /// What it is, for people.
    pub(crate) what: String,
    /// For a control daemon, how to end it well.
    pub(crate) daemon: Option<DaemonRecord>,
}

/// Where a control daemon lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DaemonRecord {
    /// Its GPU.
    pub(crate) gpu: GpuUuid,
    /// Its control program.
    pub(crate) program: PathBuf,
    /// Its directory.
    pub(crate) directory: PathBuf,
    /// Its log directory.
    pub(crate) log: PathBuf,
}

impl DaemonRecord {
    /// Directory of its sockets.
    pub(crate) fn pipe(&self) -> PathBuf {
        self.directory.join("pipe")
    }
}

/// A process that a dead run left behind, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaped {
    /// What it was.
    pub what: String,
    /// Its process id.
    pub pid: u32,
    /// Process id of the run that left it.
    pub owner: u32,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a process that was left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was gone already; its record is removed.
    Gone,
    /// It was ended, with its children.
    Ended(Ended),
    /// It or a child of it cannot be ended; the record stays.
    Survived(Ended),
}

impl Registry {
    /// Opens the register under a run root.
    ///
    /// # Errors
    /// When the run root cannot hold it.
    pub fn open(root: RunRoot) -> Result<Self, RegistryError> {
        let directory = root.subdirectory("processes").map_err(RegistryError::RunRoot)?;
        let owner = Identity::current().map_err(|source| RegistryError::Io { path: "/proc/self".into(), source })?;
        Ok(Self { shared: Arc::new(Shared { root, directory, owner }) })
    }

    /// The run root it stands under.
    #[must_use]
    pub fn root(&self) -> &RunRoot {
        &self.shared.root
    }

    /// A variable for the environment of every process that this run starts: it tells children that outlived their
    /// parent, and daemons that were never recorded, from strangers.
    #[must_use]
    pub fn mark(&self) -> (String, String) {
        (process::MARK.to_owned(), mark_of(&self.shared.owner))
    }

    /// Records a process as this run's own; start it in a process group of its own, and call this before using it.
    ///
    /// # Errors
    /// When it has ended already, or the record cannot be written; end the process then.
    pub fn record(&self, pid: u32, what: &str) -> Result<Identity, RegistryError> {
        self.write(pid, what, None)
    }

    pub(crate) fn record_daemon(&self, pid: u32, daemon: DaemonRecord) -> Result<Identity, RegistryError> {
        self.write(pid, &format!("MPS control daemon of {}", daemon.gpu), Some(daemon))
    }

    /// Forgets a process that has ended. A process that was never recorded is forgotten already.
    pub fn forget(&self, process: &Identity) {
        let path = self.path_of(process);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove a record");
        }
    }

    /// Ends what runs that no longer live have left, and says what it found: clients are taken off their daemon first,
    /// then processes end, then daemons, and their directories are removed.
    ///
    /// Nothing of a living run is touched, nor anything of another PID namespace or boot.
    ///
    /// # Errors
    /// When the register cannot be read, or another run holds it for too long.
    pub fn reap_leftovers(&self) -> Result<Vec<Reaped>, RegistryError> {
        let lock = self.shared.root.lock_file("reap.lock").map_err(RegistryError::RunRoot)?;
        if !Deadline::after(REAP_LOCK_PATIENCE).wait(|| lock.try_lock().is_ok()) {
            return Err(RegistryError::Busy);
        }
        let mut left = self.records()?;
        left.extend(self.unrecorded_daemons(&left));
        left.retain(Record::is_left_over);
        left.sort_by_key(|record| record.daemon.is_some());
        for daemon in left.iter().filter(|record| record.process.is_alive()).filter_map(|record| record.daemon.as_ref())
        {
            release_clients(daemon);
        }
        Ok(left.iter().map(|record| self.reap(record)).collect())
    }

    fn reap(&self, record: &Record) -> Reaped {
        let mark = mark_of(&record.owner);
        let members = || process::certain_family(&record.process, Some(&mark));
        let found = !members().is_empty();
        let ended = record
            .daemon
            .as_ref()
            .map_or_else(|| process::end(members, GRACE), |daemon| shut_down(daemon, &record.process, &mark));
        let outcome = match (ended.survivors.is_empty(), found || ended != Ended::default()) {
            (false, _) => Outcome::Survived(ended),
            (true, true) => Outcome::Ended(ended),
            (true, false) => Outcome::Gone,
        };
        if !matches!(outcome, Outcome::Survived(_)) {
            if let Some(daemon) = &record.daemon {
                remove_directories(daemon);
            }
            self.forget(&record.process);
        }
        Reaped { what: record.what.clone(), pid: record.process.pid, owner: record.owner.pid, outcome }
    }

    /// Every record that can be read. One that cannot is no record: it is renamed into place whole.
    pub(crate) fn records(&self) -> Result<Vec<Record>, RegistryError> {
        let directory = &self.shared.directory;
        let failed = |source| RegistryError::Io { path: directory.clone(), source };
        let mut records = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                records.extend(read(&path));
            }
        }
        Ok(records)
    }

    /// Control daemons under this run root whose owner was killed before it could record them.
    fn unrecorded_daemons(&self, records: &[Record]) -> Vec<Record> {
        let marked = process::snapshot().into_iter().filter_map(|stat| {
            let owner = owner_of(&process::environment_variable(stat.pid, process::MARK)?)?;
            let daemon = daemon_of(stat.pid).filter(|daemon| daemon.directory.starts_with(self.root().path()))?;
            let what = format!("unrecorded MPS control daemon of {}", daemon.gpu);
            Some(Record { process: Identity::of(stat.pid)?, owner, what, daemon: Some(daemon) })
        });
        marked.filter(|found| !records.iter().any(|record| record.process == found.process)).collect()
    }

    fn write(&self, pid: u32, what: &str, daemon: Option<DaemonRecord>) -> Result<Identity, RegistryError> {
        let process = Identity::of(pid).ok_or(RegistryError::Gone { pid })?;
        let record = Record { process, owner: self.shared.owner.clone(), what: what.to_owned(), daemon };
        let path = self.path_of(&record.process);
        self.write_whole(&path, &record).map_err(|source| RegistryError::Io { path, source })?;
        Ok(record.process)
    }

    fn write_whole(&self, path: &Path, record: &Record) -> io::Result<()> {
        let draft = path.with_extension("draft");
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(&self.shared.directory)?.sync_all()
    }

    fn path_of(&self, process: &Identity) -> PathBuf {
        self.shared.directory.join(format!("{}-{}.json", process.pid, process.start_time))
    }
}

impl Record {
    /// Whether its owner is dead for certain.
    fn is_left_over(&self) -> bool {
        self.owner.is_of_another_boot() || (self.owner.is_of_here() && !self.owner.is_alive())
    }
}

/// An owner as one word, with everything that makes it one of its kind.
fn mark_of(owner: &Identity) -> String {
    format!("{} {} {} {}", owner.pid, owner.start_time, owner.pid_namespace, owner.boot_id)
}

fn owner_of(mark: &str) -> Option<Identity> {
    let mut words = mark.split(' ').map(str::to_owned);
    let (pid, start_time) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Identity { pid, start_time, pid_namespace: words.next()?, boot_id: words.next()? })
}

/// What a control daemon of ours was started with, from its environment.
fn daemon_of(pid: u32) -> Option<DaemonRecord> {
    let variable = |name| process::environment_variable(pid, name);
    let program = foreign::control_daemon(pid)?;
    let pipe = PathBuf::from(variable("CUDA_MPS_PIPE_DIRECTORY")?);
    let directory = pipe.parent().filter(|_parent| pipe.ends_with("pipe"))?.to_owned();
    let log = PathBuf::from(variable("CUDA_MPS_LOG_DIRECTORY")?);
    Some(DaemonRecord { gpu: GpuUuid(variable("CUDA_VISIBLE_DEVICES")?), program, directory, log })
}

fn read(path: &Path) -> Option<Record> {
    let record = fs::read(path).and_then(|text| serde_json::from_slice(&text).map_err(io::Error::from));
    record.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a record cannot be read")).ok()
}
