//! Lines from bytes that are cut anywhere.

/// Most bytes of a line that are held.
pub(crate) const LIMIT: usize = 1 << 20;

/// A line grew past [`LIMIT`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overlong;

/// Cuts bytes into lines at LF; a CR before it goes with it. A CR alone ends no line: no model server writes that.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    held: Vec<u8>,
    /// Where the next line starts.
    start: usize,
    /// Up to where no LF was found, so that a long line is not searched again with every read.
    searched: usize,
}

impl Lines {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.held.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.held.extend_from_slice(bytes);
    }

    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, Overlong> {
        let found = self.held[self.searched..].iter().position(|byte| *byte == b'\n').map(|at| self.searched + at);
        let end = found.unwrap_or(self.held.len());
        if end - self.start > LIMIT {
            return Err(Overlong);
        }
        self.searched = found.map_or(end, |at| at + 1);
        if found.is_none() {
            return Ok(None);
        }
        let line = &self.held[self.start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        self.start = self.searched;
        Ok(Some(line))
    }

    /// The bytes after the last LF.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        let rest = self.held.split_off(self.start);
        *self = Self::default();
        (!rest.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &mut Lines) -> Vec<String> {
        std::iter::from_fn(|| lines.next().expect("short lines")).map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn lines_come_whole_however_the_bytes_are_cut() {
        let text = "{\"é\":1}\r\n\n{\"b\":\"\u{1f600}\"}\nrest";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for run in text.as_bytes().chunks(size) {
                lines.push(run);
                seen.extend(all(&mut lines));
            }
            assert_eq!(seen, ["{\"é\":1}", "", "{\"b\":\"\u{1f600}\"}"], "runs of {size}");
            assert_eq!(lines.finish().as_deref(), Some(b"rest".as_slice()));
            assert_eq!(lines.finish(), None);
        }
    }

    #[test]
    fn an_endless_line_is_refused_at_the_bound() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; LIMIT]);
        assert_eq!(lines.next(), Ok(None));
        lines.push(b"x");
        assert_eq!(lines.next(), Err(Overlong));
    }
}
