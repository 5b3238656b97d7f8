//! What the tuner tried: the Pareto front it saw.

use cotenant_model::run::{Tuning, TuningPoint};

use super::{Column, Line, Tone, blank, fitted};
use crate::report::Report;
use crate::report::figure::ratio;

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
    let mut lines = vec![(Tone::Strong, title(tuning))];
    let layout = fitted(columns, width);
    lines.extend(layout.head.into_iter().map(|line| (Tone::Plain, line)));
    let tone = |chosen: bool| if chosen { Tone::Strong } else { Tone::Plain };
    lines.extend(points.iter().zip(layout.rows).map(|((chosen, _), line)| (tone(*chosen), line)));
    lines.push(blank());
    lines
}

/// What the search found, in a sentence.
pub(crate) fn title(tuning: &Tuning) -> String {
    let found = tuning.chosen.and_then(|chosen| tuning.points.get(chosen)).map_or_else(
        || "no point kept every SLO".to_owned(),
        |point| format!("chose mps:{} at {} × solo", setting(point), ratio(point.aggregate)),
    );
    format!("tuner · {} points in {} of GPU time · {found} · Pareto front:", tuning.points.len(), tuning.spent)
}

/// The percentages as an arm writes them.
pub(crate) fn setting(point: &TuningPoint) -> String {
    point.percent.iter().map(ToString::to_string).collect::<Vec<_>>().join("/")
}

fn front(tuning: &Tuning) -> Vec<(bool, &TuningPoint)> {
    let point = |position: &usize| tuning.points.get(*position).map(|point| (tuning.chosen == Some(*position), point));
    tuning.front.iter().filter_map(point).collect()
}
