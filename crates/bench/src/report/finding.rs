//! What the figures say in words. A sentence compares two figures only where their confidence intervals are apart.

use cotenant_model::Arm;

use super::figure::{money, number, percentile, ratio_spread, times};
use super::interval::{self, Difference};
use super::text::printable;
use super::view;
use crate::summary::{ArmSummary, Latency, Percentile, Summary, TenantSummary};

/// What wins, by how much, and what it costs.
pub(crate) fn headline(summary: &Summary) -> String {
    summary
        .best
        .and_then(|best| summary.arms.get(best))
        .map_or_else(|| without_best(summary), |best| winner(summary, best))
}

/// The headline and after it: what the winner costs its tenants, where MPS loses, what did not run.
pub(crate) fn remarks(summary: &Summary) -> Vec<String> {
    let best = summary.best.and_then(|best| summary.arms.get(best));
    let mut sentences: Vec<String> = best.and_then(|best| cost(summary, best)).into_iter().collect();
    sentences.extend(mps_against_time_slicing(summary));
    sentences.extend(summary.arms.iter().flat_map(unfinished));
    sentences
}

fn winner(summary: &Summary, best: &ArmSummary) -> String {
    let mut sentence = format!("{} does the most", best.arm);
    if let Some(aggregate) = &best.aggregate {
        sentence.extend([format!(": {} times the work of one tenant alone", ratio_spread(aggregate))]);
    }
    if let Some((other, factor)) = rival(summary, best) {
        sentence.extend([format!(", {} what {} does", times(factor), other.arm)]);
    }
    if let (Some(price), Some(unit)) = (best.price_per_million, best.unit) {
        sentence.extend([format!(", for {} per million {}", money(price), unit.plural())]);
        if let Some((other, price)) =
            rival(summary, best).and_then(|(other, _)| Some((other, other.price_per_million?)))
        {
            sentence.extend([format!(" ({}: {})", other.arm, money(price))]);
        }
    }
    if best.slo_kept == Some(true) {
        sentence += ", and keeps every SLO";
    }
    sentence + "."
}

/// What the winner is set against: time slicing, which costs no set-up, or the next best where time slicing wins.
fn rival<'a>(summary: &'a Summary, best: &ArmSummary) -> Option<(&'a ArmSummary, f64)> {
    let mine = best.aggregate.as_ref()?.mean;
    let others = || summary.arms.iter().filter(|arm| arm.arm != best.arm && view::ran(arm) && arm.aggregate.is_some());
    let aggregate = |arm: &ArmSummary| arm.aggregate.as_ref().map_or(0.0, |aggregate| aggregate.mean);
    let stock = others().find(|arm| arm.arm == Arm::TimeSlicing);
    let other = stock.or_else(|| others().max_by(|one, other| aggregate(one).total_cmp(&aggregate(other))))?;
    (aggregate(other) > 0.0).then(|| (other, mine / aggregate(other)))
}

fn without_best(summary: &Summary) -> String {
    let shared: Vec<&ArmSummary> = summary.arms.iter().filter(|arm| arm.arm != Arm::Solo).collect();
    let ran: Vec<&&ArmSummary> = shared.iter().filter(|arm| view::ran(arm)).collect();
    if shared.is_empty() {
        return "Only solo was measured; there is nothing to compare.".to_owned();
    }
    if ran.is_empty() {
        return "In no shared arm did every tenant run to the end.".to_owned();
    }
    if ran.iter().all(|arm| arm.slo_kept != Some(false)) {
        return "No shared arm can be called best: what was measured does not settle it.".to_owned();
    }
    let broken = |arm: &ArmSummary| worst_ratio(arm).unwrap_or(f64::INFINITY);
    let nearest = ran.iter().min_by(|one, other| broken(one).total_cmp(&broken(other)));
    let nearest = nearest.and_then(|arm| worst_ratio(arm).map(|ratio| (arm, ratio)));
    nearest.map_or_else(
        || "No shared arm kept every SLO.".to_owned(),
        |(arm, ratio)| {
            format!("No shared arm kept every SLO; {} came nearest, at {} its limit.", arm.arm, times(ratio))
        },
    )
}

fn worst_ratio(arm: &ArmSummary) -> Option<f64> {
    let ratios = arm.tenants.iter().flat_map(|tenant| &tenant.verdicts).filter_map(|verdict| verdict.ratio);
    ratios.max_by(f64::total_cmp)
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

/// Why an arm, or a tenant in it, has no figures.
pub(crate) fn unfinished(arm: &ArmSummary) -> Vec<String> {
    let refused = arm.refused.iter().map(|why| format!("{} did not run: {}", arm.arm, printable(why)));
    let failed = |(tenant, words): &(String, String)| {
        format!("{} failed in {}: {}", printable(tenant), arm.arm, printable(words))
    };
    refused.chain(arm.failures.iter().map(failed)).collect()
}
