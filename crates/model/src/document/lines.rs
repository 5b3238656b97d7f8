//! Where each value of a file stands, and the problems found so far.

use std::collections::BTreeMap;

use super::node::{Content, Node};
use super::problem::{Position, Problem, Problems};

/// The places of a file's values and the problems found in it so far.
///
/// Whoever holds it adds what else is wrong with [`Self::problem`] and must end with [`Self::finish`]: problems of
/// shape that [`parse`](super::parse) found are waiting in it.
#[derive(Debug)]
#[must_use = "problems found so far are lost unless `finish` is called"]
pub struct Lines {
    file: String,
    positions: BTreeMap<String, Position>,
    problems: Vec<Problem>,
    notes: Vec<Problem>,
    /// Paths whose value could not be read.
    unread: Vec<String>,
}

impl Lines {
    pub(super) fn new(file: &str, root: &Node) -> Self {
        let mut positions = BTreeMap::new();
        collect(root, String::new(), root.position, &mut positions);
        Self { file: file.to_owned(), positions, problems: Vec::new(), notes: Vec::new(), unread: Vec::new() }
    }

    /// Where the value at `path` (`tenants[1].slo[0].atMost`) stands, or the nearest value around it that is there.
    ///
    /// A scalar stands at its first character, a mapping or list at its key.
    #[must_use]
    pub fn position(&self, path: &str) -> Position {
        let mut rest = path;
        loop {
            if let Some(position) = self.positions.get(rest) {
                return *position;
            }
            if rest.is_empty() {
                return Position::START;
            }
            rest = parent(rest);
        }
    }

    /// Adds a problem of the value at `path`.
    ///
    /// It is dropped when that value or a part of it could not be read: it may only follow from that, and the next run
    /// says it if it still holds.
    pub fn problem(&mut self, path: &str, message: impl Into<String>, fix: impl Into<Option<String>>) {
        if self.is_unread(path) {
            return;
        }
        let (position, path) = (self.position(path), path.to_owned());
        self.problems.push(Problem { position, path, message: message.into(), fix: fix.into() });
    }

    /// Adds a note on the value at `path`: it is accepted, but does not do what its writer may think. Dropped where
    /// [`Self::problem`] would be.
    pub fn note(&mut self, path: &str, message: impl Into<String>, fix: impl Into<Option<String>>) {
        if !self.is_unread(path) {
            let (position, path) = (self.position(path), path.to_owned());
            self.notes.push(Problem { position, path, message: message.into(), fix: fix.into() });
        }
    }

    /// Adds a note on a place that no path leads to.
    pub fn note_at(&mut self, position: Position, message: impl Into<String>, fix: impl Into<Option<String>>) {
        self.notes.push(Problem { position, path: String::new(), message: message.into(), fix: fix.into() });
    }

    /// The notes so far, in the order of their places.
    #[must_use]
    pub fn notes(&self) -> Vec<Problem> {
        let mut notes = self.notes.clone();
        notes.sort_by_key(|note| note.position);
        notes
    }

    /// Whether the value at `path`, or a part of it, could not be read.
    #[must_use]
    pub fn is_unread(&self, path: &str) -> bool {
        self.unread.iter().any(|unread| is_within(unread, path))
    }

    /// Ends the checks: `checked` when there is no problem.
    ///
    /// # Errors
    /// All problems, those of shape included.
    pub fn finish<T>(self, checked: T) -> Result<T, Problems> {
        if self.problems.is_empty() { Ok(checked) } else { Err(self.into_problems()) }
    }

    pub(super) fn into_problems(self) -> Problems {
        let notes = self.notes();
        Problems::new(&self.file, self.problems).with_notes(notes)
    }

    /// Adds a problem because of which a value cannot be read.
    pub(super) fn push_unread(&mut self, problem: Problem) {
        self.unread.push(problem.path.clone());
        self.problems.push(problem);
    }

    pub(super) fn push_note(&mut self, note: Problem) {
        self.notes.push(note);
    }

    /// Says where the value at `path` stands, whose keys are written in another letter case.
    pub(super) fn rename(&mut self, path: &str, position: Position) {
        self.positions.insert(path.to_owned(), position);
    }
}

/// Adds the places of a value and its parts.
pub(super) fn collect(node: &Node, path: String, position: Position, positions: &mut BTreeMap<String, Position>) {
    match &node.content {
        Content::Map(entries) => {
            for (key, value) in entries {
                let scalar = !matches!(value.content, Content::Map(_) | Content::List(_));
                let at = if scalar { value.position } else { key.position };
                collect(value, member(&path, &key.name), at, positions);
            }
        }
        Content::List(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, format!("{path}[{index}]"), item.position, positions);
            }
        }
        Content::Null
        | Content::Bool(_)
        | Content::Whole(_)
        | Content::Negative(_)
        | Content::Real(_)
        | Content::Text(_) => {}
    }
    positions.insert(path, position);
}

/// The path of a key in the mapping at `path`.
pub(super) fn member(path: &str, key: &str) -> String {
    let key: String = key.chars().take(60).flat_map(char::escape_debug).collect();
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn parent(path: &str) -> &str {
    path.rfind(['.', '[']).and_then(|end| path.get(..end)).unwrap_or_default()
}

/// Whether `path` is `around` or stands within it.
fn is_within(path: &str, around: &str) -> bool {
    around.is_empty() || path.strip_prefix(around).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
