//! Where a text stands: it is the file, or a scalar of one.

use super::node::Node;
use super::problem::Position;

/// Where a text stands in its file.
#[derive(Debug)]
pub(super) struct Origin<'a> {
    file: &'a str,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// It is the file.
    File,
    /// Line for line in the file, from `line` on, `indent` columns further right.
    Block { line: u64, indent: u64 },
    /// Written so that its lines are not the file's (`"a\nb"`, `>`): all of it counts as standing here.
    At(Position),
}

impl<'a> Origin<'a> {
    pub(super) const fn file(text: &'a str) -> Self {
        Self { file: text, place: Place::File }
    }

    /// Of `text`, the scalar `node` of `file`.
    pub(super) fn of(file: &'a str, node: &Node, text: &str) -> Self {
        // A block scalar stands at its first line with a letter; the empty ones before it belong to the text.
        let empty = text.bytes().take_while(|byte| *byte == b'\n').count() as u64;
        let indent = node.position.column.saturating_sub(1);
        let place = match node.position.line.checked_sub(empty) {
            Some(line @ 1..) if is_block(file, text, line, indent) => Place::Block { line, indent },
            Some(_) | None => Place::At(node.position),
        };
        Self { file, place }
    }

    /// Where in the file a place in the text is.
    pub(super) const fn place(&self, position: Position) -> Position {
        match self.place {
            Place::File => position,
            Place::Block { line, indent } => {
                Position { line: line + position.line - 1, column: indent + position.column }
            }
            Place::At(position) => position,
        }
    }

    /// A line of the file, counted from 1.
    pub(super) fn line(&self, number: u64) -> Option<&'a str> {
        self.file.lines().nth(usize::try_from(number.checked_sub(1)?).ok()?)
    }
}

/// Whether the lines of `text` are those of `file` from `line` on, without their `indent`.
fn is_block(file: &str, text: &str, line: u64, indent: u64) -> bool {
    let (Ok(skipped), Ok(indent)) = (usize::try_from(line - 1), usize::try_from(indent)) else { return false };
    let mut outer = file.lines().skip(skipped);
    text.lines().all(|inner| {
        let outer = outer.next().unwrap_or_default();
        let start = outer.char_indices().nth(indent).map_or(outer.len(), |(at, _)| at);
        let (margin, rest) = outer.split_at(start);
        rest == inner && (inner.is_empty() || margin.bytes().all(|byte| byte == b' '))
    })
}
