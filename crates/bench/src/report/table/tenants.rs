//! Each tenant's details, arm by arm.

use cotenant_model::kernel::WorkUnit;
use cotenant_model::workload::Tenant;

use super::{Column, Line, Tone, alike, blank, fitted};
use crate::report::Report;
use crate::report::figure::{NONE, number, or_none, percentile, ratio, times};
use crate::report::text::wrapped;
use crate::report::view;
use crate::summary::{ArmSummary, Percentile, Summary, TenantSummary, Verdict};

type Row<'a> = (&'a ArmSummary, &'a TenantSummary);

/// One block a tenant, or a group of tenants that fared alike: the arms below each other.
pub(crate) fn lines(report: &Report<'_>, width: usize) -> Vec<Line> {
    alike::groups(report).iter().flat_map(|group| block(report, group, width)).collect()
}

fn block(report: &Report<'_>, group: &[&Tenant], width: usize) -> Vec<Line> {
    let summary = report.summary;
    let arms = summary.arms.iter().filter(|arm| arm.refused.is_none());
    let rows: Vec<Row<'_>> = arms.filter_map(|arm| Some((arm, slowest(summary, arm, group)?))).collect();
    let Some((_, first)) = rows.first() else { return Vec::new() };
    let columns = columns(report, &rows);
    if columns.len() < 3 && first.unit == WorkUnit::None {
        return Vec::new();
    }
    let mut lines: Vec<Line> =
        wrapped(&title(report, group, first), width).into_iter().map(|line| (Tone::Strong, line)).collect();
    let layout = fitted(columns, width);
    lines.extend(layout.head.into_iter().map(|line| (Tone::Plain, line)));
    for ((_, seen), line) in rows.iter().zip(layout.rows) {
        let broken = seen.verdicts.iter().any(|verdict| verdict.kept == Some(false));
        lines.push((if broken { Tone::Bad } else { Tone::Plain }, line));
    }
    if !layout.left_out.is_empty() {
        let heads: Vec<String> = layout.left_out.iter().map(|head| head.replace('\n', " ")).collect();
        let text = format!("Left out for want of width: {}.", heads.join(", "));
        lines.extend(wrapped(&text, width).into_iter().map(|line| (Tone::Faint, line)));
    }
    lines.push(blank());
    lines
}

/// `decoder-1 … decoder-8 · tokens · latency: ITL · alike within 5 %, of each arm the slowest`.
fn title(report: &Report<'_>, group: &[&Tenant], first: &TenantSummary) -> String {
    let unit = if first.unit == WorkUnit::None { String::new() } else { format!(" · {}", first.unit.plural()) };
    let metric = view::metric(report.summary, &first.name);
    let what = metric.map_or_else(String::new, |metric| format!(" · latency: {}", metric.label()));
    let folded = if group.len() > 1 { " · alike within 5 %, of each arm the slowest" } else { "" };
    format!("{}{unit}{what}{folded}", alike::names(report, group))
}

/// The tenant of the group with the longest 99th percentile in the arm (median where none is stated), the first of equals.
fn slowest<'a>(summary: &Summary, arm: &'a ArmSummary, group: &[&Tenant]) -> Option<&'a TenantSummary> {
    let value = |percentile: &Percentile| match percentile {
        Percentile::Known { value, .. } | Percentile::AtLeast(value) => Some(value.0),
        Percentile::TooFew { .. } => None,
    };
    let time = |tenant: &TenantSummary| {
        let latency = view::latency(summary, tenant)?;
        value(&latency.p99).or_else(|| value(&latency.p50))
    };
    let members = arm.tenants.iter().filter(|seen| group.iter().any(|tenant| tenant.name == seen.name));
    members.rev().max_by_key(|seen| time(seen))
}

fn columns(report: &Report<'_>, rows: &[Row<'_>]) -> Vec<Column> {
    let summary = report.summary;
    let column = |head, dispensable, cell: &dyn Fn(&TenantSummary) -> String| Column {
        head,
        dispensable,
        cells: rows.iter().map(|(_, tenant)| cell(tenant)).collect(),
    };
    let latency = |tenant: &TenantSummary, write: &dyn Fn(&crate::summary::Latency) -> String| {
        or_none(view::latency(summary, tenant), write)
    };
    let arms = rows.iter().map(|(arm, _)| format!("  {}", super::name(&arm.arm.to_string()))).collect();
    let rates = rows.iter().map(|(arm, tenant)| view::throughput(report.run, arm, tenant));
    let mut columns = vec![
        Column { head: "  arm", dispensable: 0, cells: arms },
        Column { head: "units/s", dispensable: 0, cells: rates.collect() },
        column("progress", 1, &|tenant| or_none(tenant.progress.as_ref(), |share| ratio(share.mean))),
        column("p50", 0, &|tenant| latency(tenant, &|seen| percentile(&seen.p50))),
        column("slower", 2, &|tenant| latency(tenant, &|seen| or_none(seen.slowdown_p50, times))),
        column("p99", 0, &|tenant| latency(tenant, &|seen| percentile(&seen.p99))),
        column("slower", 3, &|tenant| latency(tenant, &|seen| or_none(seen.slowdown_p99, times))),
        column("max", 7, &|tenant| latency(tenant, &|seen| seen.max.to_string())),
        column("SLO", 0, &|tenant| verdict(&tenant.verdicts)),
        column("good", 4, &|tenant| or_none(tenant.good_fraction, |good| format!("{} %", number(good * 100.0)))),
        column("requests", 5, &requests),
        column("startup", 8, &|tenant| or_none(tenant.startup, |startup| startup.to_string())),
        column("RSS", 9, &|tenant| or_none(tenant.resident, |resident| resident.to_string())),
    ];
    columns.retain(|column| column.cells.iter().any(|cell| !cell.is_empty() && cell != NONE));
    columns
}

/// The SLO that is nearest to being broken, or furthest beyond it: `kept 0.93`, `broken 1.21`.
fn verdict(verdicts: &[Verdict]) -> String {
    let ratio_of = |verdict: &&Verdict| verdict.ratio.unwrap_or(0.0);
    let Some(worst) = verdicts.iter().max_by(|one, other| ratio_of(one).total_cmp(&ratio_of(other))) else {
        return NONE.to_owned();
    };
    let word = match worst.kept {
        Some(true) => "kept",
        Some(false) => "broken",
        None => "unknown",
    };
    worst.ratio.map_or_else(|| word.to_owned(), |measured| format!("{word} {}", ratio(measured)))
}

/// Requests that ended well; those that failed and those that did not end, where there are any.
fn requests(tenant: &TenantSummary) -> String {
    if tenant.completed + tenant.failed + tenant.unfinished == 0 {
        return NONE.to_owned();
    }
    let mut text = number(tenant.completed as f64);
    if tenant.failed > 0 {
        text.extend([format!(", {} failed", number(tenant.failed as f64))]);
    }
    if tenant.unfinished > 0 {
        text.extend([format!(", {} open", number(tenant.unfinished as f64))]);
    }
    text
}
