//! Guessing the word that was meant, and quoting the one that was written.

/// The known word nearest to `written`, if it is near enough to have been meant: within a third of its letters, letter
/// case, `-` and `_` aside.
#[must_use]
pub fn closest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = fold(written);
    if plain.len() > 64 {
        return None;
    }
    let (distance, word) = known.into_iter().map(|word| (edits(&plain, &fold(word)), word)).min()?;
    (distance <= word.chars().count().div_ceil(3)).then_some(word)
}

fn fold(word: &str) -> Vec<char> {
    word.chars().filter(|letter| !matches!(letter, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// Insertions, removals and replacements between two words (Levenshtein).
fn edits(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, left) in from.iter().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (right, cell) in to.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(left != right);
            diagonal = *cell;
            *cell = replaced.min(before + 1).min(diagonal + 1);
            before = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(from.len())
}

/// A text from outside for a message: control characters escaped, no longer than 60 characters.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_single_letters() {
        for (from, to, count) in [("kitten", "sitting", 3), ("", "abc", 3), ("load", "load", 0), ("lod", "load", 1)] {
            assert_eq!(edits(&fold(from), &fold(to)), count, "{from} to {to}");
        }
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        assert_eq!(closest("at_most", ["atMost", "slowdownAtMost"]), Some("atMost"));
        assert_eq!(closest("tenant", ["tenants", "metadata"]), Some("tenants"));
        assert_eq!(closest("replicas", ["tenants", "metadata"]), None);
    }

    #[test]
    fn a_quoted_text_cannot_steer_a_terminal() {
        assert_eq!(quoted("a\u{1b}[2J\0"), "`a\\u{1b}[2J\\0`");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 63);
    }
}
