//! Numbers and quantities within their bounds.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::Lines;
use crate::{Bytes, Nanoseconds};

/// Largest size of anything in GPU memory, above every GPU that is sold: 1 TiB.
pub(crate) const MAXIMUM_BYTES: Bytes = Bytes(1 << 40);

/// Reports a value outside `range`.
pub(crate) fn within<T: Display + PartialOrd + Copy>(
    path: &str,
    value: T,
    range: RangeInclusive<T>,
    lines: &mut Lines,
) -> T {
    if !range.contains(&value) {
        let (least, most) = (range.start(), range.end());
        let message = if value < *least { "is too small" } else { "is too large" };
        lines.problem(path, format!("{value} {message}"), format!("write a value from {least} to {most}"));
    }
    value
}

/// Reads a duration within `range`.
pub(crate) fn duration(path: &str, text: &str, range: RangeInclusive<Nanoseconds>, lines: &mut Lines) -> Nanoseconds {
    match text.parse() {
        Ok(duration) => within(path, duration, range, lines),
        Err(_not_a_duration) => {
            let fix =
                unit_missing(text, "s").unwrap_or_else(|| "write a number and its unit: 250us, 5ms, 1.5s or 2m".into());
            lines.problem(path, format!("`{}` is not a duration", shown(text)), fix);
            *range.start()
        }
    }
}

/// Reads a size of device memory, above 0 and at most 1 TiB; `Bytes(0)` where it is none.
pub(crate) fn bytes(path: &str, text: &str, lines: &mut Lines) -> Bytes {
    size(path, text, Bytes(1)..=MAXIMUM_BYTES, lines).unwrap_or_default()
}

/// Reads a size within `range`; `None` where it is none.
pub(crate) fn size(path: &str, text: &str, range: RangeInclusive<Bytes>, lines: &mut Lines) -> Option<Bytes> {
    if let Ok(size) = text.parse() {
        return Some(within(path, size, range, lines));
    }
    let kubernetes = format!("{}B", text.trim());
    let fix = if kubernetes.ends_with("iB") && kubernetes.parse::<Bytes>().is_ok() {
        format!("write `{kubernetes}`")
    } else {
        unit_missing(text, "GiB").unwrap_or_else(|| "write a number and its unit: 512MiB or 2GiB".into())
    };
    lines.problem(path, format!("`{}` is not a size", shown(text)), fix);
    None
}

/// How to write a bare number with its unit.
pub(crate) fn unit_missing(text: &str, unit: &str) -> Option<String> {
    let number = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    number.then(|| format!("write the unit too, such as `{text}{unit}`"))
}

/// The beginning of a text from outside, for a message: control characters escaped.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}
