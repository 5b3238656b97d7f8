//! The animation `timeline.gif`: tokens flowing under two arms, from recorded times alone.
//!
//! Every square is one recorded event. It leaves the left edge of its lane when it was recorded, all times stretched by one
//! factor that the picture names, and moves at one speed, so that distance is time. Counters count those events; where a
//! tenant's record ends, its lane says so.

mod canvas;
mod scene;

use std::borrow::Cow;

use cotenant_model::Arm;

use super::Report;
use super::palette;
use super::stretch::{Stretch, shortest_gap, stretch};
use canvas::{Canvas, HEIGHT, Paint, WIDTH};
use scene::{Panel, Scene};

/// Length of the animation in seconds, where the record is long enough.
const LENGTH: f64 = 10.0;
/// Time between frames in hundredths of a second.
const DELAY: u16 = 8;
/// Seconds on the screen between two events of the fastest tenant.
const BEAT: f64 = 0.09;

/// A frame that could not be encoded.
#[derive(Debug, thiserror::Error)]
#[error("animation could not be encoded")]
pub struct AnimationError {
    #[from]
    source: gif::EncodingError,
}

/// The animation of the two most telling shared arms that have recorded times.
pub(crate) fn timeline(report: &Report<'_>) -> Result<Option<Vec<u8>>, AnimationError> {
    let stretches = chosen(report);
    let Some(gap) = shortest_gap(&stretches) else { return Ok(None) };
    let Some((slowed, span)) = pace(&stretches, gap) else { return Ok(None) };
    let scene = Scene { report: *report, panels: panels(report, stretches), slowed, span, gap };
    let frames = frame_count(span * slowed);
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, WIDTH, HEIGHT, &colours(&scene))?;
    encoder.set_repeat(gif::Repeat::Infinite)?;
    let mut before = Canvas::default();
    for frame in 0..=frames {
        let mut now = Canvas::default();
        scene.draw(&mut now, span * f64::from(frame) / f64::from(frames));
        encoder.write_frame(&changed(&before, &now, frame == 0, frame == frames))?;
        before = now;
    }
    drop(encoder);
    Ok(Some(bytes))
}

/// Time slicing and MPS where both were recorded, otherwise the first two shared arms that were.
fn chosen(report: &Report<'_>) -> Vec<Stretch> {
    let run = report.run;
    let shared = (0..run.arms.len()).filter(|position| run.arms[*position].arm != Arm::Solo);
    let mut stretches: Vec<Stretch> = shared.filter_map(|position| stretch(run, position)).collect();
    stretches.sort_by_key(|stretch| match run.arms[stretch.arm].arm {
        Arm::TimeSlicing => 0,
        Arm::Mps => 1,
        Arm::MpsPercent(_) | Arm::MpsMemory => 2,
        Arm::Solo | Arm::Mig(_) => 3,
    });
    stretches.truncate(2);
    stretches
}

/// How many times slower than recorded, and how many milliseconds are shown.
fn pace(stretches: &[Stretch], gap: f64) -> Option<(f64, f64)> {
    let reach = |stretch: &Stretch| stretch.lanes.iter().map(|lane| lane.end() - stretch.start).fold(0.0, f64::max);
    let recorded = stretches.iter().map(reach).fold(f64::INFINITY, f64::min);
    let slowed = rounded(BEAT * 1e3 / gap);
    let span = recorded.min(LENGTH * 1e3 / slowed);
    (span > 0.0).then(|| if span * slowed < 4e3 { (rounded(8e3 / span), span) } else { (slowed, span) })
}

/// The nearest factor of two significant figures that reads well.
fn rounded(factor: f64) -> f64 {
    let decade = 10_f64.powf(factor.log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let nearest = |one: &f64, other: &f64| (one * decade - factor).abs().total_cmp(&(other * decade - factor).abs());
    steps.into_iter().min_by(nearest).unwrap_or(1.0) * decade
}

/// Frames of so many milliseconds on the screen.
fn frame_count(milliseconds: f64) -> u16 {
    let frames = milliseconds / (f64::from(DELAY) * 10.0);
    u16::try_from(canvas::pixel(frames)).unwrap_or(0).clamp(2, 200)
}

fn panels(report: &Report<'_>, stretches: Vec<Stretch>) -> Vec<Panel> {
    let paints = [(Paint::First, Paint::FirstDim), (Paint::Second, Paint::SecondDim)];
    let arm = |stretch: &Stretch| report.run.arms[stretch.arm].arm.to_string();
    stretches.into_iter().zip(paints).map(|(stretch, paint)| Panel { arm: arm(&stretch), stretch, paint }).collect()
}

/// The palette: each arm in the colour it has in the page.
fn colours(scene: &Scene<'_>) -> Vec<u8> {
    let inks = palette::inks(scene.report.run.arms.iter().map(|record| &record.arm));
    let of = |panel: usize| scene.panels.get(panel).map_or((0, 0, 0), |panel| inks[panel.stretch.arm].rgb);
    Paint::colours(of(0), of(1))
}

/// The rectangle that changed, what stayed the same in it transparent.
fn changed(before: &Canvas, now: &Canvas, first: bool, last: bool) -> gif::Frame<'static> {
    let whole = (0, 0, WIDTH, HEIGHT);
    let (left, top, width, height) = if first { whole } else { now.difference(before).unwrap_or((0, 0, 1, 1)) };
    let buffer = now.cut(if first { None } else { Some(before) }, (left, top, width, height));
    gif::Frame {
        delay: if last { 150 } else { DELAY },
        dispose: gif::DisposalMethod::Keep,
        transparent: Some(Paint::Unchanged as u8),
        left,
        top,
        width,
        height,
        buffer: Cow::Owned(buffer),
        ..gif::Frame::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_reads_well() {
        let factors: Vec<f64> = [79.6, 0.31, 1.0, 650.0, 43.0].into_iter().map(rounded).collect();
        assert_eq!(factors, [80.0, 0.30000000000000004, 1.0, 600.0, 40.0]);
    }
}
