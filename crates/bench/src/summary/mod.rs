//! What a run says: every figure of the tables and plots, derived from its record alone.
//!
//! The rules: a percentile comes from the repeats' histograms added up, never from their percentiles; a figure that has
//! one value a repeat is an [`Estimate`]; what the sample cannot tell is `None` or [`Percentile::TooFew`], never a guess.
//! [`Summary::of`] takes any record, also one whose arms are empty, whose tenants all failed or were never measured alone.

mod arm;
mod estimate;
mod rank;
mod reference;
mod sample;
mod tenant;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeMap;

use serde::Serialize;

use cotenant_model::kernel::WorkUnit;
use cotenant_model::run::{Metric, Price, Run};
use cotenant_model::workload::{Class, Slo};
use cotenant_model::{Arm, Bytes, MicroUsd, Nanoseconds};

/// The figures of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The arms in the record's order.
    pub arms: Vec<ArmSummary>,
    /// Position in `arms` of the best: among the shared arms in which every tenant ran and every SLO was kept, the one with
    /// the highest aggregate; where others' 95 % intervals reach into its own, the one of those with the smallest worst
    /// slowdown. `None` when there is none.
    pub best: Option<usize>,
    /// Price used for money.
    pub price: Option<Price>,
}

/// The figures of one arm.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ArmSummary {
    /// The arm.
    pub arm: Arm,
    /// Why it did not run at all.
    pub refused: Option<String>,
    /// Tenants that failed, with their last words.
    pub failures: Vec<(String, String)>,
    /// Tenants in file order. In `solo` one that shares another's measurement has no figures of its own.
    pub tenants: Vec<TenantSummary>,
    /// Sum over tenants of throughput ÷ solo throughput (system throughput, STP: Eyerman and Eeckhout 2008); `None` for
    /// `solo` or without a reference. A tenant that failed or serves no requests adds nothing.
    pub aggregate: Option<Estimate>,
    /// Sum of throughputs ÷ the best tenant's solo throughput; only where all tenants count the same unit.
    pub aggregate_over_best_solo: Option<Estimate>,
    /// Sum of throughputs, units a second; only where all tenants count the same unit, and not for `solo`.
    pub throughput: Option<Estimate>,
    /// Unit of `throughput`.
    pub unit: Option<WorkUnit>,
    /// Jain's index over the tenants' progress: (Σx)² ÷ (n·Σx²); 1 is fair, 1/n is one tenant taking all.
    pub jain: Option<Estimate>,
    /// Whether every SLO was kept; `None` when no tenant has one, or when none is known to be broken and the samples of
    /// some cannot tell.
    pub slo_kept: Option<bool>,
    /// Mean board power in watts.
    pub watts: Option<Estimate>,
    /// Mean percent of time in which any kernel ran, as the driver says it.
    pub utilization: Option<Estimate>,
    /// Joules of the whole board per unit of all tenants together; only where all tenants count the same unit.
    pub joules_per_unit: Option<Estimate>,
    /// Price of a million units at the hourly price of the GPU; only where all tenants count the same unit. For `solo` that
    /// is the price with a GPU for each tenant.
    pub price_per_million: Option<MicroUsd>,
}

/// The figures of one tenant in one arm, all repeats together.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantSummary {
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// Unit of its throughput.
    pub unit: WorkUnit,
    /// Units a second.
    pub throughput: Option<Estimate>,
    /// Throughput ÷ its solo throughput (normalised progress); `None` for `solo` or without a reference.
    pub progress: Option<Estimate>,
    /// Requests a second that met every SLO of the tenant; `None` without an SLO or where a limit is unknown.
    pub goodput: Option<Estimate>,
    /// Share of its ended and unfinished requests that met every SLO, 0 to 1; a failed request met none.
    pub good_fraction: Option<f64>,
    /// Latencies.
    pub latencies: BTreeMap<Metric, Latency>,
    /// Each SLO with what was measured.
    pub verdicts: Vec<Verdict>,
    /// Requests that ended well, in an error, and not at all inside the windows.
    pub completed: u64,
    /// See `completed`.
    pub failed: u64,
    /// See `completed`.
    pub unfinished: u64,
    /// Median time from spawn to ready.
    pub startup: Option<Nanoseconds>,
    /// Largest resident host memory.
    pub resident: Option<Bytes>,
    /// Largest device memory.
    pub device_memory: Option<Bytes>,
}

/// A figure with its spread over the repeats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Mean of the repeats.
    pub mean: f64,
    /// Smallest repeat.
    pub low: f64,
    /// Largest repeat.
    pub high: f64,
    /// Half the width of the 95 % confidence interval of the mean (Student's t); `None` with fewer than 2 repeats.
    pub margin: Option<f64>,
    /// Repeats.
    pub repeats: u32,
}

/// Percentiles of one latency, from the repeats' histograms added up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// Values; for E2E with the requests that had not ended.
    pub count: u64,
    /// Median.
    pub p50: Percentile,
    /// 90th percentile.
    pub p90: Percentile,
    /// 99th percentile.
    pub p99: Percentile,
    /// Largest, ages of unfinished requests included.
    pub max: Nanoseconds,
    /// p50 ÷ solo p50; `None` for `solo` or without a reference. Where the percentile is a lower bound, so is this.
    pub slowdown_p50: Option<f64>,
    /// p99 ÷ solo p99.
    pub slowdown_p99: Option<f64>,
}

/// A percentile with its distribution-free 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Percentile {
    /// Measured.
    Known {
        /// The percentile.
        value: Nanoseconds,
        /// Lower end of the interval.
        low: Nanoseconds,
        /// Upper end; `None` where the sample is too small to bound it from above.
        high: Option<Nanoseconds>,
    },
    /// So many requests had not ended that it is at least this.
    AtLeast(Nanoseconds),
    /// Too few values to state it.
    TooFew {
        /// Values there were.
        count: u64,
        /// Values that are needed.
        needed: u64,
    },
}

/// An SLO and what was measured of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Verdict {
    /// The SLO.
    pub slo: Slo,
    /// The limit as a duration; `None` when it is a slowdown and solo was not measured.
    pub limit: Option<Nanoseconds>,
    /// What was measured.
    pub measured: Percentile,
    /// Measured ÷ limit; above 1 the SLO is broken. A lower bound where the percentile is one, or where too few values
    /// state it and yet bound it above the limit.
    pub ratio: Option<f64>,
    /// Whether it was kept; `None` where the sample cannot tell.
    pub kept: Option<bool>,
}

impl Summary {
    /// Derives every figure from a record.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        let references = reference::references(run);
        let arms: Vec<ArmSummary> = run.arms.iter().map(|record| ArmSummary::of(record, run, &references)).collect();
        let eligible: Vec<(usize, Estimate, f64)> = arms
            .iter()
            .zip(&run.arms)
            .enumerate()
            .filter(|(_, (arm, record))| arm.is_eligible(record, &run.tenants))
            .filter_map(|(index, (arm, _))| Some((index, arm.aggregate?, arm.worst_slowdown())))
            .collect();
        Self { best: best(&eligible), arms, price: run.settings.price.clone() }
    }
}

/// The position of the best among (position, aggregate, worst slowdown): the leader by aggregate, or the one of the smallest
/// slowdown among those whose intervals reach into the leader's.
fn best(eligible: &[(usize, Estimate, f64)]) -> Option<usize> {
    let (_, leader, _) = eligible.iter().max_by(|(_, one, _), (_, other, _)| one.mean.total_cmp(&other.mean))?;
    let bounds = |estimate: &Estimate| {
        let margin = estimate.margin.unwrap_or(0.0);
        (estimate.mean - margin, estimate.mean + margin)
    };
    let equals = eligible.iter().filter(|(_, aggregate, _)| bounds(aggregate).1 >= bounds(leader).0);
    equals.min_by(|(_, _, one), (_, _, other)| one.total_cmp(other)).map(|(index, _, _)| *index)
}
