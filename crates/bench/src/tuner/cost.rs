//! What measuring a setting costs in GPU time.

use std::collections::BTreeSet;

use cotenant_model::{Nanoseconds, Percent};

/// The cost model: GPU time of a probe before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// One window: warm-up and measurement.
    pub window: Nanoseconds,
    /// Starting one tenant's process at one percentage.
    pub start: Nanoseconds,
    /// Whether processes stay, idle, once started; otherwise only those of the last probe do.
    pub keeps: bool,
}

impl Default for Cost {
    /// A second a window, 0.75 s a start, processes stay.
    fn default() -> Self {
        Self { window: Nanoseconds(1_000_000_000), start: Nanoseconds(750_000_000), keeps: true }
    }
}

/// Processes that run: tenant and percentage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Started(BTreeSet<(usize, Percent)>);

impl Started {
    /// Notes that a setting's processes run now.
    pub(super) fn start(&mut self, percent: &[Percent], cost: &Cost) {
        if !cost.keeps {
            self.0.clear();
        }
        self.0.extend(percent.iter().copied().enumerate());
    }

    /// Seconds to measure a setting once.
    pub(super) fn seconds(&self, percent: &[Percent], windows: u32, cost: &Cost) -> f64 {
        let new = percent.iter().copied().enumerate().filter(|process| !self.0.contains(process)).count();
        f64::from(windows) * cost.window.seconds() + new as f64 * cost.start.seconds()
    }
}
