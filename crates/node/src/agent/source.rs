//! Where the configuration comes from: one file, or a folder with a file a configuration, as a `ConfigMap` is mounted.
//!
//! The kubelet brings an edit of a `ConfigMap` by swapping one symbolic link in the folder; an editor may write a new file and
//! rename it. So the folder is watched, never the file, and what was read is compared with what was read before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cotenant_model::document::Problems;
use cotenant_model::sharing::Sharing;
use cotenant_model::sharing::layout::{Configs, Fallback, SelectError};
use futures_util::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask};

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// A file, or a folder with a file a configuration; `None` is an empty configuration.
    pub path: Option<PathBuf>,
    /// The configuration of a node without the label; of a folder only.
    pub default: Option<String>,
    /// What is tried without label and default, in order; `None` leaves what the file says, or NVIDIA's order.
    pub fallbacks: Option<Vec<Fallback>>,
}

/// A configuration that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// Its name among several; `None` where there is one, or none.
    pub name: Option<String>,
    /// What it says.
    pub sharing: Sharing,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file or folder cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has problems.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// None of several could be chosen.
    #[error(transparent)]
    Select(#[from] SelectError),
}

/// Files are read up to here; a configuration of more is refused by the reader.
const MOST_FILES: usize = 256;

impl Source {
    /// Reads the configuration of a node whose label `nvidia.com/device-plugin.config` has this value.
    ///
    /// # Errors
    /// When it cannot be read, has problems, or none of several can be chosen.
    pub fn read(&self, label: Option<&str>) -> Result<Configuration, SourceError> {
        let Some(path) = &self.path else {
            return Ok(Configuration { name: None, sharing: Sharing::parse("none", "{}")? });
        };
        let configs = self.configs(path)?;
        let several = configs.named.iter().any(|named| !named.name.is_empty());
        let chosen = configs.select(label)?;
        let sharing = match chosen {
            Some(named) => named.sharing()?,
            None => Sharing::parse("none", "{}")?,
        };
        Ok(Configuration { name: chosen.filter(|_| several).map(|named| named.name.clone()), sharing })
    }

    fn configs(&self, path: &Path) -> Result<Configs, SourceError> {
        let failed = |source| SourceError::Read { path: path.to_owned(), source };
        let mut configs = if path.is_dir() {
            let files = files(path).map_err(failed)?;
            let texts = files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
            Configs::of_files(texts, self.default.clone())
        } else {
            let text = fs::read_to_string(path).map_err(failed)?;
            Configs::read(&path.display().to_string(), &text)?
        };
        if let Some(fallbacks) = &self.fallbacks {
            configs.fallbacks.clone_from(fallbacks);
        }
        Ok(configs)
    }

    /// Watches for changes; `None` where there is nothing to watch.
    ///
    /// # Errors
    /// When the folder does not exist, or the kernel has no more watches.
    pub fn watch(&self) -> Result<Option<Changes>, SourceError> {
        let Some(path) = &self.path else { return Ok(None) };
        let folder = if path.is_dir() { path.as_path() } else { parent(path) };
        let watch = || {
            let inotify = Inotify::init()?;
            let what = WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::CREATE | WatchMask::DELETE;
            inotify.watches().add(folder, what | WatchMask::MOVE_SELF | WatchMask::DELETE_SELF)?;
            inotify.into_event_stream(vec![0; 4096])
        };
        watch()
            .map(|events| Some(Changes { events }))
            .map_err(|source| SourceError::Read { path: folder.to_owned(), source })
    }
}

/// The folder of a file; the working folder of a bare name.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// The files of a mounted `ConfigMap` in order of name; what the mount itself keeps there begins with `..`.
fn files(folder: &Path) -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)?.take(MOST_FILES) {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.starts_with('.') && path.is_file() {
            found.push((name, fs::read_to_string(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

/// Says that something changed where the configuration stands.
#[derive(Debug)]
pub struct Changes {
    events: EventStream<Vec<u8>>,
}

impl Changes {
    /// Waits for the next change; several at once may be told as one or as many.
    ///
    /// # Errors
    /// When the kernel's watch fails.
    pub async fn next(&mut self) -> io::Result<()> {
        match self.events.next().await {
            Some(event) => event.map(drop),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    const SLICED: &str = "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    fn source(path: &Path) -> Source {
        Source { path: Some(path.to_owned()), ..Source::default() }
    }

    #[test]
    fn without_a_path_the_configuration_is_empty() {
        let read = Source::default().read(Some("whatever")).expect("read");
        assert_eq!((read.name, read.sharing.replicated.len()), (None, 0));
    }

    #[test]
    fn the_label_chooses_among_the_files_of_a_folder() {
        let folder = folder(&[("default", "version: v1\n"), ("shared", SLICED)]);
        let replicated = |label| source(folder.path()).read(label).expect("read").sharing.replicated.len();
        assert_eq!((replicated(None), replicated(Some("shared"))), (0, 1));
        let wrong = source(folder.path()).read(Some("sharde")).expect_err("unknown");
        assert!(wrong.to_string().contains("did you mean `shared`?"), "{wrong}");
    }

    #[test]
    fn a_default_and_given_fallbacks_go_before_the_usual_ones() {
        let folder = folder(&[("a", "version: v1\n"), ("b", SLICED)]);
        let with = |default: Option<&str>, fallbacks: Option<Vec<Fallback>>| {
            let source = Source { default: default.map(str::to_owned), fallbacks, ..source(folder.path()) };
            source.read(None).map(|read| read.name)
        };
        assert_eq!(with(Some("b"), None).expect("read"), Some("b".to_owned()));
        assert!(matches!(with(None, Some(vec![Fallback::Single])), Err(SourceError::Select(_))));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let missing = source(Path::new("/nonexistent/config.yaml")).read(None).expect_err("missing");
        assert_eq!(missing.to_string(), "cannot read the configuration /nonexistent/config.yaml");
        let folder = folder(&[("config", "version: v9\n")]);
        assert!(matches!(source(folder.path()).read(None), Err(SourceError::Problems(_))));
    }

    #[tokio::test]
    async fn the_swap_of_a_mounted_config_map_is_noticed() {
        let folder = folder(&[]);
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "version: v1\n"), ("..2", SLICED)] {
            fs::create_dir(at(version)).expect("made");
            fs::write(at(version).join("config"), text).expect("written");
        }
        symlink("..1", at("..data")).expect("linked");
        symlink("..data/config", at("config")).expect("linked");
        let source = source(folder.path());
        assert_eq!(source.read(None).expect("read").sharing.replicated.len(), 0);
        let mut changes = source.watch().expect("watched").expect("something to watch");
        symlink("..2", at("..data_tmp")).expect("linked");
        fs::rename(at("..data_tmp"), at("..data")).expect("swapped");
        tokio::time::timeout(Duration::from_secs(5), changes.next()).await.expect("in time").expect("noticed");
        assert_eq!(source.read(None).expect("read").sharing.replicated.len(), 1);
    }
}
