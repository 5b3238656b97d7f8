//! The directories of a daemon.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::MpsError;
use crate::registry::DaemonRecord;

/// Files whose end tells why a daemon died.
const LOGS: [&str; 2] = ["output.log", "control.log"];
/// What is read of each.
const END: u64 = 8 << 10;
/// What an error quotes of them, in characters.
const LAST_WORDS: usize = 400;
/// Lines that a daemon writes for every question and connection.
const TALK: [&str; 4] = ["] NEW UI", "] UI closed", "] Cmd:", "] Accepting connection"];

/// Makes a directory closed to other users. One that exists already is an error: it is somebody else's.
pub(super) fn make_directory(path: &Path) -> Result<(), MpsError> {
    let failed = |source| MpsError::Directory { path: path.to_owned(), source };
    DirBuilder::new().mode(0o700).create(path).map_err(failed)
}

/// Makes the directory for logs, where it does not exist.
pub(super) fn make_log_directory(path: &Path) -> Result<(), MpsError> {
    match make_directory(path) {
        Err(MpsError::Directory { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            Ok(())
        }
        other => other,
    }
}

/// Removes the directories of a daemon that is over; a log directory elsewhere is kept.
pub(crate) fn remove_directories(daemon: &DaemonRecord) {
    remove(fs::remove_dir_all(daemon.pipe()), &daemon.pipe());
    if daemon.log.starts_with(&daemon.directory) {
        remove(fs::remove_dir_all(&daemon.log), &daemon.log);
    }
    remove(fs::remove_dir(&daemon.directory), &daemon.directory);
}

fn remove(removed: io::Result<()>, path: &Path) {
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a directory of a daemon");
    }
}

/// The end of what a daemon wrote, on one line, without what it says of each question.
pub(crate) fn last_words(log: &Path) -> String {
    let texts = LOGS.map(|name| end_of(&log.join(name)).unwrap_or_default());
    let text: String = texts.iter().map(|text| String::from_utf8_lossy(text)).collect();
    let told = |line: &&str| !line.is_empty() && !TALK.iter().any(|talk| line.contains(talk));
    let lines: Vec<&str> = text.lines().map(str::trim).filter(told).collect();
    let words = lines[lines.len().saturating_sub(4)..].join("; ").replace(char::is_control, " ");
    let cut = words.char_indices().rev().nth(LAST_WORDS).map_or(0, |(index, _)| index);
    words[cut..].to_owned()
}

fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
    let mut end = Vec::new();
    file.take(END).read_to_end(&mut end).map(|_length| end)
}
