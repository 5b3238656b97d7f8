//! What must outlive the agent, on disk: one file, replaced as a whole.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::agent::state::Memory;

/// Why what must outlive the agent cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The folder or its file cannot be used.
    #[error("cannot use {}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another agent has it.
    #[error("another agent runs here: it holds {}", path.display())]
    Taken {
        /// The lock.
        path: PathBuf,
    },
}

/// Takes the folder for this agent alone, as long as the file is open. Made where it is missing.
///
/// # Errors
/// When another agent has it, or it cannot be made.
pub(super) fn lock(folder: &Path) -> Result<File, MemoryError> {
    let path = folder.join(LOCK);
    let failed = |source| MemoryError::Io { path: path.clone(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(MemoryError::Taken { path }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The lock in its folder.
const LOCK: &str = "agent.lock";

/// The file in its folder.
fn file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

/// Reads it. One that is broken is put aside and said, since the agent can do without: it then knows no offences, and takes
/// what the kubelet says is held for what was offered.
///
/// # Errors
/// When the folder cannot be made or read.
pub(super) fn read(folder: &Path) -> Result<Memory, MemoryError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| MemoryError::Io { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let path = file(folder);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Memory::default()),
        other => other.map_err(failed(&path))?,
    };
    serde_json::from_slice(&text).or_else(|error| {
        let aside = path.with_extension("broken");
        tracing::warn!(path = %path.display(), %error, "the agent's memory is broken and put aside");
        fs::rename(&path, &aside).map_err(failed(&aside))?;
        Ok(Memory::default())
    })
}

/// Writes it.
///
/// # Errors
/// When it cannot be written; the old one is still there then.
pub(super) fn write(folder: &Path, memory: &Memory) -> Result<(), MemoryError> {
    let path = file(folder);
    let draft = path.with_extension("draft");
    let write = || -> io::Result<()> {
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(memory)?)?;
        file.sync_all()?;
        fs::rename(&draft, &path)
    };
    write().map_err(|source| MemoryError::Io { path, source })
}

/// Removes it with its folder, where nothing else is in it.
pub(super) fn remove(folder: &Path) {
    for name in ["state.json", "state.draft", "state.broken", LOCK] {
        drop(fs::remove_file(folder.join(name)));
    }
    drop(fs::remove_dir(folder));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_broken_file_is_put_aside() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("own");
        assert_eq!(read(&path).expect("read"), Memory::default());
        write(&path, &Memory::default()).expect("written");
        assert_eq!(read(&path).expect("read"), Memory::default());
        fs::write(file(&path), "{").expect("broken");
        assert_eq!(read(&path).expect("read"), Memory::default());
        assert!(path.join("state.broken").exists());
        let held = lock(&path).expect("free");
        assert!(matches!(lock(&path), Err(MemoryError::Taken { .. })));
        drop(held);
        lock(&path).expect("free again");
        remove(&path);
        assert!(!path.exists());
    }
}
