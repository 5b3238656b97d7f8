//! Questions that several reports ask of a run.

use cotenant_model::run::{ArmRecord, Metric, Run, Trace, Window};
use cotenant_model::workload::{Class, Engine};
use cotenant_model::{Arm, Histogram};

use super::figure::{NONE, spread};
use super::finding::fault::failed;
use super::text::printable;
use crate::summary::{ArmSummary, Latency, Percentile, Summary, TenantSummary};

/// Order in which a latency is chosen to stand for a tenant that has no SLO.
const PREFERRED: [Metric; 4] = [Metric::E2e, Metric::Itl, Metric::Tpot, Metric::Ttft];

/// The latency that stands for a tenant in every arm: that of its first SLO, otherwise the first of end-to-end, token gap,
/// time per token and time to first token with enough values for a 99th percentile in some arm.
pub(crate) fn metric(summary: &Summary, tenant: &str) -> Option<Metric> {
    let of_tenant = || summary.arms.iter().flat_map(|arm| &arm.tenants).filter(|seen| seen.name == tenant);
    if let Some(verdict) = of_tenant().find_map(|seen| seen.verdicts.first()) {
        return Some(verdict.slo.metric);
    }
    let stated = |metric: &Metric| {
        let mut known = of_tenant().filter_map(|seen| seen.latencies.get(metric));
        known.any(|latency| !matches!(latency.p99, Percentile::TooFew { .. }))
    };
    let present = |metric: &Metric| of_tenant().any(|seen| seen.latencies.contains_key(metric));
    PREFERRED.into_iter().find(stated).or_else(|| PREFERRED.into_iter().find(present))
}

/// The latency that stands for a tenant, as this arm measured it.
pub(crate) fn latency<'a>(summary: &Summary, tenant: &'a TenantSummary) -> Option<&'a Latency> {
    metric(summary, &tenant.name).and_then(|metric| tenant.latencies.get(&metric))
}

/// Whether the run has a protected tenant; then the reports watch those and not the others.
pub(crate) fn has_protected(summary: &Summary) -> bool {
    summary.arms.iter().flat_map(|arm| &arm.tenants).any(|tenant| tenant.class == Class::Protected)
}

/// The tenant of an arm that is slowed most at its 99th percentile (at its median where no tenant states one), among the
/// protected ones where the run has any.
pub(crate) fn worst<'a>(summary: &Summary, arm: &'a ArmSummary) -> Option<(&'a TenantSummary, &'a Latency)> {
    let protected = has_protected(summary);
    let watched = arm.tenants.iter().filter(|tenant| !protected || tenant.class == Class::Protected);
    let slowdown = |latency: &Latency| latency.slowdown_p99.or(latency.slowdown_p50).unwrap_or(0.0);
    let stated = |latency: &Latency| latency.slowdown_p99.is_some();
    watched
        .filter_map(|tenant| latency(summary, tenant).map(|latency| (tenant, latency)))
        .max_by(|(_, one), (_, other)| stated(one).cmp(&stated(other)).then(slowdown(one).total_cmp(&slowdown(other))))
}

/// Whether every tenant of the arm ran.
pub(crate) const fn ran(arm: &ArmSummary) -> bool {
    arm.refused.is_none() && arm.failures.is_empty() && !arm.tenants.is_empty()
}

/// The arm of a summary.
pub(crate) fn arm<'a>(summary: &'a Summary, arm: &Arm) -> Option<&'a ArmSummary> {
    summary.arms.iter().find(|seen| seen.arm == *arm)
}

/// The tenant's windows that count, in an arm; those of a tenant with the same work where `solo` measured only that one.
pub(crate) fn windows<'a>(run: &'a Run, record: &'a ArmRecord, tenant: &str) -> Vec<&'a Window> {
    twin(run, record, tenant).map_or_else(|| named(record, tenant), |twin| named(record, twin))
}

/// The tenant whose windows in `solo` stand for this one too; `None` in other arms, or where it has its own or none has.
pub(crate) fn twin<'a>(run: &'a Run, record: &ArmRecord, tenant: &str) -> Option<&'a str> {
    if record.arm != Arm::Solo || !named(record, tenant).is_empty() {
        return None;
    }
    let this = run.tenants.iter().find(|seen| seen.name == tenant)?;
    let mut alike = run.tenants.iter().filter(|other| other.name != tenant && this.same_work(other));
    alike.find(|other| !named(record, &other.name).is_empty()).map(|other| other.name.as_str())
}

/// A tenant's throughput in an arm; where there is none, that it failed or whose solo run stands for its own.
pub(crate) fn throughput(run: &Run, arm: &ArmSummary, tenant: &TenantSummary) -> String {
    if let Some(throughput) = &tenant.throughput {
        return spread(throughput);
    }
    if failed(arm, &tenant.name) {
        return "failed".to_owned();
    }
    let twin = run.arm(&arm.arm).and_then(|record| twin(run, record, &tenant.name));
    twin.map_or_else(|| NONE.to_owned(), |twin| format!("as {}", printable(twin)))
}

fn named<'a>(record: &'a ArmRecord, tenant: &str) -> Vec<&'a Window> {
    let windows = record.passes.iter().flat_map(|pass| &pass.windows);
    windows.filter(|window| window.tenant == tenant && window.failure.is_none()).collect()
}

/// All repeats of a latency in one histogram, and how many requests besides had not ended when their window closed.
pub(crate) fn distribution(windows: &[&Window], metric: Metric) -> (Histogram, u64) {
    let merged = windows
        .iter()
        .filter_map(|window| window.histograms.get(&metric))
        .fold(Histogram::default(), |all, one| all.merged(one));
    let open = if metric == Metric::E2e { windows.iter().map(|window| window.unfinished.len()).sum() } else { 0 };
    (merged, open)
}

/// The recorded times of a tenant in an arm, and the units that each of its events completes.
pub(crate) fn trace<'a>(run: &'a Run, record: &'a ArmRecord, tenant: &str) -> Option<(&'a Trace, u32)> {
    let trace = named(record, tenant).into_iter().find_map(|window| window.trace.as_ref())?;
    let units = run.tenants.iter().find(|seen| seen.name == tenant).map_or(1, |tenant| match &tenant.engine {
        Engine::Kernel(kernel) => kernel.units_per_step(),
        Engine::Server(_) => 1,
    });
    Some((trace, units))
}
