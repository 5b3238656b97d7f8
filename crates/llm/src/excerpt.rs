//! A server's text made fit for a message: short, on one line, without control characters.

/// Characters of a server's text that a message may hold.
const LIMIT: usize = 160;

/// The first words of `text`, printable. Controls and characters that turn the direction of text become spaces, and runs
/// of space become one, so a server cannot colour, forge or hide lines of a terminal.
pub(crate) fn excerpt(text: &str) -> String {
    let unsafe_in_line = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let printable = text.chars().take(LIMIT * 8).map(|c| if unsafe_in_line(c) { ' ' } else { c });
    let words = printable.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// The first words of bytes that should have been text.
pub(crate) fn excerpt_bytes(bytes: &[u8]) -> String {
    excerpt(&String::from_utf8_lossy(&bytes[..bytes.len().min(LIMIT * 16)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_survives() {
        assert_eq!(excerpt("\x1b[31mred\x07\r\nnext\u{202e}line\0"), "[31mred next line");
    }

    #[test]
    fn long_text_ends_in_an_ellipsis_and_not_inside_a_letter() {
        let shown = excerpt(&"é".repeat(10_000));
        assert_eq!(shown.chars().count(), LIMIT + 1);
        assert!(shown.ends_with('…'));
        assert_eq!(excerpt_bytes(&[0xff, b'a']), "\u{fffd}a");
    }
}
