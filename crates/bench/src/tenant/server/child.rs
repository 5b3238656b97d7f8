//! A model server that the tenant starts, watches and stops.
//!
//! ```text
//! start ─▶ running ─ stop, or dropped ─▶ SIGTERM to its group ─ grace is over ─▶ SIGKILL ─▶ reaped
//!             └─ exits by itself ─▶ its last log lines are the reason
//! ```
//!
//! It leads a process group of its own, so that what it starts (a model runner, say) ends with it. It is started through
//! the launcher, which ties it to this process: should this process be killed, the server is killed with it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cotenant_model::workload::Server;
use cotenant_mps::{Identity, end_process_group, shim_arguments};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};

/// Time a server has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// Why a server's process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The command names no program.
    #[error("the command is empty")]
    EmptyCommand,
    /// The file for its output cannot be opened.
    #[error("cannot write {}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program cannot be run.
    #[error("cannot run `{program}`")]
    Spawn {
        /// The program: the launcher's, where there is one.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A running model server; stopped, its whole process group with it, when dropped.
#[derive(Debug)]
pub(super) struct ServerProcess {
    child: Child,
    /// `None` when it was gone before it could be looked at.
    identity: Option<Identity>,
    log: Option<Log>,
}

impl ServerProcess {
    /// Starts `server.command`, its variables filled in, with `server.environment` over this process's own.
    ///
    /// `launcher` is a program and its first arguments that tie what they start to this process and take the arguments of
    /// [`shim_arguments`]; when empty the server is started without. Call it on a thread that lives as long as the server.
    ///
    /// # Errors
    /// When the log cannot be opened or the program not be run.
    pub(super) fn start(server: &Server, launcher: &[String], log: Option<&Path>) -> Result<Self, StartError> {
        let (program, arguments) = words(server, launcher)?;
        let log = log.map(Log::open).transpose()?;
        let (output, errors) = match &log {
            Some(log) => (log.handle()?.into(), log.handle()?.into()),
            None => (Stdio::null(), Stdio::null()),
        };
        #[expect(clippy::disallowed_methods, reason = "this type reaps what it starts")]
        let child = Command::new(&program)
            .args(arguments)
            .envs(&server.environment)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|source| StartError::Spawn { program: program.to_string_lossy().into_owned(), source })?;
        let identity = Identity::of(child.id());
        Ok(Self { child, identity, log })
    }

    /// Its process id, which is also the id of its process group.
    #[must_use]
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, once it has; its last log lines with it.
    #[must_use]
    pub(super) fn ended(&self) -> Option<String> {
        // Left unreaped: its group is told from others by its process id, which must not be reused before it is stopped.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(Pid::from_child(&self.child)), options).ok().flatten()?;
        Some(match self.last_lines() {
            Some(lines) => format!("the server ended with {}; its last lines: {lines}", describe(&status)),
            None => format!("the server ended with {} and said nothing", describe(&status)),
        })
    }

    /// The last lines it wrote since it was started, joined with ` | `; `None` when it wrote none or has no log.
    #[must_use]
    pub(super) fn last_lines(&self) -> Option<String> {
        self.log.as_ref().and_then(|log| log.last_lines().ok().flatten())
    }

    /// Stops it and what it started: SIGTERM, and SIGKILL to what is left after 5 s.
    pub(super) fn stop(&mut self) {
        if let Some(identity) = self.identity.take() {
            let ended = end_process_group(&identity, GRACE);
            if !ended.survivors.is_empty() {
                tracing::warn!(survivors = ?ended.survivors, "processes of a model server outlived SIGKILL");
                return;
            }
        }
        if let Err(error) = self.child.wait() {
            tracing::warn!(pid = self.child.id(), %error, "cannot wait for a model server");
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The program to run and its arguments, the launcher's first.
fn words(server: &Server, launcher: &[String]) -> Result<(OsString, Vec<OsString>), StartError> {
    let mut command = server.command.iter().flatten().map(OsString::from);
    let program = command.next().ok_or(StartError::EmptyCommand)?;
    let arguments: Vec<OsString> = command.collect();
    let Some((first, rest)) = launcher.split_first() else { return Ok((program, arguments)) };
    let tied = rest.iter().map(OsString::from).chain(shim_arguments(&program, &arguments));
    Ok((OsString::from(first), tied.collect()))
}

/// `exit status 3` or `signal 9`.
fn describe(status: &WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// A file that takes a server's output.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    /// Its length when the server was started.
    start: u64,
}

impl Log {
    /// Most bytes of a log that are looked at.
    const TAIL: u64 = 8 << 10;
    /// Most lines that are quoted.
    const LINES: usize = 5;
    /// Most characters of a line that are quoted.
    const WIDTH: usize = 300;

    fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |source| StartError::Log { path: path.to_owned(), source };
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        let start = file.metadata().map_err(failed)?.len();
        Ok(Self { path: path.to_owned(), file, start })
    }

    fn handle(&self) -> Result<File, StartError> {
        self.file.try_clone().map_err(|source| StartError::Log { path: self.path.clone(), source })
    }

    fn last_lines(&self) -> io::Result<Option<String>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(self.start.max(length.saturating_sub(Self::TAIL))))?;
        let mut bytes = Vec::new();
        file.take(Self::TAIL).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text.lines().map(printable).filter(|line| !line.is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(Self::LINES)..).unwrap_or_default();
        Ok((!last.is_empty()).then(|| last.join(" | ")))
    }
}

/// A line of a log without control characters, cut to a quotable length.
fn printable(line: &str) -> String {
    line.trim().chars().filter(|one| !one.is_control()).take(Log::WIDTH).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn log(before: &str, after: &str) -> Option<String> {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("server.log");
        std::fs::write(&path, before).expect("write");
        let log = Log::open(&path).expect("log");
        log.handle().expect("handle").write_all(after.as_bytes()).expect("write");
        log.last_lines().expect("lines")
    }

    #[test]
    fn only_lines_since_the_start_are_quoted_and_only_the_last_of_them() {
        assert_eq!(log("of an earlier server\n", ""), None);
        assert_eq!(log("earlier\n", "one\n\n \x1b[1mtwo\x07\n").as_deref(), Some("one | [1mtwo"));
        let many: String = (0..5_000).map(|line| format!("line {line}\n")).collect();
        let last = "line 4995 | line 4996 | line 4997 | line 4998 | line 4999";
        assert_eq!(log("", &many).as_deref(), Some(last));
    }

    #[test]
    fn a_log_that_cannot_be_written_names_its_file() {
        let error = Log::open(Path::new("/dev/null/server.log")).expect_err("not a directory");
        assert_eq!(error.to_string(), "cannot write /dev/null/server.log");
    }
}
