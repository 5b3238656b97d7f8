//! Text from files, made safe to show: a tenant's name or last words may hold anything.

/// The text on one line, without control characters (escape sequences among them) and without invisible characters that
/// reorder or hide what stands beside them.
pub(crate) fn printable(text: &str) -> String {
    let spaced = text.replace(['\n', '\r', '\t'], " ");
    spaced.chars().filter(|c| !c.is_control() && !is_invisible(*c)).collect::<String>().trim().to_owned()
}

/// Zero-width characters and the controls of bidirectional text.
const fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The printable text, cut to `width` characters with `…` at its end when it was longer.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    let clean = printable(text);
    if clean.chars().count() <= width {
        return clean;
    }
    let kept: String = clean.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// The text in lines of at most `width` characters, broken between words; a word that is longer is cut.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word = shortened(word, width);
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// Words as a sentence lists them: `a, b and c`.
pub(crate) fn listed(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The printable text with Markdown's and HTML's own characters escaped.
pub(crate) fn markdown(text: &str) -> String {
    let mut escaped = String::new();
    for character in printable(text).chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_hidden_characters_do_not_pass() {
        assert_eq!(printable("a\u{1b}[31mred\u{7}\nb\u{202e}c\u{9b}2J"), "a[31mred bc2J");
    }

    #[test]
    fn long_text_ends_in_an_ellipsis_and_fits() {
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("abcd", 4), "abcd");
        assert_eq!(wrapped("aa bb ccc dddddddd", 5), ["aa bb", "ccc", "dddd…"]);
    }

    #[test]
    fn a_list_ends_in_and() {
        let list = |words: &[&str]| listed(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!([list(&[]), list(&["a"]), list(&["a", "b", "c"])], ["", "a", "a, b and c"]);
    }

    #[test]
    fn markdown_cannot_be_injected() {
        assert_eq!(markdown("a|b <img> [x](y)"), r"a\|b &lt;img&gt; \[x\](y)");
    }
}
