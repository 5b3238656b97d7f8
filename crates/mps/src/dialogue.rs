//! The dialogue with a control daemon: one command, one reply, never longer than its patience.
//!
//! The control program itself carries a command to the daemon of its pipe directory; it reads the command from its
//! standard input and can block for ever.

use std::ffi::OsString;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::Deadline;

/// More than any true reply: one that reaches it is odd, and what comes after it is not read.
const REPLY_LIMIT: usize = 64 << 10;
/// What an error quotes of a reply.
const EXCERPT: usize = 200;
const NO_DAEMON: &str = "Cannot find MPS control daemon process";

/// Why a command got no usable reply.
#[derive(Debug, thiserror::Error)]
pub enum DialogueError {
    /// The control program cannot be run.
    #[error("cannot run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No reply in time.
    #[error("no answer to `{command}` in {patience:?}")]
    Late {
        /// The command.
        command: String,
        /// How long was waited.
        patience: Duration,
    },
    /// No daemon listens in the pipe directory.
    #[error("no control daemon listens in {}", pipe.display())]
    NoDaemon {
        /// The pipe directory.
        pipe: PathBuf,
    },
    /// The control program failed.
    #[error("`{command}` failed ({status}): {reply}")]
    Failed {
        /// The command.
        command: String,
        /// Its exit status.
        status: ExitStatus,
        /// What it said.
        reply: String,
    },
    /// The reply is not of the kind that the command has.
    #[error("odd answer to `{command}`: {reply}")]
    Reply {
        /// The command.
        command: String,
        /// The start of the reply.
        reply: String,
    },
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerStatus {
    /// It is starting.
    Initializing,
    /// It serves.
    Active,
    /// A client's fatal fault is being cleared; new clients are turned away.
    Fault,
    /// Something else; the text, shortened.
    Other(String),
}

/// Speaks to the daemon of one pipe directory.
#[derive(Debug, Clone)]
pub(crate) struct Dialogue {
    program: PathBuf,
    pipe: PathBuf,
    patience: Duration,
}

impl Dialogue {
    pub(crate) const fn new(program: PathBuf, pipe: PathBuf, patience: Duration) -> Self {
        Self { program, pipe, patience }
    }

    /// Process ids of the servers.
    pub(crate) fn servers(&self) -> Result<Vec<u32>, DialogueError> {
        self.ask_for_pids("get_server_list")
    }

    /// Process ids of a server's clients.
    pub(crate) fn clients(&self, server: u32) -> Result<Vec<u32>, DialogueError> {
        self.ask_for_pids(&format!("get_client_list {server}"))
    }

    /// What a server says of itself.
    pub(crate) fn status(&self, server: u32) -> Result<ServerStatus, DialogueError> {
        let reply = self.ask(&format!("get_server_status {server}"))?;
        Ok(match reply.trim() {
            "INITIALIZING" => ServerStatus::Initializing,
            "ACTIVE" => ServerStatus::Active,
            "FAULT" => ServerStatus::Fault,
            other => ServerStatus::Other(excerpt(other)),
        })
    }

    fn ask_for_pids(&self, command: &str) -> Result<Vec<u32>, DialogueError> {
        let reply = self.ask(command)?;
        let lines = reply.lines().map(str::trim).filter(|line| !line.is_empty());
        let pids: Result<Vec<u32>, _> = lines.map(str::parse).collect();
        pids.map_err(|_not_a_number| DialogueError::Reply { command: command.to_owned(), reply: excerpt(&reply) })
    }

    /// Sends a command and waits for the whole reply.
    pub(crate) fn ask(&self, command: &str) -> Result<String, DialogueError> {
        self.ask_within(command, self.patience)
    }

    /// The same with another patience.
    pub(crate) fn ask_within(&self, command: &str, patience: Duration) -> Result<String, DialogueError> {
        let failed = |source| DialogueError::Run { program: self.program.clone(), source };
        let deadline = Deadline::after(patience);
        let (mut child, output) = self.spawn().map_err(failed)?;
        let exchange = send(&mut child, command).and_then(|()| read_reply(output, deadline));
        let status = wait(&mut child, deadline);
        let late = || DialogueError::Late { command: command.to_owned(), patience };
        let reply = exchange.map_err(failed)?.ok_or_else(late)?;
        if reply.len() >= REPLY_LIMIT {
            return Err(DialogueError::Reply { command: command.to_owned(), reply: excerpt(&reply) });
        }
        let status = status.ok_or_else(late)?;
        if reply.contains(NO_DAEMON) {
            return Err(DialogueError::NoDaemon { pipe: self.pipe.clone() });
        }
        if !status.success() {
            return Err(DialogueError::Failed { command: command.to_owned(), status, reply: excerpt(&reply) });
        }
        Ok(reply)
    }

    fn spawn(&self) -> io::Result<(Child, PipeReader)> {
        let (reader, writer) = io::pipe()?;
        #[expect(clippy::disallowed_methods, reason = "`wait` reaps it, by force when its time is up")]
        let child = Command::new(&self.program)
            .env_clear()
            .envs(base_environment())
            .env("CUDA_MPS_PIPE_DIRECTORY", &self.pipe)
            .stdin(Stdio::piped())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()?;
        Ok((child, reader))
    }
}

/// Where programs and the driver's libraries are: all that the control program inherits.
pub(crate) fn base_environment() -> Vec<(&'static str, OsString)> {
    ["PATH", "LD_LIBRARY_PATH"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect()
}

/// Writes the command and closes the input. A program that has closed its input already has its say in its reply.
fn send(child: &mut Child, command: &str) -> io::Result<()> {
    let Some(mut input) = child.stdin.take() else { return Ok(()) };
    match writeln!(input, "{command}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Reads to the end of the output; `None` when the deadline passes first.
fn read_reply(mut output: PipeReader, deadline: Deadline) -> io::Result<Option<String>> {
    let (mut reply, mut buffer) = (Vec::new(), [0; 4096]);
    while reply.len() < REPLY_LIMIT {
        let Some(left) = deadline.remaining() else { return Ok(None) };
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut wanted = [PollFd::new(&output, PollFlags::IN)];
        match poll(&mut wanted, Some(&left)) {
            Ok(0) => return Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        match output.read(&mut buffer)? {
            0 => break,
            length => reply.extend_from_slice(&buffer[..length]),
        }
    }
    Ok(Some(String::from_utf8_lossy(&reply).into_owned()))
}

/// Waits for the program until the deadline, then kills it; its status when it ended by itself.
fn wait(child: &mut Child, deadline: Deadline) -> Option<ExitStatus> {
    let mut status = None;
    let mut ended = |child: &mut Child| {
        status = child.try_wait().ok().flatten();
        status.is_some()
    };
    if deadline.wait(|| ended(child)) {
        return status;
    }
    // A killed program that sleeps in the driver stays a zombie of this run rather than block it.
    drop(child.kill());
    Deadline::after(Duration::from_secs(1)).wait(|| matches!(child.try_wait(), Ok(Some(_)) | Err(_)));
    None
}

/// The start of a text on one line.
pub(crate) fn excerpt(text: &str) -> String {
    let clean: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(EXCERPT).collect();
    if text.trim().chars().count() > EXCERPT { format!("{clean}…") } else { clean }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn answering(script: &str) -> (tempfile::TempDir, Dialogue) {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("control");
        std::fs::write(&program, format!("#!/bin/sh\nread command\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        wait_until_closed(&program);
        let dialogue = Dialogue::new(program, "/pipe".into(), Duration::from_secs(5));
        (directory, dialogue)
    }

    /// A child that another test started meanwhile holds the file open for writing until its own `exec`.
    fn wait_until_closed(program: &std::path::Path) {
        #[expect(clippy::disallowed_methods, reason = "the child is waited for at once")]
        let run = || Command::new(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        assert!(Deadline::after(Duration::from_secs(10)).wait(|| match run() {
            Ok(mut child) => child.kill().and_then(|()| child.wait()).is_ok(),
            Err(error) => error.kind() != io::ErrorKind::ExecutableFileBusy,
        }));
    }

    #[test]
    fn lists_are_read_with_any_white_space_and_an_empty_one_is_no_error() {
        assert_eq!(answering("printf ' 12\\r\\n\\n 7 \\n'").1.servers().unwrap(), [12, 7]);
        assert_eq!(answering("true").1.servers().unwrap(), Vec::<u32>::new());
    }

    #[test]
    fn garbage_is_quoted_shortened_and_on_one_line() {
        let error = answering("head -c 9000 /dev/zero | tr '\\0' 'x'; printf '\\n\\033[1m'").1.servers().unwrap_err();
        assert!(matches!(error, DialogueError::Reply { .. }));
        let text = error.to_string();
        assert!(text.len() < 300 && !text.contains(char::is_control), "{text}");
    }

    #[test]
    fn a_reply_without_end_is_not_read_to_its_end() {
        let error = answering("exec yes 1").1.servers().unwrap_err();
        assert!(matches!(error, DialogueError::Reply { .. }), "{error}");
    }

    #[test]
    fn the_want_of_a_daemon_is_told_from_other_failures() {
        let missing = answering("echo 'Cannot find MPS control daemon process'; exit 1").1.servers().unwrap_err();
        assert!(matches!(missing, DialogueError::NoDaemon { .. }), "{missing}");
        let broken = answering("echo 'no such thing' >&2; exit 3").1.servers().unwrap_err();
        assert!(matches!(&broken, DialogueError::Failed { reply, .. } if reply == "no such thing"), "{broken}");
    }

    #[test]
    fn one_that_never_answers_is_killed_when_its_time_is_up() {
        let (_directory, dialogue) = answering("exec sleep 60");
        let error = dialogue.ask_within("get_server_list", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, DialogueError::Late { .. }), "{error}");
    }

    #[test]
    fn the_environment_of_the_caller_does_not_reach_the_program() {
        let (_directory, dialogue) = answering("env");
        let reply = dialogue.ask("x").unwrap();
        assert!(reply.contains("CUDA_MPS_PIPE_DIRECTORY=/pipe"), "{reply}");
        assert!(!reply.contains("CARGO_MANIFEST_DIR"), "{reply}");
    }

    #[test]
    fn states_are_read_and_others_are_kept_as_they_are() {
        assert_eq!(answering("echo ACTIVE").1.status(1).unwrap(), ServerStatus::Active);
        assert_eq!(answering("echo FAULT").1.status(1).unwrap(), ServerStatus::Fault);
        assert_eq!(answering("echo Gone fishing").1.status(1).unwrap(), ServerStatus::Other("Gone fishing".to_owned()));
    }
}
