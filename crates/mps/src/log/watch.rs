//! Following the logs of a daemon without looking again and again.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use super::line::{Line, parse_line};
use crate::place::OUTPUT;

/// The files that are followed.
const FILES: [&str; 3] = [OUTPUT, "control.log", "server.log"];
/// What wakes a watcher.
const WATCHED: WatchFlags =
    WatchFlags::MODIFY.union(WatchFlags::CREATE).union(WatchFlags::MOVED_TO).union(WatchFlags::DELETE);
/// A longer line is none of a daemon; its rest is passed over.
const LINE_LIMIT: usize = 4 << 10;
/// What one [`LogWatch::read`] takes from a file at most; of a flood beyond it the older part is passed over.
const READ_LIMIT: u64 = 256 << 10;

/// Follows the logs in a daemon's log folder: readable ([`AsFd`]) when one has grown, at no cost until then.
#[derive(Debug)]
pub struct LogWatch {
    inotify: OwnedFd,
    folder: PathBuf,
    tails: Vec<Tail>,
}

/// What has been read of the logs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct News {
    /// Lines that mean something, in order within each file.
    pub lines: Vec<Line>,
    /// Whether lines were missed: a log was cut, or grew faster than it was read. Ask the daemon then.
    pub gap: bool,
}

impl LogWatch {
    /// Starts to follow the logs in a folder, from their present end.
    ///
    /// # Errors
    /// When the folder cannot be watched: it does not exist, or the user has no inotify instance left.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&inotify, folder, WATCHED)?;
        let tails = FILES.iter().map(|name| Tail::at_end(folder.join(name))).collect();
        let mut watch = Self { inotify, folder: folder.to_owned(), tails };
        watch.follow_servers(true)?;
        Ok(watch)
    }

    /// Follows the logs of servers in folders of their own (protocol 3), where they are new.
    fn follow_servers(&mut self, at_end: bool) -> io::Result<()> {
        for server in folders_in(&self.folder) {
            let log = server.join("server.log");
            if self.tails.iter().any(|tail| tail.path == log) {
                continue;
            }
            match inotify::add_watch(&self.inotify, &server, WATCHED) {
                // One that went in between.
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            self.tails.push(if at_end { Tail::at_end(log) } else { Tail::at(log, 0) });
        }
        Ok(())
    }

    /// Waits until a log has changed; whether that came in `patience`.
    ///
    /// # Errors
    /// When the kernel cannot wait.
    pub fn wait(&self, patience: Duration) -> io::Result<bool> {
        let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&patience)) {
            Err(Errno::INTR) => Ok(false),
            other => Ok(other? > 0),
        }
    }

    /// Reads what has come since the last time, without waiting. A call that comes before the next wake is in vain only.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn read(&mut self) -> io::Result<News> {
        self.drain()?;
        self.follow_servers(false)?;
        let mut news = News::default();
        for tail in &mut self.tails {
            tail.read(&mut news)?;
        }
        Ok(news)
    }

    /// Takes what inotify has to say: that something happened is enough.
    fn drain(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        loop {
            match rustix::io::read(&self.inotify, &mut buffer) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for LogWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .take(64)
        .collect()
}

/// The end of one file.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    offset: u64,
    /// The start of a line whose end has not come.
    begun: Vec<u8>,
    /// Whether the line that is being read is passed over.
    skipping: bool,
}

impl Tail {
    fn at_end(path: PathBuf) -> Self {
        let offset = fs::metadata(&path).map_or(0, |file| file.len());
        Self::at(path, offset)
    }

    const fn at(path: PathBuf, offset: u64) -> Self {
        Self { path, offset, begun: Vec::new(), skipping: false }
    }

    fn read(&mut self, news: &mut News) -> io::Result<()> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let length = file.metadata()?.len();
        if length < self.offset {
            // Cut, by this program or another.
            news.gap = true;
            self.restart(0);
        }
        if length - self.offset > READ_LIMIT {
            news.gap = true;
            self.restart(length - READ_LIMIT);
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        let count = file.take(READ_LIMIT).read_to_end(&mut bytes)?;
        self.offset += count as u64;
        self.take(&bytes, news);
        Ok(())
    }

    fn restart(&mut self, offset: u64) {
        // In the middle of a file the first line is a part of one.
        (self.offset, self.skipping) = (offset, offset > 0);
        self.begun.clear();
    }

    fn take(&mut self, bytes: &[u8], news: &mut News) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = part.ends_with(b"\n");
            if self.begun.len() + part.len() > LINE_LIMIT {
                self.skipping = true;
            }
            if !self.skipping {
                self.begun.extend_from_slice(part);
            }
            if ends {
                if !self.skipping {
                    news.lines.extend(parse_line(&String::from_utf8_lossy(&self.begun)));
                }
                self.skipping = false;
                self.begun.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::log::Entry;
    use crate::place::{open_output, trim_output};

    const LEFT: &str = "[2026-11-24 20:22:44.787 Server   529] Client process 606 disconnected\n";

    #[test]
    fn a_line_wakes_and_is_read_once_and_nothing_wakes_without_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = open_output(folder.path()).unwrap();
        output.write_all(LEFT.as_bytes()).unwrap();
        let mut watch = LogWatch::open(folder.path()).unwrap();
        assert!(!watch.wait(Duration::from_millis(50)).unwrap(), "what was there is no news");
        output.write_all(&LEFT.as_bytes()[..30]).unwrap();
        assert!(watch.wait(Duration::from_secs(10)).unwrap());
        assert_eq!(watch.read().unwrap(), News::default());
        output.write_all(&LEFT.as_bytes()[30..]).unwrap();
        assert!(watch.wait(Duration::from_secs(10)).unwrap());
        let news = watch.read().unwrap();
        assert_eq!(news.lines.iter().map(|line| &line.entry).collect::<Vec<_>>(), [&Entry::ClientLeft { client: 606 }]);
        assert!(!watch.wait(Duration::ZERO).unwrap());
        assert_eq!(watch.read().unwrap(), News::default());
    }

    #[test]
    fn a_log_that_comes_later_and_one_in_a_servers_folder_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = LogWatch::open(folder.path()).unwrap();
        fs::create_dir(folder.path().join("gpu")).unwrap();
        for name in ["control.log", "gpu/server.log"] {
            fs::write(folder.path().join(name), LEFT).unwrap();
            assert!(watch.wait(Duration::from_secs(10)).unwrap());
            assert_eq!(watch.read().unwrap().lines.len(), 1, "{name}");
        }
    }

    #[test]
    fn a_cut_log_is_told_and_followed_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = open_output(folder.path()).unwrap();
        output.write_all(&[b'x'; 1000]).unwrap();
        let mut watch = LogWatch::open(folder.path()).unwrap();
        trim_output(folder.path(), 0).unwrap();
        output.write_all(LEFT.as_bytes()).unwrap();
        let news = watch.read().unwrap();
        assert!(news.gap);
        assert_eq!(news.lines.len(), 1);
    }

    #[test]
    fn a_flood_costs_bounded_memory_and_its_end_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = LogWatch::open(folder.path()).unwrap();
        let mut output = open_output(folder.path()).unwrap();
        output.write_all(&vec![0; 3 << 20]).unwrap();
        output.write_all(b"\n").unwrap();
        output.write_all(LEFT.as_bytes()).unwrap();
        let news = watch.read().unwrap();
        assert!(news.gap && news.lines.len() == 1, "{news:?}");
        assert!(watch.tails.iter().all(|tail| tail.begun.len() <= LINE_LIMIT));
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_are_cut_into_pieces(cuts in prop::collection::vec(0_usize..600, 0..8)) {
            let text = LEFT.repeat(3) + &"y".repeat(LINE_LIMIT + 1) + "\n" + LEFT;
            let (mut tail, mut news) = (Tail::at_end(PathBuf::new()), News::default());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut * 8 % text.len()).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            for cut in cuts.windows(2) {
                tail.take(&text.as_bytes()[cut[0]..cut[1]], &mut news);
            }
            prop_assert_eq!(news.lines.len(), 4);
        }
    }
}
