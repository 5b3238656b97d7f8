//! One broken rule.

use std::fmt;

/// A broken rule and its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    /// File, relative to the root of the repository.
    pub(super) file: String,
    /// Line, from 1.
    pub(super) line: usize,
    /// What is wrong and what is allowed.
    pub(super) what: String,
}

impl Finding {
    pub(super) fn new(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}
