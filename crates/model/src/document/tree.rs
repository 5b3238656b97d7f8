//! Walking a tree whose shape is not known beforehand.

use super::node::{Content, Dialect, Node, read};
use super::origin::Origin;
use super::problem::{Position, Problems};

impl Node {
    /// An empty mapping at the start of a file: what an empty file says.
    #[must_use]
    pub const fn empty() -> Self {
        Self { content: Content::Map(Vec::new()), position: Position::START }
    }

    /// Where it stands.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// What it is, for `found …`: `a list`, `the number 7`.
    #[must_use]
    pub fn found(&self) -> String {
        self.content.found()
    }

    /// Whether it is a key's missing value.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self.content, Content::Null)
    }

    /// Whether it is a mapping.
    #[must_use]
    pub const fn is_mapping(&self) -> bool {
        matches!(self.content, Content::Map(_))
    }

    /// Its text, where it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Content::Text(text) = &self.content { Some(text) } else { None }
    }

    /// The value that some keys lead to; of a key that stands twice the last.
    #[must_use]
    pub fn at(&self, keys: &[&str]) -> Option<&Self> {
        keys.iter()
            .try_fold(self, |node, key| node.entries().filter(|(name, _)| name == key).map(|(_, value)| value).last())
    }

    /// The keys of a mapping and their values, in file order; none where it is no mapping.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        let entries = if let Content::Map(entries) = &self.content { entries.as_slice() } else { &[] };
        entries.iter().map(|(key, value)| (key.name.as_str(), value))
    }

    /// The items of a list; none where it is no list.
    pub fn items(&self) -> impl Iterator<Item = &Self> {
        let items = if let Content::List(items) = &self.content { items.as_slice() } else { &[] };
        items.iter()
    }

    /// Reads the documents of the file that stands as a text within this one; none where it is no text.
    ///
    /// Places are those of the outer file, whose text is `outer`: exact where the text is a block (`|`), else the place
    /// where it begins.
    ///
    /// # Errors
    /// The one problem that keeps it from being read.
    pub fn embedded(&self, dialect: Dialect, file: &str, outer: &str) -> Result<Vec<Self>, Problems> {
        let Some(text) = self.text() else { return Ok(Vec::new()) };
        read(dialect, text, &Origin::of(outer, self, text)).map_err(|problem| Problems::new(file, vec![*problem]))
    }
}
