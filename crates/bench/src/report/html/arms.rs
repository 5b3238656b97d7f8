//! The table of arms and that of each tenant's figures.

use maud::{Markup, html};

use cotenant_model::Arm;

use super::Page;
use crate::report::figure::{NONE, money, number, or_none, percentile_interval, ratio, ratio_spread, spread, times};
use crate::report::finding;
use crate::report::progress;
use crate::report::text::{listed, printable};
use crate::report::view;
use crate::summary::{ArmSummary, Percentile, TenantSummary};

/// Both tables, each in a container that scrolls by itself.
pub(crate) fn section(page: &Page<'_>) -> Markup {
    html! {
        section id="arms" {
            h2 { "Arms" }
            (arms(page))
            h2 { "Tenants" }
            (tenants(page))
        }
    }
}

fn arms(page: &Page<'_>) -> Markup {
    let summary = page.report.summary;
    let watched = if view::has_protected(summary) { "worst protected tenant" } else { "worst tenant" };
    let heads = heads(page);
    html! {
        div.scroll tabindex="0" role="region" aria-label="Table of arms" {
            table {
                caption {
                    "One line an arm, losers and failures kept. Slower: latency of the " (watched)
                    " ÷ its latency alone. ± is the 95 % confidence interval of the mean."
                }
                thead { tr { th scope="col" { "arm" } @for (_, head) in &heads { th.n scope="col" { (head) } } } }
                tbody {
                    @for (position, arm) in summary.arms.iter().enumerate() {
                        @let best = summary.best == Some(position);
                        tr class=[best.then_some("best")] {
                            th scope="row" class={ "arm a" (page.inks[position].slot) } {
                                span.swatch {} (arm.arm.to_string()) @if best { span.star { "★ best" } }
                            }
                            @if view::ran(arm) {
                                @let cells = cells(page, arm);
                                @for (column, _) in &heads { td.n { (cells[*column]) } }
                            } @else {
                                td.reason colspan=(heads.len()) { "✗ " (reason(arm)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Why an arm is not compared: its refusal, or how its tenants went on and which failed; their last words stand above.
fn reason(arm: &ArmSummary) -> String {
    if arm.failures.is_empty() {
        return finding::unfinished(arm).join("; ");
    }
    let names = finding::fault::last_words(arm).into_iter().flat_map(|(tenants, _)| tenants).collect::<Vec<_>>();
    format!("progress of each tenant: {} ({})", progress::of(arm), listed(&names))
}

/// The heads of the columns that some arm fills, with their positions in [`cells`].
fn heads(page: &Page<'_>) -> Vec<(usize, &'static str)> {
    let all = [
        "aggregate, × solo",
        "× best solo",
        "units/s in all",
        "p50 slower",
        "p99 slower",
        "SLO",
        "Jain",
        "W",
        "J per 1k",
        "$ per 1M",
    ];
    let rows: Vec<[String; 10]> =
        page.report.summary.arms.iter().filter(|arm| view::ran(arm)).map(|arm| cells(page, arm)).collect();
    all.into_iter().enumerate().filter(|(column, _)| rows.iter().any(|row| row[*column] != NONE)).collect()
}

fn cells(page: &Page<'_>, arm: &ArmSummary) -> [String; 10] {
    let summary = page.report.summary;
    let watched = view::worst(summary, arm).filter(|_| arm.arm != Arm::Solo).map(|(_, latency)| latency);
    [
        or_none(arm.aggregate.as_ref(), ratio_spread),
        or_none(arm.aggregate_over_best_solo.as_ref(), |best| ratio(best.mean)),
        or_none(arm.throughput.as_ref(), spread),
        or_none(watched, |latency| slowdown(latency.slowdown_p50, &latency.p50)),
        or_none(watched, |latency| slowdown(latency.slowdown_p99, &latency.p99)),
        or_none(arm.slo_kept, |kept| (if kept { "✓ kept" } else { "✗ broken" }).to_owned()),
        or_none(arm.jain.as_ref(), |jain| ratio(jain.mean)),
        or_none(arm.watts.as_ref(), |watts| number(watts.mean)),
        or_none(arm.joules_per_unit.as_ref(), |joules| number(joules.mean * 1e3)),
        or_none(arm.price_per_million, money),
    ]
}

/// A slowdown, or why it is not known.
pub(crate) fn slowdown(slowdown: Option<f64>, percentile: &Percentile) -> String {
    match (slowdown, percentile) {
        (Some(slowdown), Percentile::AtLeast(_)) => format!("≥ {}", times(slowdown)),
        (Some(slowdown), _) => times(slowdown),
        (None, Percentile::TooFew { count, needed }) => format!("{count} of {needed} values"),
        (None, _) => NONE.to_owned(),
    }
}

fn tenants(page: &Page<'_>) -> Markup {
    let summary = page.report.summary;
    html! {
        @for tenant in &page.report.run.tenants {
            @let metric = view::metric(summary, &tenant.name);
            div.scroll tabindex="0" role="region" aria-label={ "Table of tenant " (printable(&tenant.name)) } {
                table {
                    caption { strong { (printable(&tenant.name)) } @if let Some(metric) = metric { " · latency is " (metric.label()) ", its 95 % confidence interval in brackets" } }
                    thead { tr {
                        th scope="col" { "arm" }
                        @for head in ["units/s", "progress", "p50", "p99", "max", "SLO", "requests", "failed", "open", "startup"] { th.n scope="col" { (head) } }
                    } }
                    tbody {
                        @for (arm, ink) in summary.arms.iter().zip(&page.inks).filter(|(arm, _)| arm.refused.is_none()) {
                            @for seen in arm.tenants.iter().filter(|seen| seen.name == tenant.name) {
                                tr {
                                    th scope="row" class={ "arm a" (ink.slot) } { span.swatch {} (arm.arm.to_string()) }
                                    @for cell in tenant_cells(page, arm, seen) { td.n { (cell) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn tenant_cells(page: &Page<'_>, arm: &ArmSummary, tenant: &TenantSummary) -> [String; 10] {
    let latency = view::latency(page.report.summary, tenant);
    let verdicts: Vec<String> = tenant.verdicts.iter().map(verdict).collect();
    [
        view::throughput(page.report.run, arm, tenant),
        or_none(tenant.progress.as_ref(), ratio_spread),
        or_none(latency, |latency| percentile_interval(&latency.p50)),
        or_none(latency, |latency| percentile_interval(&latency.p99)),
        or_none(latency, |latency| latency.max.to_string()),
        if verdicts.is_empty() { NONE.to_owned() } else { verdicts.join("; ") },
        number(tenant.completed as f64),
        number(tenant.failed as f64),
        number(tenant.unfinished as f64),
        or_none(tenant.startup, |startup| startup.to_string()),
    ]
}

/// `ITL p99 1.3 ms of 1.36 ms: kept`.
fn verdict(verdict: &crate::summary::Verdict) -> String {
    let word = match verdict.kept {
        Some(true) => "✓ kept",
        Some(false) => "✗ broken",
        None => "unknown",
    };
    let limit = or_none(verdict.limit, |limit| limit.to_string());
    let measured = crate::report::figure::percentile(&verdict.measured);
    let at = or_none(verdict.ratio, |at| format!("{} × limit", ratio(at)));
    let slo = verdict.slo;
    format!("{word}: {} p{} {measured} of {limit}, {at}", slo.metric.label(), slo.percentile)
}
