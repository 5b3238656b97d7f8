//! Latency distributions: one chart a tenant, all arms over each other.

use maud::Markup;

use cotenant_model::run::Metric;
use cotenant_model::{Arm, Histogram, Nanoseconds};

use super::{Page, grid};
use crate::report::chart::figure;
use crate::report::chart::lines::{Labels, Lines, Series};
use crate::report::text::printable;
use crate::report::view;

/// Most points of a curve; more would not show.
const POINTS: usize = 160;

/// One chart a tenant.
pub(crate) fn section(page: &Page<'_>) -> Markup {
    let charts: Vec<Markup> = page.report.run.tenants.iter().filter_map(|tenant| chart(page, &tenant.name)).collect();
    grid(
        "latency",
        "Latency, whole",
        "Share of requests (of tokens for ITL) that took at most so long; further left is better. Solo, dashed, is the \
         tenant alone. A curve that ends below 100 % had requests that were due and had not ended when the window closed.",
        &charts,
    )
}

fn chart(page: &Page<'_>, tenant: &str) -> Option<Markup> {
    let report = &page.report;
    let metric = view::metric(report.summary, tenant)?;
    let series: Vec<Series> = report
        .run
        .arms
        .iter()
        .zip(&page.inks)
        .filter_map(|(record, ink)| {
            let windows = view::windows(report.run, record, tenant);
            let (histogram, open) = view::distribution(&windows, metric);
            let points = curve(&histogram, open);
            (!points.is_empty()).then(|| Series { ink: *ink, label: record.arm.to_string(), points })
        })
        .collect();
    let name = printable(tenant);
    let title = format!("{} of {name}", metric.label());
    let lines = Lines {
        title: (&title, &format!("Cumulative distribution of {} of {name}, one curve an arm.", explained(metric))),
        logarithmic: true,
        x_text: |nanoseconds| Nanoseconds::from_seconds(nanoseconds / 1e9).to_string(),
        x_name: "latency, logarithmic",
        y_range: (0.0, 100.0),
        y_text: |percent| format!("{percent} %"),
        series: &series,
        labels: Labels::OnLines,
        limit: limit(page, tenant),
    };
    Some(figure(&name, explained(metric), &lines.draw()?))
}

/// The share in percent of all values, those still open among them, that are at most each value.
fn curve(histogram: &Histogram, open: u64) -> Vec<(f64, f64)> {
    let all = (histogram.len() + open) as f64;
    let Some((first, _)) = histogram.counts.first() else { return Vec::new() };
    let mut points = vec![(*first as f64, 0.0)];
    let mut seen = 0;
    for (value, count) in &histogram.counts {
        seen += count;
        points.push((*value as f64, 100.0 * seen as f64 / all));
    }
    let every = points.len().div_ceil(POINTS).max(1);
    let last = points.len() - 1;
    points
        .into_iter()
        .enumerate()
        .filter(|(index, _)| index % every == 0 || *index == last)
        .map(|(_, point)| point)
        .collect()
}

/// The first SLO's limit, where it is a duration or solo was measured.
fn limit(page: &Page<'_>, tenant: &str) -> Option<(f64, String)> {
    let seen = page.report.summary.arms.iter().filter(|arm| arm.arm != Arm::Solo).flat_map(|arm| &arm.tenants);
    let verdict = seen.filter(|seen| seen.name == tenant).find_map(|seen| seen.verdicts.first())?;
    let limit = verdict.limit?;
    Some((limit.0 as f64, format!("p{} ≤ {limit}", verdict.slo.percentile)))
}

/// What a latency is, in words.
pub(crate) const fn explained(metric: Metric) -> &'static str {
    match metric {
        Metric::Ttft => "time to first token",
        Metric::Tpot => "time per output token",
        Metric::Itl => "gap between tokens",
        Metric::E2e => "whole request, from when it was due",
        Metric::Lag => "lag of the load generator",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_never_ended_keep_the_curve_below_the_top() {
        let histogram = Histogram { counts: vec![(10, 6), (20, 3)] };
        assert_eq!(curve(&histogram, 1), [(10.0, 0.0), (10.0, 60.0), (20.0, 90.0)]);
        assert!(curve(&Histogram::default(), 5).is_empty());
    }
}
