//! Log lines in the real ones' format.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::PathBuf;

/// Writes lines such as `[2026-11-23 07:42:15.036 Control  1292] …`, where the real daemon does: one in the foreground
/// to its standard output, servers' lines too (seen on driver 580), one in the background to `control.log` and
/// `server.log`.
#[derive(Debug, Clone)]
pub(super) struct Log {
    /// The log directory; `None` for the standard output.
    directory: Option<PathBuf>,
}

impl Log {
    pub(super) const fn new(directory: Option<PathBuf>) -> Self {
        Self { directory }
    }

    /// A line of the control daemon.
    pub(super) fn control(&self, text: &str) {
        self.write("control.log", "Control", std::process::id(), text);
    }

    /// A line of a server.
    pub(super) fn server(&self, pid: u32, text: &str) {
        self.write("server.log", "Server", pid, text);
    }

    /// A line that the daemon's child writes before it becomes a server.
    pub(super) fn starting(&self, pid: u32, user: u32) {
        self.write("control.log", "Control", pid, &format!("Starting new server {pid} for user {user}"));
    }

    /// A log that cannot be written is as silent as the real one.
    fn write(&self, file: &str, role: &str, pid: u32, text: &str) {
        let time = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S%.3f");
        let line = format!("[{time} {role} {pid:5}] {text}\n");
        let Some(directory) = &self.directory else {
            drop(io::stdout().lock().write_all(line.as_bytes()));
            return;
        };
        let opened = OpenOptions::new().create(true).append(true).open(directory.join(file));
        drop(opened.and_then(|mut file| file.write_all(line.as_bytes())));
    }
}
