//! A directory that has the simulated control program, for one test.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::SystemTime;

use tempfile::TempDir;

use super::{CONTROL, Script};

/// Sources of the simulated programs, from this crate's root.
const SOURCES: [&str; 2] = ["src/mps", "src/bin"];

/// A directory with the simulated control program and its script, removed on drop.
#[derive(Debug)]
pub struct Installation {
    directory: TempDir,
}

impl Installation {
    /// Installs the simulated control program with a script.
    ///
    /// # Errors
    /// When the program cannot be built or the directory cannot be made.
    pub fn new(script: &Script) -> io::Result<Self> {
        let installation = Self { directory: tempfile::Builder::new().prefix("mps").tempdir()? };
        installation.rewrite(script)?;
        symlink(program(CONTROL)?, installation.program())?;
        Ok(installation)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The control program in it.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.path().join(CONTROL)
    }

    /// Changes the script; a daemon that runs follows it from its next command on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn rewrite(&self, script: &Script) -> io::Result<()> {
        let (path, draft) = (Script::path_beside(&self.program()), self.path().join("draft"));
        fs::write(&draft, serde_json::to_vec(script)?)?;
        fs::rename(draft, path)
    }
}

/// The path of a program of this crate, built when it is missing or older than its sources.
///
/// A test executable lies in `target/PROFILE/deps`; programs lie one directory above it. `cargo test` builds the programs
/// of the tested crate only.
///
/// # Errors
/// When it cannot be built.
pub fn program(name: &str) -> io::Result<PathBuf> {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILDING.lock().map_err(|_poisoned| io::Error::other("a build before this one panicked"))?;
    let executable = env::current_exe()?;
    let profile = executable.ancestors().find(|path| path.join("deps").is_dir());
    let directory = profile.ok_or_else(|| io::Error::other(format!("{} is not a test's", executable.display())))?;
    let program = directory.join(name);
    if !is_fresh(&program)? {
        build(name, directory)?;
    }
    Ok(program)
}

fn is_fresh(program: &Path) -> io::Result<bool> {
    let Ok(built) = fs::metadata(program).and_then(|file| file.modified()) else { return Ok(false) };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut newest = SystemTime::UNIX_EPOCH;
    for directory in SOURCES {
        for entry in fs::read_dir(root.join(directory))? {
            newest = newest.max(entry?.metadata()?.modified()?);
        }
    }
    Ok(newest <= built)
}

fn build(name: &str, directory: &Path) -> io::Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let release = directory.ends_with("release");
    #[expect(clippy::disallowed_methods, reason = "`status` waits for it")]
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "cotenant-testkit", "--bin", name])
        .args(release.then_some("--release"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("building {name} failed: {status}"))) }
}
