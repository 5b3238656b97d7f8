//! Durations as Go's `time.ParseDuration` reads them: `60s`, `1h30m`, `1.5h`.

use std::ops::RangeInclusive;

use crate::Nanoseconds;
use crate::document::Lines;
use crate::document::quantity::{shown, unit_missing, within};

/// One second.
pub(super) const SECOND: Nanoseconds = Nanoseconds(1_000_000_000);

/// Reads a duration within `range`; its start where it is none.
pub(super) fn duration(path: &str, text: &str, range: RangeInclusive<Nanoseconds>, lines: &mut Lines) -> Nanoseconds {
    if let Some(duration) = parse(text) {
        return within(path, duration, range, lines);
    }
    let fix = unit_missing(text, "s").unwrap_or_else(|| "write numbers with their units: 30s, 5m, 1h30m".to_owned());
    lines.problem(path, format!("`{}` is not a duration", shown(text)), fix);
    *range.start()
}

/// The duration that a text says; a negative one is none.
pub(super) fn parse(text: &str) -> Option<Nanoseconds> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Nanoseconds(0));
    }
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (digits, tail) = rest.split_at(number);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let Nanoseconds(part) = part(digits, unit)?;
        sum = sum.checked_add(part)?;
        rest = tail;
    }
    text.ends_with(char::is_alphabetic).then_some(Nanoseconds(sum))
}

/// One number with its unit; Go takes `.5s` and `5.s` too.
fn part(digits: &str, unit: &str) -> Option<Nanoseconds> {
    if !digits.contains(|c: char| c.is_ascii_digit()) || unit.contains(char::is_whitespace) {
        return None;
    }
    let unit = if matches!(unit, "µs" | "μs") { "us" } else { unit };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (whole, fraction) = (if whole.is_empty() { "0" } else { whole }, fraction.get(..9).unwrap_or(fraction));
    let text = if fraction.is_empty() { format!("{whole}{unit}") } else { format!("{whole}.{fraction}{unit}") };
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, seconds) in [
            ("60s", 60.0),
            ("1h30m", 5400.0),
            ("1.5h", 5400.0),
            (".5s", 0.5),
            ("5.s", 5.0),
            ("+1m0s", 60.0),
            ("0", 0.0),
        ] {
            assert_eq!(parse(text).map(Nanoseconds::seconds), Some(seconds), "{text}");
        }
        assert_eq!(parse("100µs"), Some(Nanoseconds(100_000)));
        assert_eq!(parse("1.00000000099s"), Some(SECOND));
        for text in ["", "+", "5", "-5s", "s", ".s", "1x", "5 s", "1d", "9999999h", "infinite", "1..5s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
