//! What was measured so far, setting by setting.

use cotenant_model::Percent;
use cotenant_model::run::TuningPoint;

/// Everything measured at one setting.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tally {
    /// Mean of the measurements.
    pub(super) point: TuningPoint,
    /// Windows measured.
    pub(super) windows: u32,
    /// Measurements, of one window or more each.
    pub(super) visits: u32,
    /// Sum over the visits of their windows times the squared difference of the logarithms from the mean: aggregate, SLO.
    pub(super) spread: [f64; 2],
    /// Whether the setting could not be run.
    pub(super) refused: bool,
}

impl Tally {
    /// The first measurement of a setting.
    pub(super) const fn new(point: TuningPoint, windows: u32) -> Self {
        Self { point, windows, visits: 1, spread: [0.0; 2], refused: false }
    }

    /// A setting that could not be run.
    pub(super) fn refused(percent: Vec<Percent>) -> Self {
        let point = TuningPoint { percent, aggregate: 0.0, worst_slo: 0.0, progress: Vec::new() };
        Self { refused: true, ..Self::new(point, 1) }
    }

    /// Adds another measurement of the same setting.
    pub(super) fn add(&mut self, point: &TuningPoint, windows: u32) {
        let (before, added) = (f64::from(self.windows), f64::from(windows));
        let share = added / (before + added);
        let gap = |mean: f64, new: f64| if mean > 0.0 && new > 0.0 { (new / mean).ln().powi(2) } else { 0.0 };
        self.spread[0] += before * share * gap(self.point.aggregate, point.aggregate);
        self.spread[1] += before * share * gap(self.point.worst_slo, point.worst_slo);
        let mix = |mean: &mut f64, new: f64| *mean += (new - *mean) * share;
        mix(&mut self.point.aggregate, point.aggregate);
        mix(&mut self.point.worst_slo, point.worst_slo);
        for (mean, new) in self.point.progress.iter_mut().zip(&point.progress) {
            mix(mean, *new);
        }
        self.windows += windows;
        self.visits += 1;
    }
}

/// Standard deviations of one window's aggregate and worst SLO ratio, relative: from the settings measured more than once,
/// with `expected` in the place of four such measurements.
pub(super) fn noise(tallies: &[Tally], expected: f64) -> [f64; 2] {
    const PRIOR: f64 = 4.0;
    let again: f64 = tallies.iter().map(|tally| f64::from(tally.visits - 1)).sum();
    [0, 1].map(|figure| {
        let spread: f64 = tallies.iter().map(|tally| tally.spread[figure]).sum();
        ((spread + PRIOR * expected * expected) / (again + PRIOR)).sqrt()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_of_a_setting_are_weighed_by_their_windows() {
        let point =
            |aggregate| TuningPoint { percent: Vec::new(), aggregate, worst_slo: 1.0, progress: vec![aggregate] };
        let mut tally = Tally::new(point(1.0), 1);
        tally.add(&point(2.0), 3);
        assert!((tally.point.aggregate - 1.75).abs() < 1e-12 && (tally.point.progress[0] - 1.75).abs() < 1e-12);
        assert_eq!((tally.windows, tally.visits), (4, 2));
    }

    #[test]
    fn noise_is_learnt_from_what_was_measured_again() {
        let point = |aggregate| TuningPoint { percent: Vec::new(), aggregate, worst_slo: 1.0, progress: Vec::new() };
        let mut tally = Tally::new(point(1.0), 1);
        assert!((noise(std::slice::from_ref(&tally), 0.02)[0] - 0.02).abs() < 1e-12);
        for step in 0..40 {
            tally.add(&point(if step % 2 == 0 { 1.1 } else { 0.9 }), 1);
        }
        let [aggregate, slo] = noise(&[tally], 0.02);
        assert!((aggregate - 0.1).abs() < 0.01 && slo < 0.01, "{aggregate} {slo}");
    }
}
