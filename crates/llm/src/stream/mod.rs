//! Framing: bytes as they come, cut anywhere, into messages.

mod events;
mod lines;

pub(crate) use self::events::Events;
pub(crate) use self::lines::{LIMIT, Lines, Overlong};

/// A reader of one framing.
#[derive(Debug)]
pub(crate) enum Frames {
    /// A message is a line (NDJSON).
    Lines(Lines),
    /// A message is a server-sent event.
    Events(Events),
}

impl Frames {
    /// Takes bytes from the network.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Lines(lines) => lines.push(bytes),
            Self::Events(events) => events.push(bytes),
        }
    }

    /// The next whole message.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, Overlong> {
        match self {
            Self::Lines(lines) => loop {
                match lines.next()? {
                    Some(line) if line.trim_ascii().is_empty() => {}
                    other => return Ok(other),
                }
            },
            Self::Events(events) => events.next(),
        }
    }

    /// What is left when the network has ended: a last message without its end mark.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        let rest = match self {
            Self::Lines(lines) => lines.finish(),
            Self::Events(events) => events.finish(),
        };
        rest.filter(|rest| !rest.trim_ascii().is_empty())
    }
}
