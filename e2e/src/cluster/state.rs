//! Where a cluster is kept on the host: one folder, in memory where `/run` is.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::cgroup;
use crate::machine::Machine;

/// Folder of all clusters of this host. It is root's, short (sockets lie in it), and emptied when the host starts.
const ROOT: &str = "/run/cotenant-e2e";
const RECORD: &str = "cluster.json";
const LONGEST_NAME: usize = 24;

/// The folder of one cluster; the cluster may be up or not.
#[derive(Debug, Clone)]
pub struct State {
    name: String,
    folder: PathBuf,
}

/// What a process must know to use a cluster that another one brought up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Port on loopback where the API server answers.
    pub port: u16,
    /// Folder of the programs of Kubernetes.
    pub kubernetes: PathBuf,
    /// How many nodes there are.
    pub nodes: u8,
}

impl State {
    /// The folder of the cluster with this name.
    ///
    /// # Errors
    /// When the name could not be a folder's and a control group's.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        let fits = (1..=LONGEST_NAME).contains(&name.len()) && plain;
        anyhow::ensure!(fits, "`{name}` is no name: use up to {LONGEST_NAME} of a-z, 0-9 and -");
        Ok(Self { name: name.to_owned(), folder: Path::new(ROOT).join(name) })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Configuration of a client that may do everything.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The folder of a machine.
    #[must_use]
    pub fn machine(&self, name: &str) -> PathBuf {
        self.folder.join("machines").join(name)
    }

    /// The control group of a node's pods, below the roots of the hierarchies.
    pub(super) fn control_group(&self, node: &str) -> String {
        format!("{}/{node}", self.all_control_groups())
    }

    fn all_control_groups(&self) -> String {
        format!("cotenant-e2e-{}", self.name)
    }

    /// Makes the folder, which only its owner can look into.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(&self) -> anyhow::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.folder).with_context(|| format!("cannot make {ROOT}"))?;
        Ok(fs::set_permissions(ROOT, fs::Permissions::from_mode(0o700))?)
    }

    /// Takes the lock that whoever brings this cluster up or down holds; `waiting` is called once when another has it.
    ///
    /// # Errors
    /// When the lock's file cannot be made.
    pub fn lock(&self, waiting: impl FnOnce()) -> anyhow::Result<File> {
        fs::create_dir_all(ROOT).with_context(|| format!("cannot make {ROOT} (are you root?)"))?;
        let path = Path::new(ROOT).join(format!("{}.lock", self.name));
        let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => waiting(),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.lock()?;
        Ok(file)
    }

    /// The record; `None` where no cluster was brought up completely.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn record(&self) -> anyhow::Result<Option<Record>> {
        match fs::read(self.folder.join(RECORD)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => Ok(Some(serde_json::from_slice(&read?)?)),
        }
    }

    pub(super) fn write_record(&self, record: &Record) -> anyhow::Result<()> {
        let draft = self.folder.join("draft");
        fs::write(&draft, serde_json::to_vec_pretty(record)?)?;
        Ok(fs::rename(draft, self.folder.join(RECORD))?)
    }

    /// Names of the machines that have a folder, also of those that never came up.
    fn machines(&self) -> anyhow::Result<Vec<PathBuf>> {
        match fs::read_dir(self.folder.join("machines")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => Ok(entries?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?),
        }
    }

    /// Ends every machine of the cluster and removes all that is left of it. Where there is nothing, nothing is done.
    ///
    /// # Errors
    /// When something cannot be ended or removed; what can be is.
    pub fn clear(&self) -> anyhow::Result<()> {
        let machines = self.machines()?;
        let ended: Vec<anyhow::Result<()>> = machines.iter().map(|machine| Machine::end(machine)).collect();
        ended.into_iter().collect::<anyhow::Result<()>>()?;
        cgroup::remove(&self.all_control_groups())?;
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.folder.display()))
            }
            _removed_or_absent => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_folder_is_refused() {
        assert_eq!(State::new("tests").unwrap().folder(), Path::new("/run/cotenant-e2e/tests"));
        for name in ["", "..", "a/b", "A", "a-name-that-is-far-too-long"] {
            assert!(State::new(name).is_err(), "{name}");
        }
    }
}
