//! Timelines: who did what when, one lane a tenant.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::scale::Scale;
use super::{WIDTH, at, drawing};
use crate::report::palette::Ink;
use crate::report::stretch::Stretch;
use crate::report::text::shortened;

const LEFT: f64 = 92.0;
const RIGHT: f64 = WIDTH - 10.0;
const LANE: f64 = 20.0;
const GAP: f64 = 6.0;
const TOP: f64 = 6.0;
/// More events than this in a lane are drawn as a density instead of one tick each.
const MOST: u16 = 150;

/// `span` milliseconds of an arm from where its stretch begins: a tick an event, or their density where they stand close.
pub(crate) fn lanes(title: (&str, &str), stretch: &Stretch, ink: Ink, span: f64) -> Markup {
    let bottom = TOP + stretch.lanes.len() as f64 * (LANE + GAP);
    let scale = Scale::linear((0.0, span), (LEFT, RIGHT));
    let content = html! {
        g class={ "a" (ink.slot) } {
            @for tick in scale.ticks(5) {
                line.grid x1=(at(scale.place(tick))) x2=(at(scale.place(tick))) y1=(TOP) y2=(at(bottom)) {}
                text.tick x=(at(scale.place(tick))) y=(at(bottom + 11.0)) text-anchor="middle" {
                    (crate::report::figure::number(tick))
                }
            }
            @for (index, lane) in stretch.lanes.iter().enumerate() {
                @let top = TOP + index as f64 * (LANE + GAP);
                @let shown = shown(&lane.times, stretch.start, span);
                text.label x=(at(LEFT - 8.0)) y=(at(top + LANE / 2.0 + 3.5)) text-anchor="end" { (shortened(&lane.tenant, 13)) }
                rect.lane x=(LEFT) y=(at(top)) width=(at(RIGHT - LEFT)) height=(LANE) rx="3" {}
                path.event d=(marks(&shown, top, &scale, span)) { title { (shown.len()) " events" } }
                @if lane.end() < stretch.start + span {
                    @let end = scale.place(lane.end() - stretch.start);
                    rect.unknown x=(at(end + 1.5)) y=(at(top)) width=(at((RIGHT - end - 1.5).max(0.0))) height=(LANE) rx="3" {
                        title { "not recorded" }
                    }
                }
            }
            text.tick x=(at(RIGHT)) y=(at(bottom + 24.0)) text-anchor="end" { "milliseconds" }
        }
    };
    drawing(title.0, title.1, bottom + 28.0, &content)
}

fn shown(times: &[f64], start: f64, span: f64) -> Vec<f64> {
    times.iter().map(|time| time - start).filter(|time| (0.0..=span).contains(time)).collect()
}

fn marks(times: &[f64], top: f64, scale: &Scale, span: f64) -> String {
    let marks: Vec<(f64, f64)> = if times.len() > usize::from(MOST) {
        density(times, span).into_iter().map(|(time, share)| (scale.place(time), share)).collect()
    } else {
        times.iter().map(|time| (scale.place(*time), 1.0)).collect()
    };
    let mut path = String::new();
    for (x, share) in marks {
        let height = (LANE - 4.0) * share;
        // A `String` takes every write.
        if write!(path, "M{} {}v{}", at(x), at(top + LANE - 2.0 - height), at(height)).is_err() {
            break;
        }
    }
    path
}

/// Each of [`MOST`] equal parts of the span that holds an event, with its count as a share of the fullest's.
fn density(times: &[f64], span: f64) -> Vec<(f64, f64)> {
    let width = span / f64::from(MOST);
    let before = |time: f64| times.partition_point(|event| *event < time);
    let counts: Vec<(f64, usize)> =
        (0..MOST).map(|part| f64::from(part) * width).map(|from| (from, before(from + width) - before(from))).collect();
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1) as f64;
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(from, count)| (from, count as f64 / most)).collect()
}
