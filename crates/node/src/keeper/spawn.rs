//! A keeper for a host without one: started by the agent, and outliving it.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Starts a keeper where none runs.
#[derive(Debug)]
pub struct Spawner {
    program: PathBuf,
    root: PathBuf,
    child: Option<Child>,
}

impl Spawner {
    /// A keeper of an MPS root, as this very program.
    ///
    /// # Errors
    /// When this program does not know its own path.
    pub fn new(root: &Path) -> io::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, root: root.to_owned(), child: None })
    }

    /// Starts a keeper, unless the one that was started before lives. A second one on the same root ends by itself at once.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ensure(&mut self) -> io::Result<()> {
        if let Some(child) = &mut self.child
            && child.try_wait()?.is_none()
        {
            return Ok(());
        }
        // Its own group and session: what ends the agent must not reach it.
        #[expect(clippy::disallowed_methods, reason = "it outlives this process; while both live it is reaped here")]
        let child = Command::new(&self.program)
            .args(["node", "keeper", "--detach", "--mps-root"])
            .arg(&self.root)
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::null())
            .spawn()?;
        tracing::info!(pid = child.id(), root = %self.root.display(), "started a keeper of MPS control daemons");
        self.child = Some(child);
        Ok(())
    }
}
