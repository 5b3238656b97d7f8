//! Tenants that do the same work and fared alike, which one block can stand for.

use cotenant_model::Arm;
use cotenant_model::workload::Tenant;

use crate::report::Report;
use crate::report::finding::fault::failed;
use crate::report::text::{listed, printable};
use crate::report::view;
use crate::summary::{ArmSummary, Percentile, Summary, TenantSummary};

/// Largest share by which figures that are called alike differ; the table names it.
const ALIKE: f64 = 0.05;

/// The tenants in file order, each with those that fared like it.
pub(super) fn groups<'a>(report: &Report<'a>) -> Vec<Vec<&'a Tenant>> {
    let mut groups: Vec<Vec<&Tenant>> = Vec::new();
    for tenant in &report.run.tenants {
        let group = groups.iter_mut().find(|group| group.first().is_some_and(|first| alike(report, first, tenant)));
        match group {
            Some(group) => group.push(tenant),
            None => groups.push(vec![tenant]),
        }
    }
    groups
}

/// The names of a group: `a`, `a and b`, `decoder-1 … decoder-8` where they follow each other in the file.
pub(super) fn names(report: &Report<'_>, group: &[&Tenant]) -> String {
    let position = |tenant: &Tenant| report.run.tenants.iter().position(|other| other.name == tenant.name);
    if let [first, _, .., last] = group
        && position(last).zip(position(first)).is_some_and(|(last, first)| last - first + 1 == group.len())
    {
        return format!("{} … {}", printable(&first.name), printable(&last.name));
    }
    listed(&group.iter().map(|tenant| printable(&tenant.name)).collect::<Vec<_>>())
}

fn alike(report: &Report<'_>, one: &Tenant, other: &Tenant) -> bool {
    let mut shared = report.summary.arms.iter().filter(|arm| arm.arm != Arm::Solo && arm.refused.is_none());
    let equal = one.same_work(other) && (one.class, one.memory) == (other.class, other.memory) && one.slo == other.slo;
    equal && shared.all(|arm| fared_alike(report.summary, arm, one, other))
}

fn fared_alike(summary: &Summary, arm: &ArmSummary, one: &Tenant, other: &Tenant) -> bool {
    let seen = |tenant: &Tenant| arm.tenants.iter().find(|seen| seen.name == tenant.name);
    let (Some(mine), Some(theirs)) = (seen(one), seen(other)) else { return false };
    let rate = |tenant: &TenantSummary| tenant.throughput.as_ref().map(|rate| rate.mean);
    let latencies = match (view::latency(summary, mine), view::latency(summary, theirs)) {
        (Some(mine), Some(theirs)) => stated_alike(&mine.p50, &theirs.p50) && stated_alike(&mine.p99, &theirs.p99),
        (mine, theirs) => mine.is_none() && theirs.is_none(),
    };
    let kept = |tenant: &TenantSummary| tenant.verdicts.iter().map(|verdict| verdict.kept).collect::<Vec<_>>();
    let troubles = |tenant: &TenantSummary| (failed(arm, &tenant.name), tenant.failed > 0, tenant.unfinished > 0);
    near(rate(mine), rate(theirs)) && latencies && kept(mine) == kept(theirs) && troubles(mine) == troubles(theirs)
}

fn near(one: Option<f64>, other: Option<f64>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (one - other).abs() <= ALIKE * one.abs(),
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn stated_alike(one: &Percentile, other: &Percentile) -> bool {
    match (one, other) {
        (Percentile::Known { value: one, .. }, Percentile::Known { value: other, .. })
        | (Percentile::AtLeast(one), Percentile::AtLeast(other)) => near(Some(one.0 as f64), Some(other.0 as f64)),
        (Percentile::TooFew { .. }, Percentile::TooFew { .. }) => true,
        _ => false,
    }
}
