//! Log files in the real ones' format.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

/// Writes lines such as `[2026-11-23 07:42:15.036 Control  1292] …` to a log directory.
#[derive(Debug, Clone)]
pub(super) struct Log {
    directory: PathBuf,
}

impl Log {
    pub(super) const fn new(directory: PathBuf) -> Self {
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

    /// A log that cannot be written is as silent as the real one.
    fn write(&self, file: &str, role: &str, pid: u32, text: &str) {
        let time = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S%.3f");
        let opened = OpenOptions::new().create(true).append(true).open(self.directory.join(file));
        drop(opened.and_then(|mut file| writeln!(file, "[{time} {role} {pid:5}] {text}")));
    }
}
