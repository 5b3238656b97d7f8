//! One frame: two arms below each other, a lane a tenant, counters, and what the picture is of.

use embedded_graphics::mono_font::MonoFont;
use embedded_graphics::mono_font::iso_8859_1::{FONT_6X10, FONT_7X13, FONT_7X13_BOLD, FONT_9X18_BOLD, FONT_10X20};
use embedded_graphics::prelude::Point;
use embedded_graphics::text::Alignment;

use super::canvas::{Canvas, HEIGHT, Paint, WIDTH, pixel};
use crate::report::Report;
use crate::report::figure::number;
use crate::report::stretch::{Lane, Stretch};
use crate::report::text::shortened;

const MARGIN: i32 = 20;
const TRACK: i32 = 132;
const TRACK_END: i32 = WIDTH as i32 - 112;
const PANELS: i32 = 68;
const FOOTER: i32 = HEIGHT as i32 - 34;
/// Pixels between two events of the fastest tenant.
const STEP: f64 = 13.0;
const LEFT: (Paint, Alignment) = (Paint::Text, Alignment::Left);
const SOFT: (Paint, Alignment) = (Paint::Soft, Alignment::Left);

/// An arm in the picture.
#[derive(Debug)]
pub(crate) struct Panel {
    /// Its name.
    pub(crate) arm: String,
    /// Its recorded events.
    pub(crate) stretch: Stretch,
    /// Its colour, and the same faint.
    pub(crate) paint: (Paint, Paint),
}

/// Everything the frames show.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    /// The report.
    pub(crate) report: Report<'a>,
    /// One or two arms.
    pub(crate) panels: Vec<Panel>,
    /// How many times slower than recorded.
    pub(crate) slowed: f64,
    /// Milliseconds shown.
    pub(crate) span: f64,
    /// Milliseconds between two events of the fastest tenant.
    pub(crate) gap: f64,
}

impl Scene<'_> {
    /// Draws the moment `time` milliseconds after the start of each stretch.
    pub(crate) fn draw(&self, canvas: &mut Canvas, time: f64) {
        self.title(canvas);
        let height = (FOOTER - PANELS) / i32::try_from(self.panels.len().max(1)).unwrap_or(1);
        for (panel, top) in self.panels.iter().zip((PANELS..).step_by(usize::try_from(height).unwrap_or(1).max(1))) {
            self.panel(canvas, panel, (top, height), time);
        }
        self.footer(canvas, time);
    }

    fn title(&self, canvas: &mut Canvas) {
        let run = self.report.run;
        let title = shortened(&format!("{} on {}", run.name, run.host.gpu.name), 52);
        canvas.write(&title, Point::new(MARGIN, 12), &FONT_10X20, LEFT);
        let pace = if self.slowed >= 1.0 {
            format!("slowed {}x", number(self.slowed))
        } else {
            format!("sped up {}x", number(1.0 / self.slowed))
        };
        let line = format!("Each square is one recorded step of work, drawn when it was done; time is {pace}.");
        canvas.write(&line, Point::new(MARGIN, 38), &FONT_7X13, SOFT);
        let mut right = i32::from(WIDTH) - MARGIN;
        for mark in self.report.marks() {
            let width = i32::try_from(mark.len()).unwrap_or(0) * 7 + 16;
            right -= width;
            canvas.fill(right, 12, (width, 20), Paint::Mark);
            let style = (Paint::MarkText, Alignment::Left);
            canvas.write(mark, Point::new(right + 8, 15), &FONT_7X13_BOLD, style);
            right -= 8;
        }
    }

    fn panel(&self, canvas: &mut Canvas, panel: &Panel, (top, height): (i32, i32), time: f64) {
        let (paint, _) = panel.paint;
        canvas.write(&shortened(&panel.arm, 30), Point::new(MARGIN, top), &FONT_9X18_BOLD, (paint, Alignment::Left));
        let right = Point::new(i32::from(WIDTH) - MARGIN, top);
        canvas.write(&total(&panel.stretch, time), right, &FONT_9X18_BOLD, (Paint::Text, Alignment::Right));
        let count = i32::try_from(panel.stretch.lanes.len()).unwrap_or(1).max(1);
        let room = ((height - 34) / count).clamp(3, 52);
        for (lane, y) in panel.stretch.lanes.iter().zip((top + 24..).step_by(usize::try_from(room).unwrap_or(1))) {
            self.lane(canvas, panel, lane, (y, (room - 4).max(2), time));
        }
    }

    fn lane(&self, canvas: &mut Canvas, panel: &Panel, lane: &Lane, (top, height, time): (i32, i32, f64)) {
        let (paint, dim) = panel.paint;
        let start = panel.stretch.start;
        canvas.fill(TRACK, top, (TRACK_END - TRACK, height), Paint::Lane);
        let speed = STEP / self.gap;
        let length = f64::from(TRACK_END - TRACK) / speed;
        let now = start + time;
        let side = height.min(9);
        for event in between(lane, (now - length).max(start), now) {
            let x = TRACK + pixel((now - event) * speed);
            canvas.fill(x, top + (height - side) / 2, (side.min(TRACK_END - x), side), paint);
        }
        let busy = !between(lane, now - self.gap, now).is_empty();
        canvas.fill(TRACK - 8, top, (6, height), if busy { paint } else { dim });
        self.lane_text(canvas, lane, (top, height), (time, start));
    }

    fn lane_text(&self, canvas: &mut Canvas, lane: &Lane, (top, height): (i32, i32), (time, start): (f64, f64)) {
        let font = lane_font(height);
        let rise = i32::try_from(font.character_size.height).unwrap_or(0);
        let y = top + (height - rise) / 2;
        canvas.write(&shortened(&lane.tenant, 14), Point::new(MARGIN, y), font, LEFT);
        let ended = lane.end() < start + time;
        let text = if ended {
            "record ends".to_owned()
        } else {
            format!("{} {}", number(counted(lane, start, time)), lane.unit.plural())
        };
        canvas.write(&text, Point::new(TRACK_END + 8, y), font, SOFT);
    }

    fn footer(&self, canvas: &mut Canvas, time: f64) {
        let width = i32::from(WIDTH) - 2 * MARGIN;
        canvas.fill(MARGIN, FOOTER, (width, 3), Paint::Lane);
        canvas.fill(MARGIN, FOOTER, (pixel(f64::from(width) * time / self.span), 3), Paint::Soft);
        let recorded = format!("{time:.1} ms of recorded time");
        canvas.write(&recorded, Point::new(MARGIN, FOOTER + 10), &FONT_7X13, SOFT);
        let right = Point::new(i32::from(WIDTH) - MARGIN, FOOTER + 10);
        let program = format!("cotenant compare, {}", shortened(&self.report.run.started, 20));
        canvas.write(&program, right, &FONT_7X13, (Paint::Soft, Alignment::Right));
    }
}

const fn lane_font(height: i32) -> &'static MonoFont<'static> {
    if height >= 14 { &FONT_7X13 } else { &FONT_6X10 }
}

/// The recorded events from one time to another.
fn between(lane: &Lane, from: f64, to: f64) -> &[f64] {
    let first = lane.times.partition_point(|event| *event < from);
    let end = lane.times.partition_point(|event| *event <= to);
    lane.times.get(first..end).unwrap_or_default()
}

/// Units a lane has completed since its stretch began.
fn counted(lane: &Lane, start: f64, time: f64) -> f64 {
    between(lane, start, start + time).len() as f64 * f64::from(lane.units)
}

/// What the lanes have completed and how fast, where they count the same unit.
fn total(stretch: &Stretch, time: f64) -> String {
    let Some(first) = stretch.lanes.first() else { return String::new() };
    if stretch.lanes.iter().any(|lane| lane.unit != first.unit) || time <= 0.0 {
        return String::new();
    }
    let units: f64 = stretch.lanes.iter().map(|lane| counted(lane, stretch.start, time)).sum();
    let unit = first.unit.plural();
    format!("{} {unit}   {} {unit}/s", number(units), number(units / time * 1e3))
}
