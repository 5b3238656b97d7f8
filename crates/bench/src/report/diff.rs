//! Two runs side by side.

use serde::Serialize;

use super::Report;
use super::figure::{percentile, ratio_spread, spread, times};
use super::interval::{self, Difference};
use super::table::{Column, Line, TableStyle, Tone, blank, fitted, name, written};
use super::text::{printable, shortened, wrapped};
use super::view;
use crate::summary::{ArmSummary, Estimate, Percentile, TenantSummary};

/// One figure of both runs.
#[derive(Debug, Serialize)]
struct Row {
    arm: String,
    figure: String,
    a: String,
    b: String,
    ratio: String,
    verdict: &'static str,
}

/// Every arm's and tenant's throughput and latency in both runs, with B ÷ A and whether the difference exceeds the spread.
///
/// Two figures differ when their 95 % confidence intervals do not overlap; otherwise the line says `no difference seen`.
/// What else differs between the runs (GPU, driver, workload, settings) is said above the table.
#[must_use]
pub fn diff(a: &Report<'_>, b: &Report<'_>, style: TableStyle) -> String {
    let mut lines = vec![(Tone::Strong, run_line("A", a, style.width)), (Tone::Strong, run_line("B", b, style.width))];
    for warning in warnings(a, b) {
        lines.extend(wrapped(&warning, style.width).into_iter().map(|line| (Tone::Bad, line)));
    }
    lines.push(blank());
    lines.extend(table(&rows(a, b), style.width));
    lines.extend(missing(a, b));
    let note = "Differences are those whose 95 % confidence intervals do not overlap; ±: that interval.";
    lines.extend(wrapped(note, style.width).into_iter().map(|line| (Tone::Faint, line)));
    written(&lines, "", style.color)
}

/// The same for programs (`--output json`): one object with `schema`, `warnings` and `rows`.
///
/// # Errors
/// Never for text; the encoder's error otherwise.
pub fn diff_json(a: &Report<'_>, b: &Report<'_>) -> Result<String, serde_json::Error> {
    /// Layout of the object; raised when a field changes its meaning or leaves.
    const SCHEMA: u32 = 1;
    #[derive(Serialize)]
    struct Differences {
        schema: u32,
        a: String,
        b: String,
        warnings: Vec<String>,
        rows: Vec<Row>,
    }
    let title = |report: &Report<'_>| format!("{} {}", report.run.name, report.run.started);
    let differences =
        Differences { schema: SCHEMA, a: title(a), b: title(b), warnings: warnings(a, b), rows: rows(a, b) };
    serde_json::to_string_pretty(&differences).map(|text| text + "\n")
}

fn run_line(letter: &str, report: &Report<'_>, width: usize) -> String {
    let run = report.run;
    let marks = report.marks();
    let marks = if marks.is_empty() { String::new() } else { format!(" · {}", marks.join(", ")) };
    let text = format!("{letter}  {} on {} · {}{marks}", run.name, run.host.gpu.name, run.started);
    shortened(&text, width)
}

/// What makes a comparison of the two runs say something else than it seems to.
fn warnings(a: &Report<'_>, b: &Report<'_>) -> Vec<String> {
    let driver = |report: &Report<'_>| report.run.host.driver.version.clone();
    let window = |report: &Report<'_>| {
        let settings = &report.run.settings;
        format!("{} × {} after {}", settings.repeats, settings.duration, settings.warmup)
    };
    let differing = |what: &str, a: String, b: String| {
        (a != b).then(|| format!("! {what} differs: A {}, B {}", printable(&a), printable(&b)))
    };
    let mut warnings: Vec<String> = [
        differing("GPU", a.run.host.gpu.name.clone(), b.run.host.gpu.name.clone()),
        differing("driver", driver(a), driver(b)),
        differing("workload", a.run.name.clone(), b.run.name.clone()),
        differing("measurement", window(a), window(b)),
        differing("seed", a.run.settings.seed.to_string(), b.run.settings.seed.to_string()),
        differing("program", a.run.program.version.clone(), b.run.program.version.clone()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if a.run.name == b.run.name && a.run.tenants != b.run.tenants {
        warnings.push("! the tenants differ, though the workload's name is the same".to_owned());
    }
    warnings
}

fn rows(a: &Report<'_>, b: &Report<'_>) -> Vec<Row> {
    let pairs = a.summary.arms.iter().filter_map(|arm| view::arm(b.summary, &arm.arm).map(|other| (arm, other)));
    pairs.flat_map(|(one, other)| arm_rows(a, b, one, other)).collect()
}

fn arm_rows(a: &Report<'_>, b: &Report<'_>, one: &ArmSummary, other: &ArmSummary) -> Vec<Row> {
    let arm = name(&one.arm.to_string());
    let mut rows = Vec::new();
    if let (Some(before), Some(now)) = (&one.aggregate, &other.aggregate) {
        let row = estimate_row(&arm, "aggregate".to_owned(), (before, now));
        rows.push(Row { a: ratio_spread(before), b: ratio_spread(now), ..row });
    }
    for before in &one.tenants {
        if let Some(now) = other.tenants.iter().find(|now| now.name == before.name) {
            rows.extend(tenant_rows(&arm, (a, before), (b, now)));
        }
    }
    rows
}

fn tenant_rows(arm: &str, a: (&Report<'_>, &TenantSummary), b: (&Report<'_>, &TenantSummary)) -> Vec<Row> {
    let (before, now) = (a.1, b.1);
    let tenant = name(&before.name);
    let mut rows = Vec::new();
    if let (Some(before), Some(after)) = (&before.throughput, &now.throughput) {
        rows.push(estimate_row(arm, format!("{tenant} {}/s", now.unit.plural()), (before, after)));
    }
    let metric = view::metric(a.0.summary, &before.name);
    let latencies =
        metric.and_then(|metric| Some((metric, before.latencies.get(&metric)?, now.latencies.get(&metric)?)));
    if let Some((metric, before, after)) = latencies {
        let figure = |which| format!("{tenant} {} {which}", metric.label());
        rows.push(percentile_row(arm, figure("p50"), (&before.p50, &after.p50)));
        rows.push(percentile_row(arm, figure("p99"), (&before.p99, &after.p99)));
    }
    rows
}

fn estimate_row(arm: &str, figure: String, (a, b): (&Estimate, &Estimate)) -> Row {
    let verdict = match interval::estimates(Some(b), Some(a)) {
        Some(Difference::Above) => "faster",
        Some(Difference::Below) => "slower",
        Some(Difference::Unseen) => "no difference seen",
        None => "one repeat: cannot tell",
    };
    let ratio = if a.mean > 0.0 { times(b.mean / a.mean) } else { String::new() };
    Row { arm: arm.to_owned(), figure, a: spread(a), b: spread(b), ratio, verdict }
}

fn percentile_row(arm: &str, figure: String, (a, b): (&Percentile, &Percentile)) -> Row {
    let verdict = match interval::percentiles(b, a) {
        Some(Difference::Above) => "slower",
        Some(Difference::Below) => "faster",
        Some(Difference::Unseen) => "no difference seen",
        None => "too few values",
    };
    let ratio = match (a, b) {
        (Percentile::Known { value: before, .. }, Percentile::Known { value: after, .. }) if before.0 > 0 => {
            times(after.0 as f64 / before.0 as f64)
        }
        _ => String::new(),
    };
    Row { arm: arm.to_owned(), figure, a: percentile(a), b: percentile(b), ratio, verdict }
}

fn table(rows: &[Row], width: usize) -> Vec<Line> {
    if rows.is_empty() {
        return vec![(Tone::Plain, "The runs have no arm in common that ran in both.".to_owned())];
    }
    let column = |head, dispensable, cell: &dyn Fn(&Row) -> String| Column {
        head,
        dispensable,
        cells: rows.iter().map(cell).collect(),
    };
    let mut previous = String::new();
    let titles = rows.iter().map(|row| {
        if row.arm == previous {
            String::new()
        } else {
            previous.clone_from(&row.arm);
            row.arm.clone()
        }
    });
    let columns = vec![
        Column { head: "arm", dispensable: 0, cells: titles.collect() },
        column("figure", 0, &|row| row.figure.clone()),
        column("A", 0, &|row| row.a.clone()),
        column("B", 0, &|row| row.b.clone()),
        column("B ÷ A", 1, &|row| row.ratio.clone()),
        column("B is", 0, &|row| row.verdict.to_owned()),
    ];
    let layout = fitted(columns, width);
    let head = layout.head.into_iter().map(|line| (Tone::Plain, line));
    let body = rows.iter().zip(layout.rows).map(|(row, line)| (tone(row.verdict), line));
    head.chain(body).chain([blank()]).collect()
}

fn tone(verdict: &str) -> Tone {
    match verdict {
        "slower" => Tone::Bad,
        "faster" => Tone::Strong,
        _ => Tone::Plain,
    }
}

/// Arms that ran in one of the two only.
fn missing(a: &Report<'_>, b: &Report<'_>) -> Vec<Line> {
    let only = |letter: &str, mine: &Report<'_>, theirs: &Report<'_>| {
        let has = |arm: &&ArmSummary| view::arm(theirs.summary, &arm.arm).is_none_or(|other| !view::ran(other));
        let arms: Vec<String> =
            mine.summary.arms.iter().filter(|arm| view::ran(arm)).filter(has).map(|arm| arm.arm.to_string()).collect();
        (!arms.is_empty()).then(|| (Tone::Plain, format!("ran only in {letter}: {}", arms.join(", "))))
    };
    [only("A", a, b), only("B", b, a)].into_iter().flatten().collect()
}
