//! The first sentence: which arm wins, and which arms could not be considered because they broke an SLO.

use cotenant_model::Arm;
use cotenant_model::run::Run;

use crate::report::Report;
use crate::report::figure::{money, ratio_spread, times};
use crate::report::interval::{self, Difference};
use crate::report::text::{listed, printable};
use crate::report::view;
use crate::summary::{ArmSummary, Percentile, Summary, Verdict};

/// What the best arm yields against the others that may be called best, its price, and by how much the rest broke an SLO.
pub(super) fn winner(report: &Report<'_>, best: &ArmSummary) -> String {
    let summary = report.summary;
    let only = only_kept(report, best);
    let mut sentence = only.clone().unwrap_or_else(|| yielded(summary, best));
    if let Some(aggregate) = &best.aggregate {
        sentence.extend([format!(": {} times the work of one tenant alone", ratio_spread(aggregate))]);
    }
    let rival = rival(summary, best);
    if let Some((other, factor)) = rival.filter(|(other, _)| only.is_none() && !equal(other, best)) {
        sentence.extend([format!(", {} what {} does", times(factor), other.arm)]);
    }
    if let (Some(price), Some(unit)) = (best.price_per_million, best.unit) {
        sentence.extend([format!(", for {} per million {}", money(price), unit.plural())]);
        if let Some((other, price)) = rival.and_then(|(other, _)| Some((other, other.price_per_million?))) {
            sentence.extend([format!(" ({}: {})", other.arm, money(price))]);
        }
    }
    if only.is_none() && best.slo_kept == Some(true) {
        sentence += ", and keeps every SLO";
    }
    let broken = broken(summary).into_iter().map(|broken| format!(" {broken}"));
    sentence + "." + &broken.collect::<String>()
}

/// The shared arms in which every tenant ran.
fn whole(summary: &Summary) -> impl Iterator<Item = &ArmSummary> {
    summary.arms.iter().filter(|arm| arm.arm != Arm::Solo && view::ran(arm))
}

/// Which arms kept every SLO, where not all did, and which of them does the most: `Only mps:70/30 kept every SLO`.
fn only_kept(report: &Report<'_>, best: &ArmSummary) -> Option<String> {
    let arms: Vec<&ArmSummary> = whole(report.summary).collect();
    if best.slo_kept != Some(true) || arms.iter().all(|arm| arm.slo_kept == Some(true)) {
        return None;
    }
    let kept: Vec<String> =
        arms.iter().filter(|arm| arm.slo_kept == Some(true)).map(|arm| named(report.run, &arm.arm)).collect();
    let known = if arms.iter().any(|arm| arm.slo_kept.is_none()) { "is known to have kept" } else { "kept" };
    let rest = if kept.len() > 1 { format!("; of these {}", yielded(report.summary, best)) } else { String::new() };
    Some(format!("Only {} {} every SLO{rest}", listed(&kept), plural(known, kept.len())))
}

fn plural(verb: &str, count: usize) -> String {
    if count > 1 { verb.replacen("is ", "are ", 1) } else { verb.to_owned() }
}

/// The arm, and that the tuner found it where it did.
fn named(run: &Run, arm: &Arm) -> String {
    let chosen = run.tuning.as_ref().and_then(|tuning| tuning.points.get(tuning.chosen?));
    let tuned = chosen.is_some_and(|point| *arm == Arm::MpsPercent(point.percent.clone()));
    if tuned { format!("{arm} (found by the tuner)") } else { arm.to_string() }
}

/// That the best arm does the most, or which do equally much.
fn yielded(summary: &Summary, best: &ArmSummary) -> String {
    let eligible = whole(summary).filter(|arm| arm.slo_kept == best.slo_kept && arm.arm != best.arm);
    let equals: Vec<String> = eligible.filter(|arm| equal(arm, best)).map(|arm| arm.arm.to_string()).collect();
    if equals.is_empty() {
        return format!("{} does the most", best.arm);
    }
    let all: Vec<String> = equals.into_iter().chain([best.arm.to_string()]).collect();
    format!("{} do equally much within their spread, {} slows its tenants least", listed(&all), best.arm)
}

/// Whether no difference is seen between what two arms yield.
fn equal(one: &ArmSummary, other: &ArmSummary) -> bool {
    interval::estimates(one.aggregate.as_ref(), other.aggregate.as_ref()) == Some(Difference::Unseen)
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

/// One sentence for each SLO that is the worst broken of some arm: `ITL p99 of chat came to 2.95× (under mps) its limit.`
fn broken(summary: &Summary) -> Vec<String> {
    let mut slos: Vec<(String, Vec<String>)> = Vec::new();
    for arm in whole(summary) {
        let Some((slo, ratio)) = worst_broken(arm) else { continue };
        let at = format!("{ratio} (under {})", arm.arm);
        match slos.iter_mut().find(|(seen, _)| *seen == slo) {
            Some((_, arms)) => arms.push(at),
            None => slos.push((slo, vec![at])),
        }
    }
    slos.into_iter().map(|(slo, arms)| format!("{slo} came to {} its limit.", listed(&arms))).collect()
}

/// The SLO that an arm broke worst, and how many times its limit was measured.
fn worst_broken(arm: &ArmSummary) -> Option<(String, String)> {
    let verdicts = arm.tenants.iter().flat_map(|tenant| tenant.verdicts.iter().map(move |verdict| (tenant, verdict)));
    let ratio = |verdict: &Verdict| verdict.ratio.filter(|_| verdict.kept == Some(false));
    let (tenant, verdict, ratio) = verdicts
        .filter_map(|(tenant, verdict)| Some((tenant, verdict, ratio(verdict)?)))
        .max_by(|(_, _, one), (_, _, other)| one.total_cmp(other))?;
    let bound = if matches!(verdict.measured, Percentile::Known { .. }) { "" } else { "at least " };
    let slo = format!("{} p{} of {}", verdict.slo.metric.label(), verdict.slo.percentile, printable(&tenant.name));
    Some((slo, format!("{bound}{}", times(ratio))))
}

/// Why no arm can be called best.
pub(super) fn without_best(summary: &Summary) -> String {
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
