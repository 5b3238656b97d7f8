//! The control program: which of its roles a call is for.

use std::env;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::options::{Call, help, parse};
use super::three::FAILED;
use super::{NO_DAEMON, SERVER, Script, control, server};

/// Tells the process that `-d` leaves behind that it is the one.
const IN_BACKGROUND: &str = "COTENANT_TESTKIT_IN_BACKGROUND";

/// The main function of the simulated control program.
#[must_use]
pub fn run() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let result = if called_as(&arguments, SERVER) {
        server::run(server::is_deaf(&arguments)).map(|()| ExitCode::SUCCESS)
    } else {
        answer_call(arguments.get(1..).unwrap_or_default())
    };
    result.unwrap_or_else(|error| {
        drop(writeln!(io::stderr(), "{error}"));
        ExitCode::FAILURE
    })
}

fn answer_call(arguments: &[String]) -> io::Result<ExitCode> {
    let script = script()?;
    let protocol = env::var("CUDA_MPS_PROTOCOL_VERSION").ok();
    match parse(arguments, protocol.as_deref(), &script) {
        Call::Daemon(daemon) if !daemon.foreground && env::var_os(IN_BACKGROUND).is_none() => {
            start_in_background(arguments)
        }
        Call::Daemon(daemon) => control::run(&pipe_directory(), &log_directory(), daemon),
        Call::Commands => carry_commands(),
        Call::Command(words) => carry(&words.join(" ")),
        Call::Quit => carry("quit"),
        Call::Help => say(&help(&script)),
        Call::Version => say("CUDA MPS Control for Linux/Unix/QNX. Binary version: 13000\n"),
        // The real one exits with 0, and says which option only up to its first byte, a NUL.
        Call::Unknown => say(&format!("Unrecognized option \0\n{}", help(&script))),
    }
}

fn called_as(arguments: &[String], name: &str) -> bool {
    arguments.first().is_some_and(|path| Path::new(path).file_name().is_some_and(|file| file == name))
}

/// The script beside the program as it was called: its name may be a link to the one in the build directory.
pub(super) fn script() -> io::Result<Script> {
    let called = env::args_os().next().map(PathBuf::from).unwrap_or_default();
    Script::beside(&called)
}

/// Makes SIGTERM do nothing.
pub(super) fn ignore_sigterm() -> io::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::new(AtomicBool::new(false))).map(|_handler| ())
}

fn pipe_directory() -> PathBuf {
    env::var_os("CUDA_MPS_PIPE_DIRECTORY").map_or_else(|| "/tmp/nvidia-mps".into(), PathBuf::from)
}

fn log_directory() -> PathBuf {
    env::var_os("CUDA_MPS_LOG_DIRECTORY").map_or_else(|| "/var/log/nvidia-mps".into(), PathBuf::from)
}

fn say(text: &str) -> io::Result<ExitCode> {
    io::stdout().write_all(text.as_bytes()).map(|()| ExitCode::SUCCESS)
}

/// Starts the daemon as a process of its own and returns once it listens.
fn start_in_background(arguments: &[String]) -> io::Result<ExitCode> {
    let called = env::args_os().next().unwrap_or_default();
    #[expect(clippy::disallowed_methods, reason = "a daemon outlives its starter")]
    let mut child = Command::new(called)
        .args(arguments)
        .env(IN_BACKGROUND, "1")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    while UnixStream::connect(pipe_directory().join("control")).is_err() {
        if child.try_wait()?.is_some() {
            say("An instance of this daemon is already running\n")?;
            return Ok(ExitCode::FAILURE);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(ExitCode::SUCCESS)
}

/// Carries each line of the standard input to the daemon and prints its reply.
fn carry_commands() -> io::Result<ExitCode> {
    for line in io::stdin().lock().lines() {
        let code = carry(&line?)?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Carries one command.
fn carry(line: &str) -> io::Result<ExitCode> {
    let Ok(mut stream) = UnixStream::connect(pipe_directory().join("control")) else {
        return Err(io::Error::other(NO_DAEMON));
    };
    writeln!(stream, "{line}")?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    if let Some(said) = reply.strip_suffix(FAILED.as_bytes()) {
        io::stderr().write_all(said)?;
        return Ok(ExitCode::FAILURE);
    }
    io::stdout().write_all(&reply)?;
    Ok(ExitCode::SUCCESS)
}
