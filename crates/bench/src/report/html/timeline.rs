//! Charts over time: who ran when, and what the GPU did meanwhile.

use maud::Markup;

use cotenant_model::gpu::GpuSample;

use super::{Page, grid};
use crate::report::chart::figure;
use crate::report::chart::lanes::lanes;
use crate::report::chart::lines::{Labels, Lines, Series};
use crate::report::figure::number;
use crate::report::stretch::{Stretch, shortest_gap, stretch};

/// Events of the fastest tenant that a timeline shows.
const EVENTS: f64 = 60.0;

/// One timeline an arm, all of the same length.
pub(crate) fn section(page: &Page<'_>) -> Markup {
    let run = page.report.run;
    let shared = (0..run.arms.len()).filter(|arm| run.arms[*arm].arm != cotenant_model::Arm::Solo);
    let stretches: Vec<Stretch> = shared.filter_map(|arm| stretch(run, arm)).collect();
    let span = shortest_gap(&stretches).map_or(100.0, |gap| round_up(gap * EVENTS));
    let charts: Vec<Markup> = stretches.iter().map(|stretch| chart(page, stretch, span)).collect();
    grid(
        "timeline",
        "Who ran when",
        "Recorded times: a tick is a token (or a step of a kernel without tokens) done; where ticks would touch, their \
         height is their density. All arms show the same length of time.",
        &charts,
    )
}

fn chart(page: &Page<'_>, stretch: &Stretch, span: f64) -> Markup {
    let arm = page.report.run.arms[stretch.arm].arm.to_string();
    let title = format!("Timeline under {arm}");
    let description = format!("{} ms of recorded events, one lane a tenant.", number(span));
    let drawing = lanes((&title, &description), stretch, page.inks[stretch.arm], span);
    figure(&arm, &format!("{} ms, from {} ms into the first window", number(span), number(stretch.start)), &drawing)
}

/// The next of 1, 2, 5, 10, 20, …
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.max(1e-6).log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|factor| factor * decade).find(|round| *round >= value).unwrap_or(10.0 * decade)
}

/// Power and clock of the GPU in each arm.
pub(crate) fn telemetry(page: &Page<'_>) -> Markup {
    let power = |sample: &GpuSample| sample.power_milliwatts.map(|power| f64::from(power) / 1e3);
    let clock = |sample: &GpuSample| sample.sm_clock_mhz.map(f64::from);
    let charts: Vec<Markup> = [
        reading(page, ("power", "watts of the board"), &power),
        reading(page, ("SM clock", "MHz of the streaming multiprocessors"), &clock),
    ]
    .into_iter()
    .flatten()
    .collect();
    grid(
        "telemetry",
        "What the GPU did",
        "The driver's readings over the measured windows, every pass of every arm. A clock that falls is a throttled GPU, \
         and makes arms hard to compare.",
        &charts,
    )
}

fn reading(
    page: &Page<'_>,
    (name, detail): (&str, &str),
    figure_of: &dyn Fn(&GpuSample) -> Option<f64>,
) -> Option<Markup> {
    let mut series = Vec::new();
    for (record, ink) in page.report.run.arms.iter().zip(&page.inks) {
        let passes = record.passes.iter().map(|pass| {
            let samples = pass.telemetry.samples.iter();
            samples.filter_map(|(time, sample)| Some((time.seconds(), figure_of(sample)?))).collect::<Vec<_>>()
        });
        for points in passes.filter(|points| points.len() > 1) {
            let first = series.iter().all(|seen: &Series| seen.ink != *ink || seen.label.is_empty());
            let label = if first { record.arm.to_string() } else { String::new() };
            series.push(Series { ink: *ink, label, points });
        }
    }
    let values = || series.iter().flat_map(|series| series.points.iter().map(|(_, value)| *value));
    let high = values().fold(0.0, f64::max);
    let lines = Lines {
        title: (name, &format!("{detail} over the measured window, one line a pass.")),
        logarithmic: false,
        x_text: number,
        x_name: "seconds into the window",
        y_range: (0.0, high * 1.08),
        y_text: number,
        series: &series,
        labels: Labels::AtEnds,
        limit: None,
    };
    Some(figure(name, detail, &lines.draw()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_round() {
        let rounded: Vec<f64> = [0.9, 67.0, 142.0, 501.0].into_iter().map(round_up).collect();
        assert_eq!(rounded, [1.0, 100.0, 200.0, 1000.0]);
    }
}
