//! Whether latency targets were kept, over all requests and for each.

use cotenant_model::Nanoseconds;
use cotenant_model::run::{Metric, RequestSamples, Window};
use cotenant_model::workload::{Limit, Slo};

use super::reference::{Reference, per_second};
use super::sample::Sample;
use super::{Percentile, Verdict};

impl Verdict {
    /// Judges an SLO by a sample of its metric.
    pub(super) fn of(slo: Slo, sample: &Sample, reference: &Reference) -> Self {
        let limit = limit(&slo, reference);
        let measured = sample.percentile(slo.percentile);
        let verdict = Self { slo, limit, measured, ratio: None, kept: None };
        let Some(limit) = limit else { return verdict };
        let over = |value: Nanoseconds| value.0 as f64 / limit.0.max(1) as f64;
        match measured {
            Percentile::Known { value, .. } => Self { ratio: Some(over(value)), kept: Some(value <= limit), ..verdict },
            Percentile::AtLeast(bound) => {
                Self { ratio: Some(over(bound)), kept: (bound > limit).then_some(false), ..verdict }
            }
            Percentile::TooFew { .. } => match sample.lower_bound(slo.percentile) {
                Some(bound) if bound > limit => Self { ratio: Some(over(bound)), kept: Some(false), ..verdict },
                _ => verdict,
            },
        }
    }
}

/// An SLO's limit as a duration; `None` when it is a slowdown of what was not measured alone.
fn limit(slo: &Slo, reference: &Reference) -> Option<Nanoseconds> {
    match slo.limit {
        Limit::AtMost(limit) => Some(limit),
        Limit::Slowdown(slowdown) => {
            let alone = reference.percentile(slo.metric, slo.percentile)?;
            Some(Nanoseconds::from_seconds(alone.seconds() * slowdown))
        }
    }
}

/// Requests of a tenant that met every limit.
#[derive(Debug)]
pub(super) struct Goodput {
    /// Good requests a second, one figure a window.
    pub(super) rates: Vec<f64>,
    /// Share of all requests that were good; `None` where there were none.
    pub(super) fraction: Option<f64>,
}

/// The goodput of windows; `None` without an SLO, or where a limit or the requests of a window are unknown.
///
/// A request is good when each SLO's metric of that request is at most the limit, whatever the SLO's percentile. Where only
/// every so many requests were kept, the kept ones stand for all.
pub(super) fn goodput(slos: &[Slo], windows: &[&Window], reference: &Reference) -> Option<Goodput> {
    let limits: Option<Vec<(Metric, u64)>> =
        slos.iter().map(|slo| Some((slo.metric, limit(slo, reference)?.0.div_ceil(1_000)))).collect();
    let limits = limits.filter(|limits| !limits.is_empty())?;
    let goods: Option<Vec<f64>> = windows.iter().map(|window| good(window, &limits)).collect();
    let goods = goods?;
    let rates = goods.iter().zip(windows).filter_map(|(good, window)| per_second(*good, window.length)).collect();
    let ended = |window: &&Window| window.work.completed as f64 + window.work.failed as f64;
    let all: f64 = windows.iter().map(ended).chain(windows.iter().map(|w| unfinished(w) as f64)).sum();
    Some(Goodput { rates, fraction: (all > 0.0).then(|| goods.iter().sum::<f64>() / all) })
}

/// Open-loop requests that had not ended when the window closed.
pub(super) fn unfinished(window: &Window) -> u64 {
    window.unfinished.counts.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

/// Good requests of a window; `None` when requests ended well and none was kept.
fn good(window: &Window, limits: &[(Metric, u64)]) -> Option<f64> {
    let kept = window.requests.e2e.len();
    if kept == 0 {
        return (window.work.completed == 0).then_some(0.0);
    }
    let met = (0..kept)
        .filter(|index| limits.iter().all(|(metric, limit)| meets(&window.requests, *index, *metric, *limit)))
        .count();
    Some(met as f64 / kept as f64 * window.work.completed as f64)
}

/// Whether one request met a limit in microseconds; the load generator's lag is no latency of a request.
fn meets(requests: &RequestSamples, index: usize, metric: Metric, limit: u64) -> bool {
    let column = match metric {
        Metric::Ttft => &requests.ttft,
        Metric::Tpot => &requests.tpot,
        Metric::Itl => &requests.itl,
        Metric::E2e => &requests.e2e,
        Metric::Lag => return true,
    };
    column.get(index).is_some_and(|value| *value <= limit)
}
