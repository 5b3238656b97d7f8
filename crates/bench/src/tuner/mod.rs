//! Search for the MPS percentages that keep every SLO with the highest aggregate, by measurement.
//!
//! [`Tuner`] does no input or output: it says what to measure next, is told what came out, and in the end says what it
//! chose. Two smooth surfaces are fitted to what was measured so far, one to the aggregate and one to the worst SLO ratio;
//! the next probe is the setting with the highest expected gain × chance to keep every SLO for its cost in GPU time
//! (constrained expected improvement: Gardner and others 2014). A setting already measured is a candidate like any other,
//! so those that lead and those on the edge of an SLO are measured again until the rest cannot change the choice.
//!
//! What is proved, on response surfaces written out in the tests and not on a GPU: over 200 seeds of each of six families
//! (one through the hand-measured points of a decoder beside matrix products, linear sharing, saturating bandwidth, a
//! cliff, a hill with a target that is not monotone, no targets) under 2 % of noise, the choice's true aggregate is within
//! 2 % of the whole grid's best in 97 to 100 % of the searches, never more than 7 % off, its true SLO ratio never above
//! 1.006, in 27 to 50 probes and at most 60 s by the default cost model. On an H200 one search has been held against the
//! whole grid, a half-busy decoder beside matrix products: 33 settings in 59 s, and a choice within 1 % of the grid's best
//! setting that kept the target.
//!
//! ```text
//! opening ─ next ─▶ probing ─ record / refuse ─▶ opening … improving ─ next ─▶ probing ─▶ … ─ next = None ─▶ finish
//! ```

mod cost;
mod grid;
mod judge;
mod surface;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use cotenant_model::run::{Tuning, TuningPoint};
use cotenant_model::{Nanoseconds, Percent};

pub use cost::Cost;
use cost::Started;
pub use grid::grid;
use judge::Judge;
use surface::Shape;
use tally::Tally;

/// What a search is to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Tenants, 1 to 8.
    pub tenants: usize,
    /// GPU time the search may take.
    pub budget: Nanoseconds,
    /// What probes cost.
    pub cost: Cost,
    /// Relative standard deviation expected of one window's figures; corrected by what is measured again.
    pub noise: f64,
}

impl Settings {
    /// The defaults for so many tenants: 60 s for one or two and 20 s more for each further one, noise of 2 %.
    #[must_use]
    pub fn new(tenants: usize) -> Self {
        let seconds = 60 + 20 * u64::try_from(tenants.saturating_sub(2)).unwrap_or(0);
        Self { tenants, budget: Nanoseconds(seconds * 1_000_000_000), cost: Cost::default(), noise: 0.02 }
    }
}

/// A setting to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Percentage of each tenant in file order.
    pub percent: Vec<Percent>,
    /// Windows to measure; the figures to record are those of all of them together.
    pub windows: u32,
}

/// A search under way.
#[derive(Debug)]
pub struct Tuner {
    settings: Settings,
    opening: VecDeque<Vec<Percent>>,
    pending: Option<Probe>,
    tallies: Vec<Tally>,
    started: Started,
    /// Shapes of the two surfaces with the number of settings they were fitted to.
    shapes: Option<(usize, [Shape; 2])>,
    /// Seconds the probes so far took, and what the cost model said they would.
    spent: f64,
    predicted: f64,
}

impl Tuner {
    /// Begins a search.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            opening: grid::opening(settings.tenants).into(),
            settings,
            pending: None,
            tallies: Vec::new(),
            started: Started::default(),
            shapes: None,
            spent: 0.0,
            predicted: 0.0,
        }
    }

    /// What to measure next; the same until it is recorded or refused. `None` when the search is over: the budget does not
    /// hold another probe, or none is expected to change the choice.
    ///
    /// (Not an iterator: what comes next depends on what was recorded.)
    #[expect(clippy::should_implement_trait, reason = "an iterator could not be told what was measured")]
    pub fn next(&mut self) -> Option<Probe> {
        if self.pending.is_none() {
            let opening = self.opening.pop_front().map(|percent| Probe { percent, windows: 1 });
            self.pending = opening.filter(|probe| self.is_affordable(&probe.percent)).or_else(|| self.improve());
        }
        self.pending.clone()
    }

    /// Records what the probe measured, and the GPU time it took, starts of processes included.
    ///
    /// A point of another setting than the probe's is taken as a window of its own. A point whose figures are not finite
    /// counts as refused.
    pub fn record(&mut self, point: &TuningPoint, took: Nanoseconds) {
        if !(point.aggregate.is_finite() && point.worst_slo.is_finite()) {
            return self.settle(Tally::refused(point.percent.clone()), took);
        }
        let probed = self.pending.as_ref().filter(|probe| probe.percent == point.percent);
        let windows = probed.map_or(1, |probe| probe.windows);
        self.settle(Tally::new(point.clone(), windows), took);
    }

    /// Records that the probe's setting could not be run, or that a tenant failed at it; it is not tried again.
    pub fn refuse(&mut self, took: Nanoseconds) {
        if let Some(probe) = self.pending.clone() {
            self.settle(Tally::refused(probe.percent), took);
        }
    }

    /// GPU time the probes so far took.
    #[must_use]
    pub fn spent(&self) -> Nanoseconds {
        Nanoseconds::from_seconds(self.spent)
    }

    /// What the search found: every setting with the mean of its measurements, in the order first measured.
    #[must_use]
    pub fn finish(self) -> Tuning {
        let judge = self.judge();
        let measured: Vec<usize> = (0..self.tallies.len()).filter(|index| !self.tallies[*index].refused).collect();
        let points: Vec<TuningPoint> = measured.iter().map(|index| self.tallies[*index].point.clone()).collect();
        let chosen = judge.incumbent().and_then(|best| measured.iter().position(|index| *index == best));
        Tuning { front: front(&points), points, chosen, spent: self.spent(), grid: Vec::new() }
    }

    fn settle(&mut self, tally: Tally, took: Nanoseconds) {
        let (percent, cost) = (tally.point.percent.clone(), self.settings.cost);
        self.spent += took.seconds();
        self.predicted += self.started.seconds(&percent, tally.windows, &cost);
        self.started.start(&percent, &cost);
        self.pending = None;
        match self.tallies.iter_mut().find(|known| known.point.percent == percent) {
            Some(known) if tally.refused => known.refused = true,
            Some(known) => known.add(&tally.point, tally.windows),
            None => self.tallies.push(tally),
        }
    }

    /// Seconds a probe will likely take: the cost model, raised where it was too low so far.
    fn expected(&self, percent: &[Percent], windows: u32) -> f64 {
        let low = if self.predicted > 0.0 { (self.spent / self.predicted).max(1.0) } else { 1.0 };
        low * self.started.seconds(percent, windows, &self.settings.cost)
    }

    fn is_affordable(&self, percent: &[Percent]) -> bool {
        self.spent + self.expected(percent, 1) <= self.settings.budget.seconds()
    }

    /// The candidate with the highest expected gain for its cost.
    fn improve(&mut self) -> Option<Probe> {
        let judge = Judge::new(&self.tallies, self.settings.noise, self.shapes);
        self.shapes = judge.shapes(self.shapes);
        let around = judge.leaders();
        let candidates = grid::candidates(self.settings.tenants, &around);
        let worth = |percent: Vec<Percent>| {
            let gain = judge.gain(&percent)?;
            Some((gain / self.expected(&percent, 1).max(1e-9), percent))
        };
        let affordable = candidates.into_iter().filter(|percent| self.is_affordable(percent));
        let (_, percent) = affordable.filter_map(worth).max_by(|(one, _), (other, _)| one.total_cmp(other))?;
        Some(Probe { percent, windows: 1 })
    }

    fn judge(&self) -> Judge<'_> {
        Judge::new(&self.tallies, self.settings.noise, self.shapes)
    }
}

/// Positions of the points that no other beats in one of aggregate and worst SLO ratio without losing in the other.
fn front(points: &[TuningPoint]) -> Vec<usize> {
    let beats = |one: &TuningPoint, other: &TuningPoint| {
        one.aggregate >= other.aggregate
            && one.worst_slo <= other.worst_slo
            && (one.aggregate > other.aggregate || one.worst_slo < other.worst_slo)
    };
    (0..points.len()).filter(|index| !points.iter().any(|point| beats(point, &points[*index]))).collect()
}
