//! What daemons and servers write: read line by line, as it comes.
//!
//! Whoever can reach the daemon's `log` pipe, every client, can write there, also through a read-only mount: what it writes may
//! pass for a line, and on driver 580 anything that is no log ends the logging for good ([`Entry::LogBroken`]). So a line is a
//! reason to ask ([`crate::Dialogue::examine`] takes some milliseconds), not a proof, and asking now and then must stand
//! behind the logs.

mod line;
mod watch;

pub use line::{Entry, Line, Role, parse_line};
pub use watch::{LogWatch, News};
