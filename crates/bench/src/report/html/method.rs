//! How it was measured: hardware, settings, the formula of every figure, notes, and where the record is.

use maud::{Markup, html};

use super::Page;
use crate::report::Report;
use crate::report::figure::{NONE, or_none};
use crate::report::table::header;
use crate::report::text::printable;

/// Each figure and how it is computed.
const FORMULAS: [(&str, &str); 14] = [
    ("throughput", "units done inside the window ÷ its length; a unit that spans an edge counts by the part inside"),
    ("progress", "throughput ÷ throughput of the same tenant alone, in the same run"),
    ("aggregate", "Σ progress over the tenants (system throughput, STP); 1 is what one tenant alone does"),
    ("× best solo", "Σ throughput ÷ the best tenant's throughput alone; only where all count the same unit"),
    ("TTFT", "first token − intended start"),
    ("TPOT", "(E2E − TTFT) ÷ (tokens − 1), for requests of two tokens and more"),
    ("ITL", "time from one token to the next, of all tokens of all requests"),
    ("E2E", "last token − intended start; in an open loop the start is when the request was due, not when it was sent"),
    (
        "percentile",
        "from the repeats' histograms added up, never a mean of percentiles; its interval is distribution-free",
    ),
    ("slowdown", "percentile ÷ the same percentile of the tenant alone"),
    ("goodput", "requests a second that met every SLO of the tenant; a failed or unfinished request met none"),
    ("Jain", "(Σx)² ÷ (n·Σx²) over progress; 1 is fair, 1/n is one tenant taking all"),
    (
        "J per unit",
        "energy counter of the whole board over the window ÷ units of all tenants together, idle power included",
    ),
    ("$ per 1M", "price of the GPU an hour ÷ 3,600 ÷ units a second × 1,000,000"),
];

/// The last section of the page.
pub(crate) fn section(page: &Page<'_>, raw: &str) -> Markup {
    let report = &page.report;
    html! {
        section id="method" {
            h2 { "How it was measured" }
            dl { @for (name, value) in facts(report) { dt { (name) } dd { (value) } } }
            h3 { "Formulas" }
            dl { @for (name, formula) in FORMULAS { dt { (name) } dd { (formula) } } }
            h3 { "Notes" }
            @if report.run.notes.is_empty() { p { "None: no foreign process, no gap in telemetry, no clock that moved." } }
            ul { @for note in &report.run.notes { li { (printable(note)) } } }
            h3 { "Raw data" }
            p { "Every figure above is derived from " a href=(link(raw)) { (printable(raw)) } ", and can be again: "
                code { "cotenant report " (printable(raw)) } }
        }
    }
}

/// A relative path; anything that could be a scheme is kept from being one.
fn link(raw: &str) -> String {
    let path = printable(raw);
    if path.contains(':') { format!("./{path}") } else { path }
}

fn facts(report: &Report<'_>) -> Vec<(&'static str, String)> {
    let run = report.run;
    let gpu = &run.host.gpu;
    let pair = |pair: Option<(u32, u32)>| or_none(pair, |(major, minor)| format!("{major}.{minor}"));
    let watts = or_none(gpu.power_limit_milliwatts, |limit| format!("{} W", limit / 1000));
    let clock = or_none(gpu.max_sm_clock_mhz, |clock| format!("{clock} MHz"));
    let mode = or_none(gpu.compute_mode, |mode| format!("{mode:?}").to_lowercase());
    let mig = or_none(gpu.mig, |on| (if on { "on" } else { "off" }).to_owned());
    let commit = run.program.commit.as_deref().map_or_else(|| NONE.to_owned(), printable);
    vec![
        (
            "GPU",
            format!(
                "{}, {}, {} SMs",
                printable(&gpu.name),
                gpu.memory,
                or_none(run.host.multiprocessors, |n| n.to_string())
            ),
        ),
        ("compute capability", pair(gpu.compute_capability)),
        ("driver", format!("{}, CUDA {}", printable(&run.host.driver.version), pair(run.host.driver.cuda))),
        ("power limit, top clock", format!("{watts}, {clock}")),
        ("compute mode, MIG", format!("{mode}, {mig}")),
        (
            "host",
            format!(
                "{} processors, {}",
                run.host.processors,
                run.host.kernel.as_deref().map_or_else(|| NONE.to_owned(), printable)
            ),
        ),
        ("measurement", header::settings(report)),
        ("telemetry", format!("a reading every {}", run.settings.telemetry_interval)),
        ("price", header::price(report)),
        ("program", format!("cotenant {} · commit {commit}", printable(&run.program.version))),
    ]
}
