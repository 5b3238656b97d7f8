//! What a tenant does alone: the reference of every slowdown.

use std::collections::BTreeMap;

use cotenant_model::run::{Metric, Run, Window};
use cotenant_model::workload::Tenant;
use cotenant_model::{Arm, Nanoseconds};

use super::Percentile;
use super::sample::{Sample, latencies};

/// A tenant's figures alone, all repeats together; empty where it was not measured alone.
#[derive(Debug, Default)]
pub(super) struct Reference {
    /// Units a second, mean of the repeats; `None` when not measured or zero.
    pub(super) throughput: Option<f64>,
    /// Latencies.
    latencies: BTreeMap<Metric, Sample>,
}

/// The reference of every tenant in file order.
///
/// A tenant without windows of its own in `solo` takes those of the first tenant that does the same work.
pub(super) fn references(run: &Run) -> Vec<Reference> {
    let passes = run.arm(&Arm::Solo).map_or_else(Vec::new, |record| record.passes.iter().collect());
    let windows: Vec<&Window> = passes.into_iter().flat_map(|pass| &pass.windows).collect();
    let of = |tenant: &Tenant| -> Vec<&Window> {
        windows.iter().copied().filter(|window| window.tenant == tenant.name && window.failure.is_none()).collect()
    };
    let reference = |tenant: &Tenant| {
        let twins = run.tenants.iter().filter(|other| tenant.same_work(other));
        let measured = std::iter::once(tenant).chain(twins).map(of).find(|windows| !windows.is_empty());
        Reference::of(&measured.unwrap_or_default())
    };
    run.tenants.iter().map(reference).collect()
}

impl Reference {
    fn of(windows: &[&Window]) -> Self {
        let rates: Vec<f64> = windows.iter().filter_map(|window| rate(window)).collect();
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        Self {
            throughput: (mean.is_finite() && mean > 0.0).then_some(mean),
            latencies: latencies(windows.iter().copied()),
        }
    }

    /// A percentile alone; `None` where it was not measured or its sample is too small to state it.
    pub(super) fn percentile(&self, metric: Metric, percent: f64) -> Option<Nanoseconds> {
        match self.latencies.get(&metric)?.percentile(percent) {
            Percentile::Known { value, .. } => Some(value),
            Percentile::AtLeast(_) | Percentile::TooFew { .. } => None,
        }
    }
}

/// Units a second in a window; `None` for a window without length.
pub(super) fn rate(window: &Window) -> Option<f64> {
    per_second(window.work.units, window.length)
}

/// A count over a window's length.
pub(super) fn per_second(count: f64, length: Nanoseconds) -> Option<f64> {
    (length.0 > 0 && count.is_finite() && count >= 0.0).then(|| count / length.seconds())
}
