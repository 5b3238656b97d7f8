//! The table of arms: one line each, the best marked, losers and failures kept.

use cotenant_model::Arm;

use super::{Column, Layout, Line, Tone, fitted};
use crate::report::Report;
use crate::report::figure::{NONE, money, number, or_none, ratio, ratio_spread, spread, times};
use crate::report::finding;
use crate::report::progress;
use crate::report::text::{listed, shortened, wrapped};
use crate::report::view;
use crate::summary::{ArmSummary, Percentile, Summary};

/// Head of the column of each tenant's progress.
const PROGRESS: &str = "progress of\neach tenant";

/// The arms in the record's order, and what the columns mean.
pub(crate) fn lines(report: &Report<'_>, width: usize) -> Vec<Line> {
    let summary = report.summary;
    let layout = fitted(columns(summary), width);
    let mut lines: Vec<Line> = layout.head.iter().map(|line| (Tone::Plain, line.clone())).collect();
    for (position, (arm, row)) in summary.arms.iter().zip(&layout.rows).enumerate() {
        let tone = tone(summary, position, arm);
        lines.extend(rows(arm, row, &layout, width).into_iter().map(|line| (tone, line)));
    }
    lines.extend(wrapped(&legend(summary, &layout), width).into_iter().map(|line| (Tone::Faint, line)));
    lines
}

fn tone(summary: &Summary, position: usize, arm: &ArmSummary) -> Tone {
    match summary.best {
        Some(best) if best == position => Tone::Strong,
        _ if !view::ran(arm) || arm.slo_kept == Some(false) => Tone::Bad,
        _ => Tone::Plain,
    }
}

/// The line of an arm. One that was refused gives its reason there; one in which a tenant failed shows how the others went
/// on, and gives each reason below.
fn rows(arm: &ArmSummary, row: &str, layout: &Layout, width: usize) -> Vec<String> {
    if view::ran(arm) {
        return vec![row.to_owned()];
    }
    let beside = |text: &str| {
        let name = format!("{:<1$}", title(arm, false), layout.first);
        format!("{name}  {}", shortened(text, width.saturating_sub(layout.first + 2)))
    };
    match &arm.refused {
        Some(why) => vec![beside(&format!("refused: {why}"))],
        None if arm.failures.is_empty() => vec![beside("no figures")],
        None => {
            let left_out = layout.left_out.contains(&PROGRESS);
            let first = if left_out { beside(&progress::of(arm)) } else { row.to_owned() };
            let reasons = finding::fault::last_words(arm).into_iter().map(|(tenants, words)| {
                shortened(&format!("{} failed: {words}", listed(&tenants)), width.saturating_sub(4))
            });
            std::iter::once(first).chain(reasons.map(|reason| format!("    {reason}"))).collect()
        }
    }
}

/// The columns, most telling first, without those that no arm fills.
fn columns(summary: &Summary) -> Vec<Column> {
    let column = |head, dispensable, cell: &dyn Fn(&ArmSummary) -> String| {
        let cells = summary.arms.iter().map(|arm| if view::ran(arm) { cell(arm) } else { String::new() });
        Column { head, dispensable, cells: cells.collect() }
    };
    let best = summary.best.and_then(|best| summary.arms.get(best)).map(|arm| &arm.arm);
    let titles = summary.arms.iter().map(|arm| title(arm, best == Some(&arm.arm))).collect();
    let mut columns = vec![
        Column { head: "arm", dispensable: 0, cells: titles },
        Column { head: PROGRESS, dispensable: 4, cells: summary.arms.iter().map(progress::of).collect() },
        column(rate_head(summary), 3, &|arm| or_none(arm.throughput.as_ref(), spread)),
        column("aggregate\n× solo", 0, &|arm| or_none(arm.aggregate.as_ref(), ratio_spread)),
        column("× best\nsolo", 5, &|arm| or_none(arm.aggregate_over_best_solo.as_ref(), |best| ratio(best.mean))),
        column("p50\nslower", 0, &|arm| slowdowns(summary, arm).0),
        column("p99\nslower", 0, &|arm| slowdowns(summary, arm).1),
        column("SLO", 0, &|arm| or_none(arm.slo_kept, |kept| (if kept { "kept" } else { "broken" }).to_owned())),
        column("Jain", 8, &|arm| or_none(arm.jain.as_ref(), |jain| ratio(jain.mean))),
        column("W", 7, &|arm| or_none(arm.watts.as_ref(), |watts| number(watts.mean))),
        column("J per\n1k", 6, &|arm| or_none(arm.joules_per_unit.as_ref(), |joules| number(joules.mean * 1e3))),
        column("$ per\n1M", 2, &|arm| or_none(arm.price_per_million, money)),
    ];
    columns.retain(|column| column.cells.iter().any(|cell| !cell.is_empty() && cell != NONE));
    columns
}

/// The head of the throughput column, by the unit the tenants share.
fn rate_head(summary: &Summary) -> &'static str {
    use cotenant_model::kernel::WorkUnit;
    match summary.arms.iter().find_map(|arm| arm.unit) {
        Some(WorkUnit::Token) => "tokens/s\nin all",
        Some(WorkUnit::Product) => "products/s\nin all",
        Some(WorkUnit::Burst) => "bursts/s\nin all",
        Some(WorkUnit::Copy) => "copies/s\nin all",
        Some(WorkUnit::None) | None => "work/s\nin all",
    }
}

fn title(arm: &ArmSummary, best: bool) -> String {
    let mark = match (best, view::ran(arm)) {
        (true, _) => "★",
        (false, true) => " ",
        (false, false) => "✗",
    };
    let word = if best { " best" } else { "" };
    format!("{mark} {}{word}", super::name(&arm.arm.to_string()))
}

/// Slowdown at p50 and p99 of the tenant the run watches; a lower bound or a lack of values says so.
fn slowdowns(summary: &Summary, arm: &ArmSummary) -> (String, String) {
    let reference = arm.arm == Arm::Solo;
    let Some((_, latency)) = view::worst(summary, arm).filter(|_| !reference) else {
        return (NONE.to_owned(), NONE.to_owned());
    };
    let text = |slowdown: Option<f64>, percentile: &Percentile| match (slowdown, percentile) {
        (Some(slowdown), Percentile::AtLeast(_)) => format!("≥ {}", times(slowdown)),
        (Some(slowdown), _) => times(slowdown),
        (None, Percentile::TooFew { count, .. }) => format!("n={count}: few"),
        (None, _) => NONE.to_owned(),
    };
    (text(latency.slowdown_p50, &latency.p50), text(latency.slowdown_p99, &latency.p99))
}

fn legend(summary: &Summary, layout: &Layout) -> String {
    let watched = if view::has_protected(summary) { "worst protected tenant" } else { "worst tenant" };
    let mut text = format!(
        "aggregate: sum of each tenant's throughput ÷ its throughput alone; ±: 95 % confidence interval of the mean; \
         slower: latency of the {watched} ÷ its latency alone."
    );
    if !layout.left_out.is_empty() {
        let heads: Vec<String> = layout.left_out.iter().map(|head| head.replace('\n', " ")).collect();
        text.extend([format!(" Left out for want of width: {}.", heads.join(", "))]);
    }
    if summary.arms.iter().any(|arm| !finding::unfinished(arm).is_empty()) {
        text += " ✗: not compared, for the reason given.";
    }
    text
}
