//! Line charts: distributions and readings over time.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::scale::Scale;
use super::{WIDTH, at, drawing};
use crate::report::palette::Ink;
use crate::report::text::shortened;

const HEIGHT: f64 = 236.0;
const LEFT: f64 = 40.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = HEIGHT - 36.0;
/// Closest that two labels at the ends of lines come.
const SPACING: f64 = 12.5;

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// Its look.
    pub(crate) ink: Ink,
    /// Its name beside the line; empty for a further line of a name that is there already.
    pub(crate) label: String,
    /// Points, rising in x.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Where the names of the lines stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Labels {
    /// On the lines at different heights; for distributions.
    OnLines,
    /// Right of their ends.
    AtEnds,
}

/// A line chart.
pub(crate) struct Lines<'a> {
    /// Title and description.
    pub(crate) title: (&'a str, &'a str),
    /// Whether x is logarithmic, and what x is.
    pub(crate) logarithmic: bool,
    /// Text of x's ticks.
    pub(crate) x_text: fn(f64) -> String,
    /// Name of x.
    pub(crate) x_name: &'a str,
    /// Range of y.
    pub(crate) y_range: (f64, f64),
    /// Text of y's ticks.
    pub(crate) y_text: fn(f64) -> String,
    /// Lines.
    pub(crate) series: &'a [Series],
    /// Where their names stand.
    pub(crate) labels: Labels,
    /// A limit on x with its name.
    pub(crate) limit: Option<(f64, String)>,
}

impl Lines<'_> {
    /// The chart; `None` where no line has a point.
    pub(crate) fn draw(&self) -> Option<Markup> {
        let xs = || self.series.iter().flat_map(|series| series.points.iter().map(|(x, _)| *x));
        xs().next()?;
        let limit = self.limit.iter().map(|(x, _)| *x);
        let (low, high) = xs().chain(limit).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
        let right = WIDTH - if self.labels == Labels::AtEnds { 84.0 } else { 12.0 };
        let x = if self.logarithmic {
            Scale::logarithmic((low * 0.9, high * 1.1), (LEFT, right))
        } else {
            Scale::linear((low.min(0.0), high), (LEFT, right))
        };
        let y = Scale::linear(self.y_range, (BOTTOM, TOP));
        let content = html! {
            (self.grid(&x, &y, right))
            @for series in self.series { (path(series, &x, &y)) }
            @if let Some((limit, name)) = &self.limit { (limit_line(x.place(*limit), name)) }
            @match self.labels {
                Labels::OnLines => (self.labels_on_lines(&x, &y)),
                Labels::AtEnds => (self.labels_at_ends(&x, &y)),
            }
        };
        Some(drawing(self.title.0, self.title.1, HEIGHT, &content))
    }

    fn grid(&self, x: &Scale, y: &Scale, right: f64) -> Markup {
        html! {
            @for tick in y.ticks(4) {
                line.grid x1=(LEFT) x2=(at(right)) y1=(at(y.place(tick))) y2=(at(y.place(tick))) {}
                text.tick x=(at(LEFT - 5.0)) y=(at(y.place(tick) + 3.5)) text-anchor="end" { ((self.y_text)(tick)) }
            }
            @for tick in x.ticks(6) {
                line.grid x1=(at(x.place(tick))) x2=(at(x.place(tick))) y1=(TOP) y2=(BOTTOM) {}
                text.tick x=(at(x.place(tick))) y=(at(BOTTOM + 14.0)) text-anchor="middle" { ((self.x_text)(tick)) }
            }
            text.tick x=(at(right)) y=(at(BOTTOM + 30.0)) text-anchor="end" { (self.x_name) }
        }
    }

    /// Each name at its own height, so that names of lines that run together do not cover each other.
    fn labels_on_lines(&self, x: &Scale, y: &Scale) -> Markup {
        let named: Vec<&Series> = self.series.iter().filter(|series| !series.label.is_empty()).collect();
        let share = |index: usize| 0.86 - 0.72 * index as f64 / (named.len().max(2) - 1) as f64;
        let (low, high) = self.y_range;
        let place = |index: usize, series: &Series| {
            let wanted = low + (high - low) * share(index);
            series.points.iter().find(|(_, value)| *value >= wanted).or_else(|| series.points.last()).copied()
        };
        html! {
            @for (index, series) in named.iter().enumerate() {
                @if let Some((value, height)) = place(index, series) {
                    @let height = height.min(low + (high - low) * (share(index) + 0.02));
                    (label_beside(series, x.place(value), y.place(height)))
                }
            }
        }
    }

    fn labels_at_ends(&self, x: &Scale, y: &Scale) -> Markup {
        let mut ends: Vec<(&Series, f64, f64)> = self
            .series
            .iter()
            .filter(|series| !series.label.is_empty())
            .filter_map(|series| series.points.last().map(|(end, value)| (series, x.place(*end), y.place(*value))))
            .collect();
        ends.sort_by(|(_, _, one), (_, _, other)| one.total_cmp(other));
        let mut lowest = TOP - SPACING;
        let overflow = (ends.len() as f64).mul_add(SPACING, TOP);
        let placed: Vec<(&Series, f64, f64)> = ends
            .into_iter()
            .map(|(series, end, height)| {
                lowest = height.min(BOTTOM.max(overflow)).max(lowest + SPACING);
                (series, end, lowest)
            })
            .collect();
        html! {
            @for (series, end, height) in placed {
                text class={ "name a" (series.ink.slot) } x=(at(end + 6.0)) y=(at(height + 3.5)) {
                    (shortened(&series.label, 14))
                }
            }
        }
    }
}

fn path(series: &Series, x: &Scale, y: &Scale) -> Markup {
    let mut commands = String::new();
    for (index, (along, value)) in series.points.iter().enumerate() {
        let letter = if index == 0 { 'M' } else { 'L' };
        // A `String` takes every write.
        if write!(commands, "{letter}{} {}", at(x.place(*along)), at(y.place(*value))).is_err() {
            break;
        }
    }
    html! { path class={ "line a" (series.ink.slot) } d=(commands) stroke-dasharray=[dash(series.ink)] {} }
}

fn dash(ink: Ink) -> Option<&'static str> {
    (!ink.dash.is_empty()).then_some(ink.dash)
}

fn label_beside(series: &Series, x: f64, y: f64) -> Markup {
    let (shift, anchor) = if x > WIDTH * 0.66 { (-7.0, "end") } else { (7.0, "start") };
    html! {
        circle class={ "dot a" (series.ink.slot) } cx=(at(x)) cy=(at(y)) r="3" {}
        text class={ "name a" (series.ink.slot) } x=(at(x + shift)) y=(at(y + 3.5)) text-anchor=(anchor) {
            (shortened(&series.label, 20))
        }
    }
}

fn limit_line(x: f64, name: &str) -> Markup {
    let (shift, anchor) = if x > WIDTH * 0.66 { (-4.0, "end") } else { (4.0, "start") };
    html! {
        line.limit x1=(at(x)) x2=(at(x)) y1=(TOP) y2=(BOTTOM) {}
        text.limitname x=(at(x + shift)) y=(at(BOTTOM - 5.0)) text-anchor=(anchor) { (name) }
    }
}
