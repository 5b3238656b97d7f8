//! Server-sent events (HTML standard, section 9.2), as far as model servers use them.

use super::lines::{LIMIT, Lines, Overlong};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads the data of events. Comments, `event`, `id` and `retry` are passed over; a field `error`, which older
/// llama-servers write instead of `data`, is read as data.
#[derive(Debug, Default)]
pub(crate) struct Events {
    lines: Lines,
    data: Option<Vec<u8>>,
    begun: bool,
}

impl Events {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.lines.push(bytes);
    }

    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, Overlong> {
        while let Some(line) = self.lines.next()? {
            if line.is_empty() {
                if let Some(data) = self.data.take() {
                    return Ok(Some(data));
                }
                continue;
            }
            self.field(&line)?;
        }
        Ok(None)
    }

    /// The last event, when the network ended before its empty line.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        let last = self.lines.finish().unwrap_or_default();
        self.field(&last).ok()?;
        self.data.take()
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Overlong> {
        let line = if self.begun { line } else { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) };
        self.begun = true;
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" | b"error" => self.append(value),
            b"" | b"event" | b"id" | b"retry" => Ok(()),
            // Not the event format at all: let the reader of messages say so.
            _ if self.data.is_none() => self.append(line),
            _ => Ok(()),
        }
    }

    fn append(&mut self, value: &[u8]) -> Result<(), Overlong> {
        match &mut self.data {
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            None => self.data = Some(value.to_vec()),
        }
        if self.data.as_ref().is_some_and(|data| data.len() > LIMIT) { Err(Overlong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, size: usize) -> Vec<String> {
        let mut events = Events::default();
        let mut seen = Vec::new();
        for run in text.as_bytes().chunks(size) {
            events.push(run);
            while let Some(event) = events.next().expect("short events") {
                seen.push(event);
            }
        }
        seen.extend(events.finish());
        seen.into_iter().map(|event| String::from_utf8(event).unwrap()).collect()
    }

    #[test]
    fn events_come_whole_however_the_bytes_are_cut() {
        let text = "\u{feff}: ping\r\nevent: message\r\ndata: {\"a\":\r\ndata:\"é\u{1f600}\"}\r\nid: 1\r\n\r\n: pong\n\nretry: 5\n\ndata\n\ndata: [DONE]";
        for size in 1..=text.len() {
            assert_eq!(read(text, size), ["{\"a\":\n\"é\u{1f600}\"}", "", "[DONE]"], "runs of {size}");
        }
    }

    #[test]
    fn an_error_field_is_read_as_data() {
        assert_eq!(read("error: {\"code\":500}\n\n", 64), ["{\"code\":500}"]);
    }

    #[test]
    fn an_event_of_endless_lines_is_refused_at_the_bound() {
        let mut events = Events::default();
        let line = [b"data: ".as_slice(), &vec![b'x'; LIMIT / 2], b"\n"].concat();
        events.push(&line);
        assert_eq!(events.next(), Ok(None));
        events.push(&line);
        assert_eq!(events.next(), Err(Overlong));
    }
}
