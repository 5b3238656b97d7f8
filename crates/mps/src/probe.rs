//! Which protocol a control program has.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Deadline;
use crate::dialogue::{Dialect, base_environment};
use crate::process::await_end;

/// How long the control program may take to print its help (1 ms on driver 580).
const PATIENCE: Duration = Duration::from_secs(3);
/// More than any help.
const HELP_LIMIT: u64 = 64 << 10;

/// The protocol that is wanted of a daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// 3 where the control program has it, else 2.
    #[default]
    Automatic,
    /// 2.
    Two,
    /// 3.
    Three,
}

impl Protocol {
    /// The protocol that a daemon of this program will speak.
    #[must_use]
    pub fn resolve(self, program: &Path) -> Dialect {
        match self {
            Self::Two => Dialect::Two,
            Self::Three => Dialect::Three,
            Self::Automatic if speaks_three(program) => Dialect::Three,
            Self::Automatic => Dialect::Two,
        }
    }

    /// Whether a daemon that speaks `dialect` is as wanted: one that runs is not replaced for a newer protocol.
    pub(crate) fn allows(self, dialect: Dialect) -> bool {
        match self {
            Self::Automatic => true,
            Self::Two => dialect == Dialect::Two,
            Self::Three => dialect == Dialect::Three,
        }
    }
}

/// A program as it was when it was asked.
#[derive(PartialEq, Eq, Hash)]
struct Version(PathBuf, u64, u64, i64, i64);

/// Whether a control program has protocol 3: its help names the option `--protocol` (release 615 documents it; driver 580 says
/// `Unrecognized option` and exits with 0). Asked once for each program, again when its file changes.
#[must_use]
pub fn speaks_three(program: &Path) -> bool {
    static KNOWN: LazyLock<Mutex<HashMap<Version, bool>>> = LazyLock::new(Mutex::default);
    let Ok(file) = fs::metadata(program) else { return false };
    let version = Version(program.to_owned(), file.ino(), file.size(), file.mtime(), file.mtime_nsec());
    if let Some(known) = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&version) {
        return *known;
    }
    let Some(help) = help(program) else { return false };
    let speaks = help.contains("--protocol");
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(version, speaks);
    speaks
}

/// What the program prints as its help; `None` when it does not end in time.
fn help(program: &Path) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "it is waited for below, by force when its time is up")]
    let mut child = Command::new(program)
        .arg("--help")
        .env_clear()
        .envs(base_environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let output = child.stdout.take()?;
    // One that prints without end fills the pipe, does not end, and is ended.
    let ended = await_end(child.id(), Deadline::after(PATIENCE));
    end(&mut child);
    let mut help = Vec::new();
    output.take(HELP_LIMIT).read_to_end(&mut help).ok()?;
    ended.then(|| String::from_utf8_lossy(&help).into_owned())
}

fn end(child: &mut Child) {
    drop(child.kill());
    await_end(child.id(), Deadline::after(Duration::from_secs(1)));
    drop(child.try_wait());
}

#[cfg(test)]
mod tests {
    use cotenant_testkit::mps::{Installation, Script};

    use super::*;

    #[test]
    fn a_program_is_asked_what_it_speaks_and_again_when_it_changes() {
        let (old, new) = (Script::default(), Script { protocol_three: true, ..Script::default() });
        let old = Installation::new(&old).unwrap();
        assert_eq!(Protocol::Automatic.resolve(&old.program()), Dialect::Two);
        assert_eq!(Protocol::Three.resolve(&old.program()), Dialect::Three);
        let new = Installation::new(&new).unwrap();
        assert_eq!(Protocol::Automatic.resolve(&new.program()), Dialect::Three);
        assert_eq!(Protocol::Two.resolve(&new.program()), Dialect::Two);
    }

    #[test]
    fn a_program_that_is_missing_or_prints_something_else_has_the_old_protocol() {
        assert!(!speaks_three(Path::new("/nonexistent/control")));
        assert!(!speaks_three(Path::new("/bin/echo")));
    }
}
