//! What daemons and servers write: read line by line, as it comes.
//!
//! Whoever can reach the daemon's `log` pipe, every client, can write a line there. A line is a reason to ask
//! ([`crate::Dialogue::examine`] takes some milliseconds), not a proof.

mod line;
mod watch;

pub use line::{Entry, Line, Role, parse_line};
pub use watch::{LogWatch, News};
