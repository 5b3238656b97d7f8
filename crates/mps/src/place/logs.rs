//! The logs of a daemon, bounded: they lie in memory (`/run`), and every client can write into the daemon's log pipe.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// The daemon's standard output. Driver 580 in the foreground writes its logs there, those of its servers too.
pub const OUTPUT: &str = "output.log";
/// The end of the output before it was cut.
const PREVIOUS: &str = "previous.log";
/// Logs that a daemon in the background writes itself.
const OTHERS: [&str; 2] = ["control.log", "server.log"];
/// How much of a log is kept when it is cut.
const KEPT: u64 = 64 << 10;

/// Cuts the output of a daemon, which may be running, when it is longer than `limit` bytes; its last 64 KiB go to
/// `previous.log`. Whether it was cut.
///
/// # Errors
/// When the files cannot be read or written; a full disk is such.
pub fn trim_output(log: &Path, limit: u64) -> io::Result<bool> {
    cut(&log.join(OUTPUT), limit, &log.join(PREVIOUS))
}

/// Cuts every log, for a daemon that starts anew.
pub(super) fn bound(log: &Path) -> io::Result<()> {
    trim_output(log, 0)?;
    for name in OTHERS {
        cut(&log.join(name), KEPT, &log.join(format!("previous-{name}")))?;
    }
    Ok(())
}

fn cut(path: &Path, limit: u64, kept: &Path) -> io::Result<bool> {
    let mut file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let length = file.metadata()?.len();
    if length <= limit {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(length.saturating_sub(KEPT)))?;
    let mut end = Vec::new();
    let read = (&mut file).take(KEPT).read_to_end(&mut end);
    // What is full must be cut all the more: the end is a courtesy.
    let saved = read.and_then(|_length| fs::write(kept, end));
    file.set_len(0)?;
    saved.map(|()| true)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::place::open_output;

    #[test]
    fn a_running_daemons_output_is_cut_to_nothing_and_goes_on_from_its_start() {
        let log = tempfile::tempdir().unwrap();
        let mut output = open_output(log.path()).unwrap();
        for number in 0..10_000 {
            writeln!(output, "line {number} of a flood").unwrap();
        }
        assert!(!trim_output(log.path(), 1 << 20).unwrap());
        assert!(trim_output(log.path(), 100_000).unwrap());
        writeln!(output, "after").unwrap();
        assert_eq!(fs::read_to_string(log.path().join(OUTPUT)).unwrap(), "after\n");
        let previous = fs::read_to_string(log.path().join(PREVIOUS)).unwrap();
        assert!(previous.ends_with("line 9999 of a flood\n") && previous.len() <= 64 << 10);
    }
}
