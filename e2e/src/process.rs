//! Processes: run within a limit, and told from others by more than their id.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use crate::wait::{self, Deadline};

/// A process, told from a later one with the same id by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id, as seen from where the record was written for.
    pub id: i32,
    /// Start in clock ticks since the machine's, from `/proc/ID/stat`.
    pub started: u64,
}

impl Identity {
    /// The process with this id.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(id: i32) -> io::Result<Self> {
        let (_state, started) = stat(Path::new(&format!("/proc/{id}/stat")))?;
        Ok(Self { id, started })
    }

    /// This very process as the process table mounted on `/proc` names it, which may be that of an outer namespace.
    ///
    /// # Errors
    /// When `/proc` is no process table.
    pub fn of_this_process() -> anyhow::Result<Self> {
        let id = fs::read_link("/proc/self").context("cannot read /proc/self")?;
        let id = id.to_str().and_then(|text| text.parse().ok()).context("/proc/self names no process")?;
        Ok(Self::of(id)?)
    }

    /// Whether it still runs; one that has ended and was not waited for does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let state = stat(Path::new(&format!("/proc/{}/stat", self.id)));
        state.is_ok_and(|(state, started)| {
            started == self.started && state != "X" && (state != "Z" || self.has_threads())
        })
    }

    /// Whether other threads than the first are left. The first of a namespace ends everything in it with its last thread.
    fn has_threads(&self) -> bool {
        fs::read_dir(format!("/proc/{}/task", self.id)).is_ok_and(|threads| threads.count() > 1)
    }

    /// Kills it and waits until it is gone; a process that took over its id is left alone.
    ///
    /// # Errors
    /// When it may not be killed, or is still there after `limit`.
    pub fn kill(&self, limit: Duration) -> anyhow::Result<()> {
        let id = Pid::from_raw(self.id).context("no process has the id 0")?;
        // The handle is opened before the look, so what is looked at is what is killed.
        if let Ok(handle) = rustix::process::pidfd_open(id, PidfdFlags::empty())
            && self.is_alive()
        {
            let killed = rustix::process::pidfd_send_signal(handle, Signal::KILL);
            killed.with_context(|| format!("cannot kill process {}", self.id))?;
        }
        wait::until(&format!("the end of process {}", self.id), limit, || {
            anyhow::ensure!(!self.is_alive(), "it still runs");
            Ok(())
        })
    }
}

/// State letter and start of a process, from its `stat`.
fn stat(path: &Path) -> io::Result<(String, u64)> {
    let text = fs::read_to_string(path)?;
    // The name in parentheses may hold anything, so fields are counted after it: state is the 3rd, start the 22nd.
    let fields: Vec<&str> =
        text.rsplit_once(')').map(|(_name, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let (state, started) = (fields.first(), fields.get(19).and_then(|ticks| ticks.parse().ok()));
    state.map(|state| (*state).to_owned()).zip(started).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A command that is run by [`run`] or [`finish`].
#[expect(
    clippy::disallowed_methods,
    reason = "commands of the harness are waited for in this file, daemons by `machine`"
)]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Runs a command to its end and gives back its standard output.
///
/// # Errors
/// When it cannot start, fails, or does not end within `limit`; with the end of what it said.
pub fn run(command: &mut Command, limit: Duration) -> anyhow::Result<String> {
    let shown = show(command);
    let output = finish(command, limit)?;
    if !output.status.success() {
        let words = [output.stderr, output.stdout].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        anyhow::bail!("`{shown}` failed ({}): {}", output.status, tail(&words.join("\n"), 20).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command to its end; one that is not there in time is killed with all it started.
///
/// # Errors
/// When it cannot start or does not end within `limit`.
pub fn finish(command: &mut Command, limit: Duration) -> anyhow::Result<Output> {
    let shown = show(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let streams = (child.stdout.take().map(read_to_end), child.stderr.take().map(read_to_end));
    let status = end_of(&mut child, limit).with_context(|| format!("`{shown}`"))?;
    let gather = |stream: Option<JoinHandle<Vec<u8>>>| stream.and_then(|reader| reader.join().ok()).unwrap_or_default();
    Ok(Output { status, stdout: gather(streams.0), stderr: gather(streams.1) })
}

fn end_of(child: &mut Child, limit: Duration) -> anyhow::Result<ExitStatus> {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if deadline.is_over() {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                rustix::process::kill_process_group(group, Signal::KILL)?;
            }
            child.wait()?;
            anyhow::bail!("did not end within {:.0} s", limit.as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn read_to_end(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before a failure is worth showing.
        drop(stream.read_to_end(&mut bytes));
        bytes
    })
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The last lines of a text.
#[must_use]
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn a_process_is_told_from_another_with_its_id() {
        let own = Identity::of_this_process().unwrap();
        assert!(own.is_alive());
        let other = Identity { started: own.started + 1, ..own };
        assert!(!other.is_alive());
        other.kill(SOON).unwrap();
        assert!(own.is_alive());
    }

    #[test]
    fn a_killed_process_is_gone_before_the_call_returns() {
        let mut child = command("sleep").arg("600").spawn().unwrap();
        let identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        identity.kill(SOON).unwrap();
        assert!(!identity.is_alive());
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_command_that_fails_says_why() {
        let failed = run(command("sh").args(["-c", "echo broken >&2; exit 3"]), SOON).unwrap_err();
        assert!(format!("{failed:#}").ends_with("failed (exit status: 3): broken"), "{failed:#}");
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_with_its_children() {
        let started = wait::now();
        let hung = run(command("sh").args(["-c", "sleep 600 & sleep 600"]), Duration::from_millis(200)).unwrap_err();
        assert!(format!("{hung:#}").ends_with("did not end within 0 s"), "{hung:#}");
        assert!(started.elapsed() < SOON);
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
    }
}
