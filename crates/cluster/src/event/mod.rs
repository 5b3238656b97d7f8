//! Events: what the agent has to say about a pod or its node, where `kubectl describe` shows it.

mod ledger;
mod reporter;

pub use reporter::{EventReporter, Events};

use crate::pod::Pod;

/// Longest note that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;

/// One thing to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// About what.
    pub regarding: Regarding,
    /// How serious it is.
    pub kind: EventKind,
    /// Why, one word in upper camel case for programs, such as `MpsFault`.
    pub reason: &'static str,
    /// What was done about it, one word in upper camel case, such as `Recovering`.
    pub action: &'static str,
    /// The sentence for people; cut at 1,024 bytes.
    pub note: String,
}

/// How serious an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// For information.
    Normal,
    /// Somebody should look.
    Warning,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Regarding {
    /// A node.
    Node {
        /// Its name.
        name: String,
    },
    /// A pod.
    Pod {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Identity.
        uid: String,
    },
}

impl Regarding {
    /// A node, by its name.
    #[must_use]
    pub fn node(name: impl Into<String>) -> Self {
        Self::Node { name: name.into() }
    }
}

impl From<&Pod> for Regarding {
    fn from(pod: &Pod) -> Self {
        Self::Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() }
    }
}

/// `text`, cut at a character so that the API server takes it.
fn cut(mut text: String) -> String {
    if text.len() > LONGEST_NOTE {
        text.truncate(text.floor_char_boundary(LONGEST_NOTE - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_at_a_character() {
        let note = cut("ü".repeat(1000));
        assert!(note.len() <= LONGEST_NOTE && note.ends_with("ü…"), "{} bytes", note.len());
        assert_eq!(cut("short".to_owned()), "short");
    }
}
