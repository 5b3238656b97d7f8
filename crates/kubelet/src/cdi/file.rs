//! Specifications as files: whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::spec::Specification;
use super::{CLASSES, VENDOR};

/// Why a file of specifications could not be written or removed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The folder cannot be made.
    #[error("cannot make the folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The specification has no form as text.
    #[error("cannot encode the specification for {path}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// The encoder's reason.
        source: serde_json::Error,
    },
    /// The file cannot be written; what stood there before still does.
    #[error("cannot write {path}, which stays as it was")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file cannot be removed.
    #[error("cannot remove {path}")]
    Remove {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Writes `specifications` to `directory`, one file a class, and removes those of this vendor's other classes. A file that
/// says the same already is not touched, so that runtimes need not read it again.
///
/// # Errors
/// At the first file that cannot be written or removed; each file is then either its old or its new self.
pub fn write(directory: &Path, specifications: &[Specification]) -> Result<(), FileError> {
    fs::create_dir_all(directory).map_err(|source| FileError::Folder { path: directory.to_owned(), source })?;
    for specification in specifications {
        write_one(&directory.join(file_name(&specification.kind)), specification)?;
    }
    let kinds = CLASSES.map(kind);
    let gone = kinds.iter().filter(|kind| specifications.iter().all(|kept| kept.kind != **kind));
    gone.map(|kind| directory.join(file_name(kind))).try_for_each(|path| remove_one(&path))
}

/// Removes every specification of this vendor from `directory`.
///
/// # Errors
/// At the first file that cannot be removed.
pub fn remove(directory: &Path) -> Result<(), FileError> {
    CLASSES.iter().try_for_each(|class| {
        let path = directory.join(file_name(&kind(class)));
        remove_one(&unfinished(&path))?;
        remove_one(&path)
    })
}

fn kind(class: &str) -> String {
    format!("{VENDOR}/{class}")
}

fn file_name(kind: &str) -> String {
    format!("{}.json", kind.replace('/', "-"))
}

/// Where a file is written before it takes its place; runtimes read `.json` and `.yaml` only.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("json.new")
}

fn write_one(path: &Path, specification: &Specification) -> Result<(), FileError> {
    let text = serde_json::to_vec_pretty(specification)
        .map_err(|source| FileError::Encode { path: path.to_owned(), source })?;
    if fs::read(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let unfinished = unfinished(path);
    replace(path, &unfinished, &text).map_err(|source| {
        // The first error counts; a rest that cannot be removed either is replaced by the next attempt.
        fs::remove_file(&unfinished).unwrap_or_default();
        FileError::Write { path: path.to_owned(), source }
    })
}

fn replace(path: &Path, unfinished: &Path, text: &[u8]) -> io::Result<()> {
    match fs::remove_file(unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_absent) => {}
        Ok(()) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(unfinished)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(unfinished, path)?;
    // Without this a crash may bring the old file back.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn remove_one(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|source| FileError::Remove { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
#[path = "file/tests.rs"]
mod tests;
