//! What a probe is worth: its aggregate against solo, and its worst SLO ratio.

use cotenant_model::run::{Metric, Run, TuningPoint, Window};
use cotenant_model::workload::{Limit, Slo, Tenant};
use cotenant_model::{Arm, Histogram, Percent};

/// The solo figures that probes are held against.
#[derive(Debug)]
pub(super) struct Score {
    tenants: Vec<Reference>,
}

/// One tenant alone.
#[derive(Debug)]
struct Reference {
    /// Units a second.
    rate: f64,
    /// Each SLO's limit in nanoseconds.
    limits: Vec<(Slo, f64)>,
}

impl Score {
    /// Takes the figures from the solo passes measured so far; `None` when a tenant that does work has none.
    pub(super) fn of(run: &Run) -> Option<Self> {
        let solo = run.arm(&Arm::Solo)?;
        let windows: Vec<&Window> =
            solo.passes.iter().flat_map(|pass| &pass.windows).filter(|window| window.failure.is_none()).collect();
        let of = |tenant: &Tenant| {
            let doer = run.tenants.iter().find(|other| other.name == tenant.name || other.same_work(tenant))?;
            let names = [&tenant.name, &doer.name];
            let window = windows.iter().find(|window| names.contains(&&window.tenant))?;
            let limits = tenant.slo.iter().filter_map(|slo| Some((*slo, limit(slo, window)?))).collect();
            Some(Reference { rate: rate(window), limits })
        };
        let tenants: Option<Vec<Reference>> = run.tenants.iter().map(of).collect();
        tenants.map(|tenants| Self { tenants })
    }

    /// Tenants.
    pub(super) const fn tenants(&self) -> usize {
        self.tenants.len()
    }

    /// The figures of a setting from its windows, each with every tenant in file order.
    pub(super) fn point(&self, percent: &[Percent], seen: &[Vec<Window>]) -> TuningPoint {
        let points: Vec<TuningPoint> = seen.iter().map(|windows| self.single(percent, windows)).collect();
        mean(&points).unwrap_or_else(|| self.single(percent, &[]))
    }

    fn single(&self, percent: &[Percent], windows: &[Window]) -> TuningPoint {
        let pairs = || self.tenants.iter().zip(windows);
        let progress: Vec<f64> = pairs()
            .map(|(reference, window)| if reference.rate > 0.0 { rate(window) / reference.rate } else { 0.0 })
            .collect();
        let worst_slo = pairs()
            .flat_map(|(reference, window)| reference.limits.iter().map(|(slo, limit)| measured(slo, window) / limit))
            .fold(0.0, f64::max);
        TuningPoint { percent: percent.to_vec(), aggregate: progress.iter().sum(), worst_slo, progress }
    }
}

/// The mean of several measurements of one setting; `None` of none.
pub(super) fn mean(points: &[TuningPoint]) -> Option<TuningPoint> {
    let first = points.first()?;
    let count = points.len() as f64;
    let over = |figure: &dyn Fn(&TuningPoint) -> f64| points.iter().map(figure).sum::<f64>() / count;
    Some(TuningPoint {
        percent: first.percent.clone(),
        aggregate: over(&|point| point.aggregate),
        worst_slo: over(&|point| point.worst_slo),
        progress: (0..first.progress.len())
            .map(|tenant| over(&|point| point.progress.get(tenant).copied().unwrap_or(0.0)))
            .collect(),
    })
}

/// The points of a grid worth measuring again: those with the highest aggregate among those that seem to keep every SLO.
///
/// A point of the grid is one short window, in which a tail percentile is a few requests; so a point seems to keep its SLOs
/// when the median over it and its neighbours (5 % away in any tenant) does, the upper one where there are two.
pub(super) fn finalists(points: &[TuningPoint], count: usize) -> Vec<Vec<Percent>> {
    let near = |one: &TuningPoint, other: &TuningPoint| {
        one.percent.iter().zip(&other.percent).all(|(one, other)| one.get().abs_diff(other.get()) <= 5)
    };
    let smooth = |point: &TuningPoint| {
        let mut ratios: Vec<f64> =
            points.iter().filter(|other| near(point, other)).map(|other| other.worst_slo).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::MAX)
    };
    let mut kept: Vec<&TuningPoint> = points.iter().filter(|point| smooth(point) <= 1.0).collect();
    kept.sort_by(|one, other| other.aggregate.total_cmp(&one.aggregate));
    kept.into_iter().take(count).map(|point| point.percent.clone()).collect()
}

fn rate(window: &Window) -> f64 {
    let seconds = window.length.seconds();
    if seconds > 0.0 { window.work.units / seconds } else { 0.0 }
}

fn limit(slo: &Slo, solo: &Window) -> Option<f64> {
    let limit = match slo.limit {
        Limit::AtMost(limit) => limit.0 as f64,
        Limit::Slowdown(slowdown) => slowdown * quantile(&latencies(slo.metric, solo), slo.percentile)?,
    };
    (limit > 0.0).then_some(limit)
}

/// The percentile of a window in nanoseconds; endless when nothing ended at all, for then the tenant was starved.
fn measured(slo: &Slo, window: &Window) -> f64 {
    quantile(&latencies(slo.metric, window), slo.percentile).unwrap_or(f64::MAX)
}

/// A window's latencies; requests that had not ended count with their age, which is the least they will be.
fn latencies(metric: Metric, window: &Window) -> Histogram {
    let ended = window.histograms.get(&metric).cloned().unwrap_or_default();
    if metric == Metric::E2e { ended.merged(&window.unfinished) } else { ended }
}

/// Nearest rank. A probe's window is short: this steers the search, and is never reported as a percentile.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is positive and below the count")]
fn quantile(histogram: &Histogram, percentile: f64) -> Option<f64> {
    let rank = (histogram.len() as f64 * percentile / 100.0).ceil() as u64;
    histogram.at_rank(rank.max(1)).map(|value| value.0 as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotenant_model::Nanoseconds;

    fn window(units: f64, latencies: &[(u64, u64)]) -> Window {
        let mut window = Window { length: Nanoseconds(2_000_000_000), ..Window::default() };
        window.work.units = units;
        window.histograms.insert(Metric::Itl, Histogram { counts: latencies.to_vec() });
        window
    }

    #[test]
    fn a_point_is_held_against_solo_and_the_worst_slo_counts() {
        let slo = Slo { metric: Metric::Itl, percentile: 99.0, limit: Limit::Slowdown(1.2) };
        let solo = window(1000.0, &[(100, 98), (200, 2)]);
        let reference = Reference { rate: rate(&solo), limits: vec![(slo, limit(&slo, &solo).expect("limit"))] };
        let score = Score { tenants: vec![reference, Reference { rate: 10.0, limits: Vec::new() }] };
        let percent = [Percent::ALL, Percent::ALL];
        let point = score.point(&percent, &[vec![window(900.0, &[(100, 90), (480, 10)]), window(10.0, &[])]]);
        assert!((point.aggregate - 1.4).abs() < 1e-9, "{point:?}");
        assert!((point.worst_slo - 2.0).abs() < 1e-9, "{point:?}");
    }

    #[test]
    fn one_unlucky_window_does_not_put_a_point_out_of_the_finals_nor_a_lucky_one_in() {
        let percent = |number: u8| Percent::try_from(number).expect("percent");
        let point = |(share, worst_slo): (u8, f64)| TuningPoint {
            percent: vec![percent(share)],
            aggregate: f64::from(share),
            worst_slo,
            progress: Vec::new(),
        };
        let unlucky = [(15, 0.8), (20, 0.8), (25, 1.4), (30, 0.9), (35, 0.95)];
        let lucky = [(55, 1.8), (60, 2.0), (65, 0.9), (70, 2.0)];
        let grid: Vec<TuningPoint> = unlucky.into_iter().chain(lucky).map(point).collect();
        let shares: Vec<u8> = finalists(&grid, 4).iter().map(|percent| percent[0].get()).collect();
        assert_eq!(shares, [35, 30, 25, 20]);
    }

    #[test]
    fn a_starved_tenant_breaks_its_slo() {
        let slo = Slo { metric: Metric::Itl, percentile: 50.0, limit: Limit::AtMost(Nanoseconds(10)) };
        assert!(measured(&slo, &window(0.0, &[])) > 1e300);
    }
}
