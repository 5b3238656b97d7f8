//! The head of the terminal report: where, how and when it was measured, and at what price.

use super::{Line, Tone};
use crate::report::Report;
use crate::report::figure::money;
use crate::report::text::{printable, wrapped};

/// The head, wrapped to `width`.
pub(crate) fn lines(report: &Report<'_>, width: usize) -> Vec<Line> {
    let run = report.run;
    let title = format!("{} on {}", printable(&run.name), printable(&run.host.gpu.name));
    let mut lines = vec![(Tone::Strong, title)];
    let description = run.description.iter().map(|text| printable(text));
    for sentence in description.chain([driver(report), settings(report), price(report)]) {
        lines.extend(wrapped(&sentence, width).into_iter().map(|line| (Tone::Plain, line)));
    }
    lines
}

fn driver(report: &Report<'_>) -> String {
    let host = &report.run.host;
    let cuda = host.driver.cuda.map_or_else(String::new, |(major, minor)| format!(" (CUDA {major}.{minor})"));
    let multiprocessors = host.multiprocessors.map_or_else(String::new, |count| format!(", {count} SMs"));
    let program = &report.run.program;
    let commit = program.commit.as_ref().map_or_else(String::new, |commit| format!(" ({})", printable(commit)));
    format!(
        "driver {}{cuda} · {}{multiprocessors} · cotenant {}{commit}",
        printable(&host.driver.version),
        host.gpu.memory,
        printable(&program.version)
    )
}

/// Repeats, windows, seed and date of a run.
pub(crate) fn settings(report: &Report<'_>) -> String {
    let settings = &report.run.settings;
    format!(
        "{} × {} after {} of warm-up, arms interleaved · seed {} · {}",
        settings.repeats,
        settings.duration,
        settings.warmup,
        settings.seed,
        printable(&report.run.started)
    )
}

/// The price and where it comes from.
pub(crate) fn price(report: &Report<'_>) -> String {
    report.summary.price.as_ref().map_or_else(
        || "no price: none was given and none is bundled for this GPU".to_owned(),
        |price| format!("{} an hour: {}", money(price.per_hour), printable(&price.source)),
    )
}
