//! Tails that no SLO watches: a tenant whose 99th percentile an arm stretches out of proportion.

use cotenant_model::Arm;

use crate::report::figure::{percentile, times};
use crate::report::text::printable;
use crate::report::view;
use crate::summary::{ArmSummary, Latency, Percentile, Summary, TenantSummary};

/// Slowdown at the 99th percentile from which an arm is said to stretch a tail.
const STRETCHED: f64 = 10.0;
/// How much more than the median it must be slowed for the sentence to name the median.
const OVER_MEDIAN: f64 = 2.0;

/// One sentence for each arm that stretches the tail of a tenant without an SLO, on the tenant it slows most.
pub(super) fn stretched(summary: &Summary) -> Vec<String> {
    let shared = summary.arms.iter().filter(|arm| arm.arm != Arm::Solo && view::ran(arm));
    shared.filter_map(|arm| sentence(summary, arm)).collect()
}

fn sentence(summary: &Summary, arm: &ArmSummary) -> Option<String> {
    let unwatched = arm.tenants.iter().filter(|tenant| tenant.verdicts.is_empty());
    let (tenant, latency, slowdown) = unwatched
        .filter_map(|tenant| view::latency(summary, tenant).map(|latency| (tenant, latency)))
        .filter_map(|(tenant, latency)| Some((tenant, latency, latency.slowdown_p99?)))
        .max_by(|(_, _, one), (_, _, other)| one.total_cmp(other))
        .filter(|(_, _, slowdown)| *slowdown >= STRETCHED)?;
    let label = view::metric(summary, &tenant.name)?.label();
    let bound = if matches!(latency.p99, Percentile::AtLeast(_)) { "at least " } else { "" };
    let median = latency.slowdown_p50.filter(|median| median * OVER_MEDIAN < slowdown);
    let median = median.map_or_else(String::new, |median| format!(", though its median is {}", times(median)));
    Some(format!(
        "{} stretches the tail of {}: {label} p99 is {bound}{} what it is alone ({}){median}{}.",
        arm.arm,
        printable(&tenant.name),
        times(slowdown),
        percentile(&latency.p99),
        elsewhere(summary, arm, tenant).unwrap_or_default()
    ))
}

/// The same percentile in the best arm, where that is another one and states it.
fn elsewhere(summary: &Summary, arm: &ArmSummary, tenant: &TenantSummary) -> Option<String> {
    let best = summary.best.and_then(|best| summary.arms.get(best)).filter(|best| best.arm != arm.arm)?;
    let there = best.tenants.iter().find(|seen| seen.name == tenant.name)?;
    let known = |latency: &&Latency| matches!(latency.p99, Percentile::Known { .. });
    let slowdown = view::latency(summary, there).filter(known)?.slowdown_p99?;
    Some(format!("; under {} it is {}", best.arm, times(slowdown)))
}
