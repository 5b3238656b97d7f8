//! MPS daemons of others: seen and said, never disturbed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dialogue::Dialogue;
use crate::process::{Identity, environment_variable, snapshot};
use crate::registry::{Registry, RegistryError};

/// Where a daemon without `CUDA_MPS_PIPE_DIRECTORY` listens, and where a client without it looks.
const DEFAULT_PIPE_DIRECTORY: &str = "/tmp/nvidia-mps";

/// A process of MPS that this run does not own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignDaemon {
    /// Process id.
    pub pid: u32,
    /// What it is.
    pub role: Role,
    /// User it runs as.
    pub user: Option<u32>,
    /// Its pipe directory, where its environment may be read; the default one where that names none.
    pub pipe_directory: Option<PathBuf>,
    /// Process id of the cotenant that started it, when one did.
    pub cotenant: Option<u32>,
}

/// The two kinds of processes of MPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A control daemon.
    Control,
    /// A server.
    Server,
}

/// Finds the control daemons and servers of this PID namespace that this run does not own. A passing call of the control
/// program's dialogue is not a daemon.
///
/// # Errors
/// When the register cannot be read.
pub fn foreign_daemons(registry: &Registry) -> Result<Vec<ForeignDaemon>, RegistryError> {
    let records = registry.records()?;
    let own = std::process::id();
    let found = snapshot().into_iter().filter_map(|stat| {
        let role = role_of(stat.pid)?;
        let identity = Identity::of(stat.pid)?;
        let pipe_directory = pipe_directory_of(stat.pid);
        let record = records.iter().find(|record| {
            let same_pipe = record.daemon.as_ref().map(|daemon| daemon.pipe()) == pipe_directory;
            record.process == identity || (record.daemon.is_some() && same_pipe)
        });
        let user = fs::metadata(format!("/proc/{}", stat.pid)).ok().map(|entry| entry.uid());
        let cotenant = record.map(|record| record.owner.pid);
        Some(ForeignDaemon { pid: stat.pid, role, user, pipe_directory, cotenant })
    });
    Ok(found.filter(|daemon| daemon.cotenant != Some(own)).collect())
}

/// Whether a daemon answers where a client without any setting looks: `$CUDA_MPS_PIPE_DIRECTORY`, else
/// `/tmp/nvidia-mps`. Names that directory when one does.
#[must_use]
pub fn default_daemon(program: &Path) -> Option<PathBuf> {
    let set = std::env::var_os("CUDA_MPS_PIPE_DIRECTORY").map(PathBuf::from);
    answering(program, set.unwrap_or_else(|| DEFAULT_PIPE_DIRECTORY.into()))
}

fn answering(program: &Path, directory: PathBuf) -> Option<PathBuf> {
    if !directory.join("control").exists() {
        return None;
    }
    let dialogue = Dialogue::new(program.to_owned(), directory.clone(), Duration::from_secs(2));
    dialogue.servers().is_ok().then_some(directory)
}

/// What a process is, by the name it was started under: `comm` is cut at 15 bytes, which both programs share.
fn role_of(pid: u32) -> Option<Role> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut arguments = line.split(|byte| *byte == 0);
    let name = Path::new(std::str::from_utf8(arguments.next()?).ok()?).file_name()?.to_str()?;
    match name {
        "nvidia-cuda-mps-server" => Some(Role::Server),
        "nvidia-cuda-mps-control" => arguments.any(starts_a_daemon).then_some(Role::Control),
        _ => None,
    }
}

/// Options under which the control program is a daemon, not the caller of one. `--forground` is its own spelling.
fn starts_a_daemon(argument: &[u8]) -> bool {
    matches!(argument, b"-d" | b"-f" | b"--daemon" | b"--forground" | b"--foreground")
}

fn pipe_directory_of(pid: u32) -> Option<PathBuf> {
    let readable = fs::read(format!("/proc/{pid}/environ")).is_ok();
    let named = environment_variable(pid, "CUDA_MPS_PIPE_DIRECTORY");
    readable.then(|| named.unwrap_or_else(|| DEFAULT_PIPE_DIRECTORY.to_owned()).into())
}

/// The living servers of the daemon with this pipe directory, by what they inherited from it.
pub(crate) fn servers_of(pipe: &Path) -> Vec<Identity> {
    let servers = snapshot().into_iter().filter(|stat| role_of(stat.pid) == Some(Role::Server));
    servers
        .filter(|stat| pipe_directory_of(stat.pid).as_deref() == Some(pipe))
        .filter_map(|s| Identity::of(s.pid))
        .collect()
}
