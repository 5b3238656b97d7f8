//! What the figures say in words. A sentence compares two figures only where their confidence intervals are apart.

pub(crate) mod fault;
mod headline;
mod tail;

use cotenant_model::Arm;

use super::Report;
use super::figure::{number, percentile, ratio_spread, times};
use super::interval::{self, Difference};
use super::text::{listed, printable};
use super::view;
use crate::summary::{ArmSummary, Latency, Percentile, Summary, TenantSummary};

/// What wins, by how much, and what it costs; where no arm ran whole, how far a fault reached.
pub(crate) fn headline(report: &Report<'_>) -> String {
    let summary = report.summary;
    match summary.best.and_then(|best| summary.arms.get(best)) {
        Some(best) => headline::winner(report, best),
        None => fault_instead(report).unwrap_or_else(|| headline::without_best(summary)),
    }
}

/// What the headline says where no shared arm ran whole.
fn fault_instead(report: &Report<'_>) -> Option<String> {
    let mut shared = report.summary.arms.iter().filter(|arm| arm.arm != Arm::Solo);
    (!shared.any(view::ran)).then(|| fault::reach(report.run)).flatten()
}

/// After the headline: what the winner costs its tenants, whose tail an arm stretches, where MPS loses, how far a fault
/// reached, what did not run and who went on.
pub(crate) fn remarks(report: &Report<'_>) -> Vec<String> {
    let summary = report.summary;
    let best = summary.best.and_then(|best| summary.arms.get(best));
    let mut sentences: Vec<String> = best.and_then(|best| cost(summary, best)).into_iter().collect();
    sentences.extend(tail::stretched(summary));
    sentences.extend(mps_against_time_slicing(summary));
    if fault_instead(report).is_none() {
        sentences.extend(fault::reach(report.run));
    }
    sentences.extend(summary.arms.iter().flat_map(|arm| unfinished(arm).into_iter().chain(fault::survivors(arm))));
    sentences
}

/// What sharing costs the tenant that pays most for it.
fn cost(summary: &Summary, best: &ArmSummary) -> Option<String> {
    let (tenant, latency) = view::worst(summary, best)?;
    let label = view::metric(summary, &tenant.name)?.label();
    let (name, slowdown, at, value) = match (latency.slowdown_p99, latency.slowdown_p50) {
        (Some(slowdown), _) => ("p99", slowdown, &latency.p99, percentile(&latency.p99)),
        (None, slowdown) => ("p50", slowdown?, &latency.p50, percentile(&latency.p50)),
    };
    let bound = if matches!(at, Percentile::AtLeast(_)) { "at least " } else { "" };
    let tenant = printable(&tenant.name);
    Some(format!(
        "The price of it: {label} {name} of {tenant} is {bound}{} what it is alone ({value}).",
        times(slowdown)
    ))
}

/// One sentence for each MPS arm on where it loses to time slicing, or one that says it did not.
pub(crate) fn mps_against_time_slicing(summary: &Summary) -> Vec<String> {
    let Some(stock) = view::arm(summary, &Arm::TimeSlicing).filter(|arm| view::ran(arm)) else { return Vec::new() };
    let clients: Vec<&ArmSummary> =
        summary.arms.iter().filter(|arm| arm.arm.uses_mps() && arm.refused.is_none()).collect();
    let mut sentences = Vec::new();
    for client in &clients {
        let losses = losses(summary, client, stock);
        if !losses.is_empty() {
            sentences.push(format!("{} loses to time-slicing: {}.", client.arm, losses.join("; ")));
        }
    }
    if sentences.is_empty() && !clients.is_empty() {
        sentences.push("MPS loses to time-slicing in no figure whose confidence intervals are apart.".to_owned());
    }
    sentences
}

fn losses(summary: &Summary, client: &ArmSummary, stock: &ArmSummary) -> Vec<String> {
    let mut losses = Vec::new();
    if !client.failures.is_empty() {
        let names: Vec<String> = client.failures.iter().map(|(name, _)| printable(name)).collect();
        losses.push(format!("{} failed, which all ran under time-slicing", names.join(", ")));
    }
    if interval::estimates(client.aggregate.as_ref(), stock.aggregate.as_ref()) == Some(Difference::Below)
        && let (Some(mine), Some(theirs)) = (&client.aggregate, &stock.aggregate)
    {
        losses.push(format!("aggregate {} against {}", ratio_spread(mine), ratio_spread(theirs)));
    }
    for tenant in &client.tenants {
        if let Some(before) = stock.tenants.iter().find(|before| before.name == tenant.name) {
            losses.extend(tenant_losses(summary, tenant, before));
        }
    }
    losses
}

fn tenant_losses(summary: &Summary, mine: &TenantSummary, theirs: &TenantSummary) -> Vec<String> {
    let name = printable(&mine.name);
    let mut losses = Vec::new();
    if interval::estimates(mine.throughput.as_ref(), theirs.throughput.as_ref()) == Some(Difference::Below)
        && let (Some(now), Some(before)) = (&mine.throughput, &theirs.throughput)
    {
        let unit = mine.unit.plural();
        losses.push(format!("{name} does {} {unit}/s against {}", number(now.mean), number(before.mean)));
    }
    if let (Some(metric), Some(now), Some(before)) =
        (view::metric(summary, &mine.name), view::latency(summary, mine), view::latency(summary, theirs))
        && let Some((which, now, before)) = slower(now, before)
    {
        losses.push(format!("{} {which} of {name} is {now} against {before}", metric.label()));
    }
    losses
}

/// The 99th percentile if it is slower, otherwise the median if that is.
fn slower(now: &Latency, before: &Latency) -> Option<(&'static str, String, String)> {
    let above = |now, before| interval::percentiles(now, before) == Some(Difference::Above);
    [("p99", &now.p99, &before.p99), ("p50", &now.p50, &before.p50)]
        .into_iter()
        .find(|(_, now, before)| above(now, before))
        .map(|(which, now, before)| (which, percentile(now), percentile(before)))
}

/// Why an arm, or tenants in it, have no figures.
pub(crate) fn unfinished(arm: &ArmSummary) -> Vec<String> {
    let refused = arm.refused.iter().map(|why| format!("{} did not run: {}", arm.arm, printable(why)));
    let failed = fault::last_words(arm)
        .into_iter()
        .map(|(tenants, words)| format!("{} failed in {}: {words}", listed(&tenants), arm.arm));
    refused.chain(failed).collect()
}
