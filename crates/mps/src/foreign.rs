//! MPS daemons of others: seen and said, never disturbed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::process::{Identity, environment_variable, snapshot};
use crate::registry::{Registry, RegistryError};

/// Where a daemon without `CUDA_MPS_PIPE_DIRECTORY` listens.
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

/// What a process is, by the name it was started under: `comm` is cut at 15 bytes, which both programs share.
fn role_of(pid: u32) -> Option<Role> {
    let arguments = arguments_of(pid)?;
    let (program, options) = arguments.split_first()?;
    match Path::new(program).file_name()?.to_str()? {
        "nvidia-cuda-mps-server" => Some(Role::Server),
        "nvidia-cuda-mps-control" => options.iter().any(|option| starts_a_daemon(option)).then_some(Role::Control),
        _ => None,
    }
}

/// The program of a control daemon as it was called; `None` for another process.
pub(crate) fn control_daemon(pid: u32) -> Option<PathBuf> {
    let is_daemon = role_of(pid) == Some(Role::Control);
    arguments_of(pid)?.into_iter().next().filter(|_program| is_daemon).map(PathBuf::from)
}

fn arguments_of(pid: u32) -> Option<Vec<String>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments = line.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned());
    Some(arguments.collect())
}

/// Options under which the control program is a daemon, not the caller of one. `--forground` is its own spelling.
fn starts_a_daemon(option: &str) -> bool {
    matches!(option, "-d" | "-f" | "--daemon" | "--forground" | "--foreground")
}

fn pipe_directory_of(pid: u32) -> Option<PathBuf> {
    let readable = fs::read(format!("/proc/{pid}/environ")).is_ok();
    let named = environment_variable(pid, "CUDA_MPS_PIPE_DIRECTORY");
    readable.then(|| named.unwrap_or_else(|| DEFAULT_PIPE_DIRECTORY.to_owned()).into())
}

/// The living control daemons of a pipe directory; there is at most one, since a second one refuses to start.
pub(crate) fn control_daemons_of(pipe: &Path) -> Vec<Identity> {
    of_role(Role::Control, pipe)
}

/// The living servers of the daemon with this pipe directory, by what they inherited from it.
pub(crate) fn servers_of(pipe: &Path) -> Vec<Identity> {
    of_role(Role::Server, pipe)
}

fn of_role(role: Role, pipe: &Path) -> Vec<Identity> {
    let wanted = snapshot().into_iter().filter(|stat| role_of(stat.pid) == Some(role));
    wanted
        .filter(|stat| pipe_directory_of(stat.pid).as_deref() == Some(pipe))
        .filter_map(|stat| Identity::of(stat.pid))
        .collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "these tests start daemons and wait for them")]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use cotenant_model::GpuUuid;
    use cotenant_testkit::mps::{Installation, Script};

    use super::*;
    use crate::clock::Deadline;
    use crate::daemon::{Daemon, Settings};
    use crate::dialogue::{Dialect, Dialogue};
    use crate::run_root::RunRoot;

    /// Somebody else's daemon, with its own pipe directory.
    struct Stranger {
        installation: Installation,
        process: Child,
    }

    impl Stranger {
        fn start() -> Self {
            let installation = Installation::new(&Script::default()).unwrap();
            let process = Command::new(installation.program())
                .arg("-f")
                .env("CUDA_MPS_PIPE_DIRECTORY", installation.path().join("pipe"))
                .env("CUDA_MPS_LOG_DIRECTORY", installation.path())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let socket = installation.path().join("pipe/control");
            assert!(Deadline::after(Duration::from_secs(20)).wait(|| socket.exists()));
            Self { installation, process }
        }

        fn pipe(&self) -> PathBuf {
            self.installation.path().join("pipe")
        }
    }

    impl Drop for Stranger {
        fn drop(&mut self) {
            drop(self.process.kill());
            drop(self.process.wait());
            servers_of(&self.pipe()).iter().for_each(|server| server.signal(rustix::process::Signal::KILL));
        }
    }

    #[test]
    fn a_daemon_and_server_of_others_are_found_and_left_alone_and_own_ones_are_not_foreign() {
        let stranger = Stranger::start();
        let place = tempfile::tempdir().unwrap();
        let registry = Registry::open(RunRoot::at(&place.path().join("run")).unwrap()).unwrap();
        let gpu = GpuUuid("GPU-1".to_owned());
        let settings = Settings::at(gpu, &place.path().join("daemon"), stranger.installation.program());
        let mut own = Daemon::start(settings, &registry).unwrap();
        let own_server = own.start_server().unwrap().servers[0].pid;
        let dialogue =
            Dialogue::new(&stranger.installation.program(), &stranger.pipe(), Duration::from_secs(10), Dialect::Two);
        dialogue.ask("start_server -uid 0").unwrap();
        let server = dialogue.servers().unwrap()[0];
        assert_eq!(registry.reap_leftovers().unwrap(), []);
        let found = foreign_daemons(&registry).unwrap();
        let of = |pid: u32| found.iter().find(|daemon| daemon.pid == pid);
        for (pid, role) in [(stranger.process.id(), Role::Control), (server, Role::Server)] {
            let user = Some(rustix::process::geteuid().as_raw());
            let wanted = ForeignDaemon { pid, role, user, pipe_directory: Some(stranger.pipe()), cotenant: None };
            assert_eq!(of(pid), Some(&wanted));
        }
        assert!(of(own.pid().unwrap()).is_none() && of(own_server).is_none());
    }
}
