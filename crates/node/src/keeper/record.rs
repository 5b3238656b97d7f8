//! What the keeper must know after it was killed: which daemons it keeps and which compute modes it has to put back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use cotenant_model::GpuUuid;
use cotenant_model::gpu::ComputeMode;
use serde::{Deserialize, Serialize};

use super::protocol::DaemonSettings;

const NAME: &str = "keeper.json";

/// Why a record cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub(super) struct RecordError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The record, as it is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Content {
    /// Daemons that are wanted.
    pub(super) daemons: BTreeMap<GpuUuid, DaemonSettings>,
    /// Compute modes as they were before they were changed.
    pub(super) modes: BTreeMap<GpuUuid, ComputeMode>,
}

/// The record with its file.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    content: Content,
}

impl Record {
    /// Reads the record under an MPS root. A file that cannot be read is kept aside and said: the daemons themselves are found
    /// without it.
    pub(super) fn open(root: &Path) -> Self {
        let path = root.join(NAME);
        let content = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                let aside = path.with_extension("json.unreadable");
                let kept = fs::rename(&path, &aside).is_ok();
                tracing::warn!(path = %path.display(), %error, kept, "the keeper's record cannot be read; it begins anew");
                Content::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the keeper's record cannot be read; it begins anew");
                Content::default()
            }
        };
        Self { path, content }
    }

    pub(super) const fn content(&self) -> &Content {
        &self.content
    }

    /// Changes the record on disk first, then here; nothing is written when nothing changes.
    ///
    /// # Errors
    /// When it cannot be written; the record is then as it was.
    pub(super) fn change(&mut self, edit: impl FnOnce(&mut Content)) -> Result<(), RecordError> {
        let mut content = self.content.clone();
        edit(&mut content);
        if content == self.content {
            return Ok(());
        }
        self.write(&content).map_err(|source| RecordError { path: self.path.clone(), source })?;
        self.content = content;
        Ok(())
    }

    fn write(&self, content: &Content) -> io::Result<()> {
        if *content == Content::default() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let draft = self.path.with_extension("draft");
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(content)?)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu() -> GpuUuid {
        GpuUuid("GPU-1".to_owned())
    }

    #[test]
    fn a_record_outlives_its_writer_and_is_gone_when_it_is_empty() {
        let root = tempfile::tempdir().unwrap();
        let mut record = Record::open(root.path());
        record.change(|content| content.modes = BTreeMap::from([(gpu(), ComputeMode::Prohibited)])).unwrap();
        let mut record = Record::open(root.path());
        assert_eq!(record.content().modes[&gpu()], ComputeMode::Prohibited);
        record.change(|content| content.modes.clear()).unwrap();
        assert!(!root.path().join(NAME).exists());
    }

    #[test]
    fn a_record_that_cannot_be_read_is_kept_aside() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(NAME), "{\"daemons\": [").unwrap();
        assert_eq!(*Record::open(root.path()).content(), Content::default());
        assert!(root.path().join("keeper.json.unreadable").exists());
    }

    #[test]
    fn a_change_that_cannot_be_written_is_not_made() {
        let root = tempfile::tempdir().unwrap();
        let mut record = Record::open(&root.path().join("nowhere"));
        let error =
            record.change(|content| content.modes = BTreeMap::from([(gpu(), ComputeMode::Default)])).unwrap_err();
        assert!(error.to_string().contains("keeper.json"), "{error}");
        assert!(record.content().modes.is_empty());
    }
}
