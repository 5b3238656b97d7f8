//! The kubelet's folder: wakes a plugin when a socket in it comes or goes.

use std::ffi::OsString;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchMask};
use tokio::time::timeout;

/// Bytes for events that are read at once: a few, each with the longest name.
const BUFFER: usize = 1024;
/// How often one looks although nothing was told: events may be lost.
const SLOWLY: Duration = Duration::from_secs(10);
/// How often one looks while nothing will be told: the folder is not there, or the host has no inotify instance left.
const OFTEN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Names that matter; the kubelet writes others all the time.
    names: [OsString; 3],
    events: Option<EventStream<[u8; BUFFER]>>,
}

impl Folder {
    pub(super) fn new(path: &Path, names: [OsString; 3]) -> Self {
        Self { path: path.to_owned(), names, events: None }
    }

    /// Listens for events from now on; a look at the folder comes after this, so that nothing falls in between.
    pub(super) fn arm(&mut self) {
        if self.events.is_none() {
            self.events = watch(&self.path).ok();
        }
    }

    /// Waits until it is worth looking again.
    pub(super) async fn changed(&mut self) {
        let longest = if self.events.is_some() { SLOWLY } else { OFTEN };
        // Running out of time is a reason to look, too.
        let _in_time: Result<(), _> = timeout(longest, self.told()).await;
    }

    async fn told(&mut self) {
        let Some(events) = &mut self.events else { return pending().await };
        while let Some(Ok(event)) = events.next().await {
            let is_gone = event.mask.intersects(EventMask::IGNORED | EventMask::DELETE_SELF | EventMask::MOVE_SELF);
            if is_gone {
                break;
            }
            // An event without a name says that others were lost.
            if event.name.as_ref().is_none_or(|name| self.names.contains(name)) {
                return;
            }
        }
        self.events = None;
    }
}

fn watch(path: &Path) -> std::io::Result<EventStream<[u8; BUFFER]>> {
    let inotify = Inotify::init()?;
    let changes =
        WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
    inotify.watches().add(path, changes | WatchMask::ONLYDIR)?;
    inotify.into_event_stream([0; BUFFER])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_names_that_matter_wake() {
        let root = tempfile::tempdir().expect("folder");
        let mut folder = Folder::new(root.path(), ["kubelet.sock".into(), "own.sock".into(), "peer.sock".into()]);
        folder.arm();
        std::fs::write(root.path().join("checkpoint"), "").expect("file");
        assert!(timeout(Duration::from_millis(100), folder.changed()).await.is_err());
        std::fs::write(root.path().join("own.sock"), "").expect("file");
        timeout(Duration::from_secs(5), folder.changed()).await.expect("made");
        std::fs::remove_file(root.path().join("own.sock")).expect("removed");
        timeout(Duration::from_secs(5), folder.changed()).await.expect("removed");
    }

    #[tokio::test]
    async fn a_folder_that_goes_and_comes_back_is_watched_again() {
        let root = tempfile::tempdir().expect("folder");
        let path = root.path().join("device-plugins");
        std::fs::create_dir(&path).expect("folder");
        let mut folder = Folder::new(&path, ["kubelet.sock".into(), "own.sock".into(), "peer.sock".into()]);
        folder.arm();
        std::fs::remove_dir(&path).expect("removed");
        timeout(Duration::from_secs(5), folder.changed()).await.expect("gone");
        folder.arm();
        assert!(folder.events.is_none());
        std::fs::create_dir(&path).expect("folder");
        folder.arm();
        std::fs::write(path.join("kubelet.sock"), "").expect("file");
        timeout(Duration::from_secs(5), folder.changed()).await.expect("made");
    }
}
