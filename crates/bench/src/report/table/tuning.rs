//! What the tuner tried: the Pareto front it saw.

use cotenant_model::run::{Tuning, TuningPoint};

use super::{Column, Line, Tone, blank, fitted};
use crate::report::Report;
use crate::report::figure::{ratio, times};
use crate::report::text::wrapped;

/// The points no other point beats, the chosen one marked.
pub(crate) fn lines(report: &Report<'_>, width: usize) -> Vec<Line> {
    let Some(tuning) = &report.run.tuning else { return Vec::new() };
    let points = front(tuning);
    let column = |head, cell: &dyn Fn(&TuningPoint) -> String| Column {
        head,
        dispensable: 0,
        cells: points.iter().map(|(_, point)| cell(point)).collect(),
    };
    let titles = points.iter().map(|(chosen, point)| format!("{} {}", if *chosen { "★" } else { " " }, setting(point)));
    let columns = vec![
        Column { head: "  percent of SMs", dispensable: 0, cells: titles.collect() },
        column("aggregate", &|point| ratio(point.aggregate)),
        column("worst SLO ÷ limit", &|point| ratio(point.worst_slo)),
        column("progress", &|point| point.progress.iter().map(|share| ratio(*share)).collect::<Vec<_>>().join(" + ")),
    ];
    let mut lines: Vec<Line> = wrapped(&format!("{} · Pareto front:", title(tuning)), width)
        .into_iter()
        .map(|line| (Tone::Strong, line))
        .collect();
    let layout = fitted(columns, width);
    lines.extend(layout.head.into_iter().map(|line| (Tone::Plain, line)));
    let tone = |chosen: bool| if chosen { Tone::Strong } else { Tone::Plain };
    lines.extend(points.iter().zip(layout.rows).map(|((chosen, _), line)| (tone(*chosen), line)));
    let grid = grid(tuning).into_iter().flat_map(|sentence| wrapped(&sentence, width));
    lines.extend(grid.map(|line| (Tone::Plain, line)));
    lines.push(blank());
    lines
}

/// How the point chosen compares with the best of the measured grid that keeps every SLO, both as the grid measured them
/// where it has the chosen one; `None` without a grid.
pub(crate) fn grid(tuning: &Tuning) -> Option<String> {
    if tuning.grid.is_empty() {
        return None;
    }
    let size = tuning.grid.len();
    let kept = tuning.grid.iter().filter(|point| point.worst_slo <= 1.0);
    let Some(best) = kept.max_by(|one, other| one.aggregate.total_cmp(&other.aggregate)) else {
        return Some(format!("The grid of {size} points has none that keeps every SLO."));
    };
    let best_text = format!("mps:{} at {} × solo", setting(best), ratio(best.aggregate));
    let sentence = format!("The grid of {size} points, most of them one short window, has its best at {best_text}");
    let Some(chosen) = tuning.chosen.and_then(|chosen| tuning.points.get(chosen)) else {
        return Some(format!("{sentence}."));
    };
    let (measured, by) = tuning
        .grid
        .iter()
        .find(|point| point.percent == chosen.percent)
        .map_or((chosen, "the search"), |point| (point, "the grid"));
    let broken = if measured.worst_slo > 1.0 { ", breaking an SLO there" } else { "" };
    let share = measured.aggregate / best.aggregate;
    Some(format!(
        "{sentence}; it keeps every SLO. The chosen mps:{} did {} in {by}'s own windows, {} of that{broken}.",
        setting(chosen),
        ratio(measured.aggregate),
        times(share)
    ))
}

/// What the search found, in a sentence.
pub(crate) fn title(tuning: &Tuning) -> String {
    let found = tuning.chosen.and_then(|chosen| tuning.points.get(chosen)).map_or_else(
        || "no point kept every SLO".to_owned(),
        |point| format!("chose mps:{} at {} × solo", setting(point), ratio(point.aggregate)),
    );
    format!("tuner · {} points in {} of GPU time · {found}", tuning.points.len(), tuning.spent)
}

/// The percentages as an arm writes them.
pub(crate) fn setting(point: &TuningPoint) -> String {
    point.percent.iter().map(ToString::to_string).collect::<Vec<_>>().join("/")
}

fn front(tuning: &Tuning) -> Vec<(bool, &TuningPoint)> {
    let point = |position: &usize| tuning.points.get(*position).map(|point| (tuning.chosen == Some(*position), point));
    tuning.front.iter().filter_map(point).collect()
}
