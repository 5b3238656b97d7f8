//! The figures of one tenant in one arm.

use std::collections::BTreeMap;

use cotenant_model::kernel::WorkUnit;
use cotenant_model::run::{Metric, Process, Window};
use cotenant_model::workload::{Engine, Tenant};
use cotenant_model::{Bytes, Nanoseconds};

use super::reference::{Reference, rate};
use super::sample::{Sample, latencies};
use super::verdict::{Goodput, goodput, unfinished};
use super::{Estimate, Latency, Percentile, TenantSummary, Verdict};

impl TenantSummary {
    /// The figures of a tenant's windows; `shared` is false in the arm `solo`, which has nothing to be compared with.
    ///
    /// Windows in which it failed do not count.
    pub(super) fn of(tenant: &Tenant, windows: &[&Window], reference: &Reference, shared: bool) -> Self {
        let windows: Vec<&Window> = windows.iter().copied().filter(|window| window.failure.is_none()).collect();
        let samples = latencies(windows.iter().copied());
        let rates: Vec<f64> = windows.iter().filter_map(|window| rate(window)).collect();
        let alone = reference.throughput.filter(|_| shared);
        let (goodput, good_fraction) = goodput(&tenant.slo, &windows, reference)
            .map_or((None, None), |Goodput { rates, fraction }| (Estimate::of(&rates), fraction));
        let serves = tenant.load.is_some();
        let sum = |count: fn(&Window) -> u64| windows.iter().fold(0, |sum: u64, w| sum.saturating_add(count(w)));
        Self {
            name: tenant.name.clone(),
            class: tenant.class,
            unit: unit(tenant),
            throughput: Estimate::of(&rates).filter(|_| serves),
            progress: alone.and_then(|alone| Estimate::of(&rates.iter().map(|r| r / alone).collect::<Vec<_>>())),
            goodput,
            good_fraction,
            latencies: summarise(&samples, shared.then_some(reference)),
            verdicts: verdicts(tenant, &samples, reference),
            completed: sum(|window| window.work.completed),
            failed: sum(|window| window.work.failed),
            unfinished: sum(unfinished),
            startup: median(processes(&windows).map(|process| process.startup).collect()),
            resident: processes(&windows).map(|process| process.resident).max().filter(|size| *size > Bytes(0)),
            device_memory: processes(&windows).filter_map(|process| process.device_memory).max(),
        }
    }
}

/// What a tenant's throughput counts; a server generates tokens.
pub(super) const fn unit(tenant: &Tenant) -> WorkUnit {
    match &tenant.engine {
        Engine::Kernel(kernel) => kernel.unit(),
        Engine::Server(_) => WorkUnit::Token,
    }
}

fn processes<'a>(windows: &'a [&Window]) -> impl Iterator<Item = &'a Process> {
    windows.iter().filter_map(|window| window.process.as_ref())
}

/// The middle of the spans, the lower of two.
fn median(mut spans: Vec<Nanoseconds>) -> Option<Nanoseconds> {
    spans.sort_unstable();
    spans.get(spans.len().saturating_sub(1) / 2).copied()
}

fn verdicts(tenant: &Tenant, samples: &BTreeMap<Metric, Sample>, reference: &Reference) -> Vec<Verdict> {
    let none = Sample::default();
    tenant.slo.iter().map(|slo| Verdict::of(*slo, samples.get(&slo.metric).unwrap_or(&none), reference)).collect()
}

fn summarise(samples: &BTreeMap<Metric, Sample>, reference: Option<&Reference>) -> BTreeMap<Metric, Latency> {
    samples.iter().map(|(metric, sample)| (*metric, latency(*metric, sample, reference))).collect()
}

fn latency(metric: Metric, sample: &Sample, reference: Option<&Reference>) -> Latency {
    let slowdown = |percentile: Percentile, percent: f64| {
        let (Percentile::Known { value, .. } | Percentile::AtLeast(value)) = percentile else { return None };
        let alone = reference?.percentile(metric, percent)?;
        (alone.0 > 0).then(|| value.0 as f64 / alone.0 as f64)
    };
    let (p50, p99) = (sample.percentile(50.0), sample.percentile(99.0));
    Latency {
        count: sample.total(),
        p50,
        p90: sample.percentile(90.0),
        p99,
        max: sample.max(),
        slowdown_p50: slowdown(p50, 50.0),
        slowdown_p99: slowdown(p99, 99.0),
    }
}
