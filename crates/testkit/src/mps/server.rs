//! A simulated server: a process with the real one's name that waits to be ended.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{SERVER, caller};

/// A server that a failed test forgot leaves by itself after this.
const LIFE: Duration = Duration::from_secs(180);

/// Starts a server as a child of the daemon. It outlives a daemon that is killed: the worst that a real one might do.
pub(super) fn start() -> io::Result<Child> {
    #[expect(clippy::disallowed_methods, reason = "the daemon reaps it when it quits")]
    Command::new(std::env::current_exe()?)
        .arg0(SERVER)
        .args([if caller::script()?.deaf { "deaf" } else { "well" }])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// The body of a server.
pub(super) fn run(deaf: bool) -> io::Result<()> {
    if deaf {
        caller::ignore_sigterm()?;
    }
    let (mut waited, look) = (Duration::ZERO, Duration::from_millis(500));
    while waited < LIFE {
        std::thread::sleep(look);
        waited += look;
    }
    Ok(())
}

/// Whether these arguments hold the order to be deaf.
pub(super) fn is_deaf(arguments: &[String]) -> bool {
    arguments.iter().any(|argument| argument == "deaf")
}
