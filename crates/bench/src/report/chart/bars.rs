//! Bar charts: one row an arm.

use maud::{Markup, html};

use super::scale::Scale;
use super::{WIDTH, at, drawing};
use crate::report::palette::Ink;
use crate::report::text::shortened;

const LEFT: f64 = 104.0;
const RIGHT: f64 = WIDTH - 88.0;
const BAR: f64 = 13.0;
const GAP: f64 = 9.0;
const TOP: f64 = 8.0;

/// One bar, or the reason why there is none.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    /// Its figure; `None` draws the text alone.
    pub(crate) value: Option<f64>,
    /// Smallest and largest repeat.
    pub(crate) whisker: Option<(f64, f64)>,
    /// Figure with its unit, beside the bar.
    pub(crate) text: String,
    /// Drawn open instead of filled: the second of two bars.
    pub(crate) open: bool,
}

/// The bars of one arm.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Its look.
    pub(crate) ink: Ink,
    /// Its name.
    pub(crate) label: String,
    /// Its bars.
    pub(crate) bars: Vec<Bar>,
}

/// Where bars begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// At zero, on a linear scale.
    Zero,
    /// At one, on a logarithmic scale; bars below one point left.
    One,
}

/// The chart of rows; `None` where no bar has a figure. `limit` is a figure not to exceed, with its name.
pub(crate) fn bars(title: (&str, &str), rows: &[Row], base: Base, limit: Option<(f64, &str)>) -> Option<Markup> {
    let figures = || rows.iter().flat_map(|row| &row.bars).filter_map(|bar| bar.value);
    figures().next()?;
    let whiskers = rows.iter().flat_map(|row| &row.bars).filter_map(|bar| bar.whisker.map(|(_, high)| high));
    let most = figures().chain(whiskers).chain(limit.map(|(value, _)| value)).fold(0.0, f64::max);
    let least = figures().fold(f64::INFINITY, f64::min);
    let scale = match base {
        Base::Zero => Scale::linear((0.0, most * 1.02), (LEFT, RIGHT)),
        Base::One => Scale::logarithmic((least.clamp(0.05, 0.9), most.max(2.0) * 1.05), (LEFT, RIGHT)),
    };
    let tops = tops(rows);
    let bottom = tops.last().copied().unwrap_or(TOP);
    let content = html! {
        (grid(&scale, base, bottom))
        @for (row, top) in rows.iter().zip(&tops) { (draw_row(row, *top, &scale, base)) }
        @if let Some((value, name)) = limit { (limit_line(scale.place(value), bottom, name)) }
    };
    Some(drawing(title.0, title.1, bottom + 32.0, &content))
}

/// The top of each row, and after them the bottom of the last.
fn tops(rows: &[Row]) -> Vec<f64> {
    let mut top = TOP;
    let mut tops = vec![top];
    for row in rows {
        top += row.bars.len().max(1) as f64 * (BAR + 2.0) + GAP;
        tops.push(top);
    }
    tops
}

fn grid(scale: &Scale, base: Base, bottom: f64) -> Markup {
    let zero = scale.place(if base == Base::Zero { 0.0 } else { 1.0 });
    let text = |tick: f64| if base == Base::Zero { crate::report::figure::number(tick) } else { format!("{tick}×") };
    html! {
        @for tick in scale.ticks(4) {
            line.grid x1=(at(scale.place(tick))) x2=(at(scale.place(tick))) y1=(TOP) y2=(at(bottom)) {}
            text.tick x=(at(scale.place(tick))) y=(at(bottom + 14.0)) text-anchor="middle" { (text(tick)) }
        }
        line.base x1=(at(zero)) x2=(at(zero)) y1=(TOP) y2=(at(bottom)) {}
    }
}

fn draw_row(row: &Row, top: f64, scale: &Scale, base: Base) -> Markup {
    let middle = top + row.bars.len().max(1) as f64 * (BAR + 2.0) / 2.0;
    html! {
        g class={ "a" (row.ink.slot) } {
            text.label x=(at(LEFT - 8.0)) y=(at(middle + 3.0)) text-anchor="end" { (shortened(&row.label, 15)) }
            @for (index, bar) in row.bars.iter().enumerate() {
                (draw_bar(bar, top + index as f64 * (BAR + 2.0), scale, base))
            }
        }
    }
}

fn draw_bar(bar: &Bar, top: f64, scale: &Scale, base: Base) -> Markup {
    let zero = scale.place(if base == Base::Zero { 0.0 } else { 1.0 });
    let end = scale.place(bar.value.unwrap_or(0.0));
    let (from, to) = (zero.min(end), zero.max(end));
    let whisker = bar.whisker.map(|(low, high)| (scale.place(low), scale.place(high)));
    let beside = if bar.value.is_some() { whisker.map_or(to, |(_, high)| high.max(to)) } else { zero };
    let middle = top + BAR / 2.0;
    html! {
        @if bar.value.is_some() {
            rect class=(if bar.open { "bar open" } else { "bar" }) x=(at(from)) y=(at(top)) width=(at((to - from).max(1.5)))
                height=(BAR) rx="2" { title { (bar.text) } }
        }
        @if let Some((low, high)) = whisker {
            path.whisker d=(format!("M{l} {t}v6m0-3H{h}m0-3v6", l = at(low), h = at(high), t = at(middle - 3.0))) {}
        }
        text.value x=(at(beside + 5.0)) y=(at(middle + 3.5)) { (bar.text) }
    }
}

fn limit_line(x: f64, bottom: f64, name: &str) -> Markup {
    html! {
        line.limit x1=(at(x)) x2=(at(x)) y1=(TOP) y2=(at(bottom)) {}
        text.limitname x=(at(x)) y=(at(bottom + 27.0)) text-anchor="middle" { (name) }
    }
}
