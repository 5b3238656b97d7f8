//! One command and its reply, never longer than its patience.
//!
//! The control program itself carries a command to the daemon of its pipe directory; it reads the command from its
//! standard input and can block for ever.

use std::ffi::OsString;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Dialect;
use crate::clock::Deadline;
use crate::process;
use crate::reply::excerpt;

/// More than any true reply: one that reaches it is odd, and what comes after it is not read.
const REPLY_LIMIT: usize = 64 << 10;
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
    /// A server in fault, on which the command would block the daemon.
    #[error("server {server} is in fault")]
    Faulty {
        /// Its process id.
        server: u32,
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

/// Carries commands to the daemon of one pipe directory.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) program: PathBuf,
    pub(super) pipe: PathBuf,
    pub(super) patience: Duration,
    pub(super) dialect: Dialect,
}

impl Exchange {
    /// Sends a command and waits for the whole reply.
    pub(super) fn ask(&self, command: &str) -> Result<String, DialogueError> {
        self.ask_within(command, self.patience)
    }

    /// The same with another patience.
    pub(super) fn ask_within(&self, command: &str, patience: Duration) -> Result<String, DialogueError> {
        let failed = |source| DialogueError::Run { program: self.program.clone(), source };
        let deadline = Deadline::after(patience);
        let (mut child, output) = self.spawn(command).map_err(failed)?;
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

    /// Protocol 2 reads commands from the standard input, protocol 3 takes one as arguments.
    fn spawn(&self, command: &str) -> io::Result<(Child, PipeReader)> {
        let (reader, writer) = io::pipe()?;
        let (arguments, input) = match self.dialect {
            Dialect::Two => ("", Stdio::piped()),
            Dialect::Three => (command, Stdio::null()),
        };
        #[expect(clippy::disallowed_methods, reason = "`wait` reaps it, by force when its time is up")]
        let child = Command::new(&self.program)
            .args(arguments.split_whitespace())
            .env_clear()
            .envs(base_environment())
            .env("CUDA_MPS_PIPE_DIRECTORY", &self.pipe)
            .stdin(input)
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
    process::await_end(child.id(), deadline);
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    // A killed program that sleeps in the driver stays a zombie of this run rather than block it.
    drop(child.kill());
    process::await_end(child.id(), Deadline::after(Duration::from_secs(1)));
    drop(child.try_wait());
    None
}
