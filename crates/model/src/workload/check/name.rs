//! Names: lower-case DNS labels, so that they can also name folders, processes and Kubernetes objects.

use crate::document::{Lines, quantity};
use crate::workload::raw;

/// Reports a name that is no lower-case DNS label (RFC 1123: at most 63 letters, digits and inner `-`).
pub(super) fn label(path: &str, name: &str, lines: &mut Lines) {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.is_empty()
        && name.len() <= 63
        && name.chars().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
    {
        return;
    }
    let shown: String = name.chars().take(60).flat_map(char::escape_debug).collect();
    let fix = match suggestion(name) {
        Some(label) => format!("write `{label}`: up to 63 lower-case letters, digits and `-` inside"),
        None => "use up to 63 lower-case letters, digits and `-` inside".to_owned(),
    };
    lines.problem(path, format!("`{shown}` is not a name"), fix);
}

fn suggestion(name: &str) -> Option<String> {
    let folded: String =
        name.chars().take(63).map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let label = folded.trim_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

/// The names of an entry: its own, or `NAME-1` to `NAME-count`.
pub(super) fn expanded(path: &str, raw: &raw::Tenant, lines: &mut Lines) -> Vec<String> {
    let name_path = format!("{path}.name");
    let Some(count) = raw.count else {
        label(&name_path, &raw.name, lines);
        return vec![raw.name.clone()];
    };
    let count = quantity::within(&format!("{path}.count"), count, 1..=48, lines).min(48);
    let names: Vec<String> = (1..=count).map(|number| format!("{}-{number}", raw.name)).collect();
    match names.last() {
        Some(longest) if longest.len() > 63 && raw.name.len() <= 63 => {
            lines.problem(
                &name_path,
                format!("`{longest}` is longer than 63 characters"),
                "shorten the name".to_owned(),
            );
        }
        _ => label(&name_path, &raw.name, lines),
    }
    names
}
