//! The stretch of recorded time that timelines show.

use cotenant_model::kernel::WorkUnit;
use cotenant_model::run::{ArmRecord, Run};

use super::text::printable;
use super::view;

/// How many times its median gap a lane's mean gap is where its events come in bursts.
const BURSTY: f64 = 4.0;

/// The recorded events of one tenant in one arm, in milliseconds from the start of its window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lane {
    /// The tenant, printable.
    pub(crate) tenant: String,
    /// What each event completes, and how many of it.
    pub(crate) unit: WorkUnit,
    /// See `unit`.
    pub(crate) units: u32,
    /// Rising times. After the last one nothing is recorded, which is not the same as nothing being done.
    pub(crate) times: Vec<f64>,
}

/// An arm with its lanes and the time from which it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stretch {
    /// Position of the arm in the run.
    pub(crate) arm: usize,
    /// Where it begins, milliseconds from the start of the window: just before every tenant has begun, where the record of
    /// all reaches that far.
    pub(crate) start: f64,
    /// Tenants in file order.
    pub(crate) lanes: Vec<Lane>,
}

impl Lane {
    /// Typical time from one event to the next: the median, or the mean where events come in bursts, whose inner gaps say
    /// nothing of the pace.
    pub(crate) fn typical_gap(&self) -> Option<f64> {
        let median = self.median_gap()?;
        let mean = (self.end() - self.times.first()?) / (self.times.len() - 1) as f64;
        Some(if mean > BURSTY * median { mean } else { median })
    }

    /// Median time from one event to the next.
    fn median_gap(&self) -> Option<f64> {
        let mut gaps: Vec<f64> = self.times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_by(f64::total_cmp);
        gaps.get(gaps.len() / 2).copied().filter(|gap| *gap > 0.0)
    }

    /// The last recorded event.
    pub(crate) fn end(&self) -> f64 {
        self.times.last().copied().unwrap_or(0.0)
    }
}

/// The recorded events of an arm; `None` where it has none or its tenants never ran together.
pub(crate) fn stretch(run: &Run, arm: usize) -> Option<Stretch> {
    let record = run.arms.get(arm)?;
    let lanes: Vec<Lane> = run.tenants.iter().filter_map(|tenant| lane(run, record, &tenant.name)).collect();
    let latest_first = lanes.iter().filter_map(|lane| lane.times.first()).copied().fold(0.0, f64::max);
    let earliest_end = lanes.iter().map(Lane::end).fold(f64::INFINITY, f64::min);
    let start = if latest_first < earliest_end { (latest_first - 1.0).max(0.0) } else { 0.0 };
    (!lanes.is_empty()).then_some(Stretch { arm, start, lanes })
}

fn lane(run: &Run, record: &ArmRecord, tenant: &str) -> Option<Lane> {
    let (trace, units) = view::trace(run, record, tenant)?;
    let unit = record
        .passes
        .iter()
        .flat_map(|pass| &pass.windows)
        .find_map(|window| window.work.unit.filter(|_| window.tenant == tenant))
        .unwrap_or(WorkUnit::None);
    let times = trace.times().map(|microseconds| microseconds as f64 / 1e3).collect();
    Some(Lane { tenant: printable(tenant), unit, units, times })
}

/// The shortest typical gap between events in any of the stretches, in milliseconds.
pub(crate) fn shortest_gap(stretches: &[Stretch]) -> Option<f64> {
    stretches.iter().flat_map(|stretch| &stretch.lanes).filter_map(Lane::typical_gap).min_by(f64::total_cmp)
}
