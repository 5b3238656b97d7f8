//! Records on disk: read with their version checked, written whole or not at all.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use cotenant_model::run::Run;

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file could not be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no record of a run.
    #[error("`{path}` is not the record of a run")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The record was written by a newer program.
    #[error("`{path}` has schema {found}, and this program reads up to {newest}")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u64,
        /// The newest this program reads.
        newest: u32,
    },
    /// A file could not be written.
    #[error("cannot write `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Reads a record.
///
/// # Errors
/// When the file cannot be read, is no record, or is of a newer schema.
pub fn read(path: &Path) -> Result<Run, StoreError> {
    let text = std::fs::read(path).map_err(|source| StoreError::Read { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Reads a record from its text; `path` names it in errors.
///
/// # Errors
/// When it is no record, or of a newer schema.
pub fn parse(path: &Path, text: &[u8]) -> Result<Run, StoreError> {
    #[derive(serde::Deserialize)]
    struct Version {
        schema: u64,
    }
    let malformed = |source| StoreError::Malformed { path: path.to_owned(), source };
    let Version { schema } = serde_json::from_slice(text).map_err(malformed)?;
    if schema > u64::from(Run::SCHEMA) {
        return Err(StoreError::TooNew { path: path.to_owned(), found: schema, newest: Run::SCHEMA });
    }
    serde_json::from_slice(text).map_err(malformed)
}

/// Writes a file whole or not at all: beside its place first, flushed to the disk, then renamed.
///
/// # Errors
/// When the folder cannot be made or the file not be written, for example because the disk is full; nothing is left then.
pub fn write(path: &Path, contents: &[u8]) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.{}", std::process::id()));
    let written = std::fs::create_dir_all(folder).and_then(|()| {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(contents)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    });
    written.map_err(|source| {
        // What could not be finished is of no use; it may not even exist.
        drop(std::fs::remove_file(&beside));
        StoreError::Write { path: path.to_owned(), source }
    })
}

/// The text of a record.
///
/// # Errors
/// Never for a record made by this program: a number that is not finite has no JSON form and becomes `null`.
pub fn render(run: &Run) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec(run)?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_future_is_refused_and_so_is_what_is_none() {
        let path = Path::new("run.json");
        let too_new = parse(path, br#"{"schema": 2, "anything": []}"#).expect_err("newer");
        assert_eq!(too_new.to_string(), "`run.json` has schema 2, and this program reads up to 1");
        assert!(matches!(parse(path, b"<html>"), Err(StoreError::Malformed { .. })));
        assert!(matches!(parse(path, br#"{"schema": 1}"#), Err(StoreError::Malformed { .. })));
    }

    #[test]
    fn a_full_disk_leaves_nothing_and_says_where() {
        let error = write(Path::new("/dev/full/run.json"), b"x").expect_err("not a folder");
        assert!(error.to_string().contains("/dev/full/run.json"), "{error}");
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("deep/run.json");
        write(&path, b"one").expect("written");
        write(&path, b"two").expect("replaced");
        assert_eq!(std::fs::read(&path).expect("read"), b"two");
        assert_eq!(std::fs::read_dir(folder.path().join("deep")).expect("listed").count(), 1);
    }
}
