//! Reading workload files, and the traces they name.

use std::path::Path;

use cotenant_model::Nanoseconds;
use cotenant_model::workload::{Load, Workload};

use crate::exit::{Failure, Kind};

/// Reads and checks a workload file and its traces; every problem is told at once.
pub(crate) fn read(path: &Path) -> Result<Workload, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(Kind::Input, format!("cannot read workload `{}`: {error}", path.display()))
            .hint("a workload is a YAML file; `cotenant compare` without one compares two small decoders")
    })?;
    let mut workload = parse(&path.display().to_string(), &text)?;
    for tenant in &mut workload.tenants {
        if let Some(Load::Trace { file, arrivals }) = &mut tenant.load {
            *arrivals = read_trace(&path.parent().unwrap_or_else(|| Path::new(".")).join(&*file))?;
        }
    }
    Ok(workload)
}

/// Checks a workload text; `file` names it in problems.
pub(crate) fn parse(file: &str, text: &str) -> Result<Workload, Failure> {
    Workload::parse(file, text)
        .map_err(|problems| Failure::new(Kind::Input, format!("the workload has problems\n{problems}")))
}

/// Reads a trace: one arrival a line, in seconds from the start, rising; `#` begins a comment.
fn read_trace(path: &Path) -> Result<Vec<Nanoseconds>, Failure> {
    let wrong = |what: String| Failure::new(Kind::Input, format!("trace `{}`: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let mut arrivals: Vec<Nanoseconds> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let seconds =
            entry.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && (0.0..=86_400.0).contains(seconds));
        let seconds = seconds.ok_or_else(|| {
            wrong(format!("line {}: `{}` is not a number of seconds from 0 to 86400", number + 1, shown(entry)))
        })?;
        let arrival = Nanoseconds::from_seconds(seconds);
        if arrivals.last().is_some_and(|last| *last > arrival) {
            return Err(wrong(format!(
                "line {}: {seconds} comes after a later arrival; arrivals must rise",
                number + 1
            )));
        }
        arrivals.push(arrival);
    }
    if arrivals.last().is_none_or(|last| last.0 == 0) {
        return Err(wrong("it has no arrival after 0 s".to_owned()));
    }
    Ok(arrivals)
}

/// The beginning of what a file says, fit for a terminal.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(40).flat_map(char::escape_default).collect();
    if text.chars().nth(40).is_some() { start + "…" } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a trace of this text reads as: arrivals in nanoseconds, or the failure.
    fn trace(text: &str) -> (Vec<u64>, String) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("trace.txt");
        std::fs::write(&path, text).expect("file");
        match read_trace(&path) {
            Ok(arrivals) => (arrivals.iter().map(|arrival| arrival.0).collect(), String::new()),
            Err(failure) => (Vec::new(), format!("{failure:?}")),
        }
    }

    #[test]
    fn a_trace_is_read_and_its_mistakes_are_named_by_line() {
        assert_eq!(trace("# seconds\n0\n0.5 # half\n\n1\n"), (vec![0, 500_000_000, 1_000_000_000], String::new()));
        for (text, words) in [
            ("0.5\n0.25\n", "line 2"),
            ("x\n", "line 1"),
            ("-1\n1", "line 1"),
            ("# none\n", "no arrival"),
            ("nan\n2", "line 1"),
            ("\u{1b}[2J\n", "u{1b}"),
        ] {
            assert!(trace(text).1.contains(words), "{text}");
        }
    }
}
