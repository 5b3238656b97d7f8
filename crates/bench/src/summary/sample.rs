//! Latencies of several windows together, with the requests that had not ended.

use std::collections::BTreeMap;

use cotenant_model::run::{Metric, Window};
use cotenant_model::{Histogram, Nanoseconds};

use super::Percentile;
use super::rank::{interval, needed};

/// Values of one metric: the latencies of what ended and the ages of what had not.
///
/// A request that had not ended is at least as slow as it is old. Its place in the order is handed to the values above its
/// age in equal parts: the Kaplan–Meier estimate, as Efron (1967) computes it. So a request that had just begun when the
/// window closed says nothing, and a queue of old ones moves every percentile up, in the end beyond any value measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sample {
    values: BTreeMap<u64, Count>,
    ended: u64,
    total: u64,
}

/// How often a value occurs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Count {
    ended: u64,
    unfinished: u64,
}

/// The latencies of windows by metric; unfinished requests count for E2E.
pub(super) fn latencies<'a>(windows: impl IntoIterator<Item = &'a Window>) -> BTreeMap<Metric, Sample> {
    let mut samples: BTreeMap<Metric, Sample> = BTreeMap::new();
    for window in windows {
        for (metric, histogram) in &window.histograms {
            samples.entry(*metric).or_default().add(histogram);
        }
        if !window.unfinished.is_empty() {
            samples.entry(Metric::E2e).or_default().add_unfinished(&window.unfinished);
        }
    }
    samples.retain(|_, sample| sample.total > 0);
    samples
}

impl Sample {
    /// Adds values that ended.
    pub(super) fn add(&mut self, histogram: &Histogram) {
        for (value, count) in &histogram.counts {
            let entry = self.values.entry(*value).or_default();
            entry.ended = entry.ended.saturating_add(*count);
            self.ended = self.ended.saturating_add(*count);
            self.total = self.total.saturating_add(*count);
        }
    }

    /// Adds ages of requests that had not ended.
    pub(super) fn add_unfinished(&mut self, ages: &Histogram) {
        for (age, count) in &ages.counts {
            let entry = self.values.entry(*age).or_default();
            entry.unfinished = entry.unfinished.saturating_add(*count);
            self.total = self.total.saturating_add(*count);
        }
    }

    /// Values, ended or not.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// The largest value or age.
    pub(super) fn max(&self) -> Nanoseconds {
        Nanoseconds(self.values.last_key_value().map_or(0, |(value, _)| *value))
    }

    /// A percentile, above 0 and below 100, with its 95 % interval.
    ///
    /// Without unfinished requests it is the nearest-rank percentile: the smallest value with at least that share of the
    /// values at or below it. With them the interval is that of the ended values' number, which is approximate.
    pub(super) fn percentile(&self, percent: f64) -> Percentile {
        let fraction = fraction(percent);
        let needed = needed(fraction);
        if self.total < needed {
            return Percentile::TooFew { count: self.total, needed };
        }
        let Some(value) = self.quantile(fraction) else {
            return Percentile::AtLeast(self.youngest(fraction));
        };
        if self.ended < needed {
            return Percentile::TooFew { count: self.ended, needed };
        }
        let ends = interval(self.ended, fraction);
        Percentile::Known {
            value,
            low: ends.low.and_then(|low| self.quantile(low)).unwrap_or_default().min(value),
            high: ends.high.and_then(|high| self.quantile(high)).map(|high| high.max(value)),
        }
    }

    /// What a percentile surely (97.5 %) is not below, however few the values; `None` where they cannot tell.
    pub(super) fn lower_bound(&self, percent: f64) -> Option<Nanoseconds> {
        let low = interval(self.total, fraction(percent)).low?;
        Some(self.youngest(low))
    }

    /// The smallest value with `fraction` of the sample at or below it; `None` when that is beyond every value that ended.
    fn quantile(&self, fraction: f64) -> Option<Nanoseconds> {
        let wanted = self.wanted(fraction);
        let (mut place, mut weight, mut remaining) = (0.0, 1.0, self.total as f64);
        for (value, count) in &self.values {
            place += weight * count.ended as f64;
            if count.ended > 0 && place >= wanted {
                return Some(Nanoseconds(*value));
            }
            let unfinished = count.unfinished as f64;
            remaining -= count.ended as f64 + unfinished;
            if remaining <= 0.0 {
                return None;
            }
            weight *= (remaining + unfinished) / remaining;
        }
        None
    }

    /// The same quantile if every unfinished request had ended when it was last seen: the least it can be.
    fn youngest(&self, fraction: f64) -> Nanoseconds {
        let wanted = self.wanted(fraction);
        let mut place = 0.0;
        let reached = self.values.iter().find(|(_, count)| {
            place += count.ended as f64 + count.unfinished as f64;
            place >= wanted
        });
        reached.map_or_else(|| self.max(), |(value, _)| Nanoseconds(*value))
    }

    /// The place in the order of a share of the sample, a rounding error short of it.
    fn wanted(&self, fraction: f64) -> f64 {
        self.total as f64 * (fraction - 1e-12)
    }
}

/// A percentile as a share, kept off 0 and 1, where no finite sample can state one.
fn fraction(percent: f64) -> f64 {
    (percent / 100.0).clamp(1e-6, 1.0 - 1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ended: &[(u64, u64)], unfinished: &[(u64, u64)]) -> Sample {
        let mut sample = Sample::default();
        sample.add(&Histogram { counts: ended.to_vec() });
        sample.add_unfinished(&Histogram { counts: unfinished.to_vec() });
        sample
    }

    /// 1, 2, …, `count`, once each.
    fn rising(count: u64) -> Vec<(u64, u64)> {
        (1..=count).map(|value| (value, 1)).collect()
    }

    #[test]
    fn a_percentile_is_a_value_of_the_sample_between_two_others() {
        let percentile = sample(&rising(1000), &[]).percentile(99.0);
        let Percentile::Known { value, low, high } = percentile else { panic!("{percentile:?}") };
        assert_eq!((value.0, low.0, high.map(|high| high.0)), (990, 983, Some(997)));
    }

    #[test]
    fn too_few_values_state_no_percentile() {
        assert_eq!(sample(&rising(298), &[]).percentile(99.0), Percentile::TooFew { count: 298, needed: 299 });
        assert!(matches!(sample(&rising(299), &[]).percentile(99.0), Percentile::Known { high: None, .. }));
        assert_eq!(Sample::default().percentile(50.0), Percentile::TooFew { count: 0, needed: 6 });
    }

    #[test]
    fn requests_that_had_just_begun_move_nothing() {
        let alone = sample(&rising(100).iter().map(|(v, c)| (v + 50, *c)).collect::<Vec<_>>(), &[]);
        let mut beside = alone.clone();
        beside.add_unfinished(&Histogram { counts: vec![(3, 40)] });
        assert_eq!(beside.percentile(90.0), alone.percentile(90.0));
    }

    #[test]
    fn a_queue_that_grows_makes_a_percentile_a_lower_bound() {
        let queue = sample(&rising(100), &[(500, 50), (900, 50)]);
        assert!(matches!(queue.percentile(40.0), Percentile::Known { value: Nanoseconds(80), .. }));
        assert_eq!(queue.percentile(70.0), Percentile::AtLeast(Nanoseconds(500)));
        assert_eq!(queue.percentile(90.0), Percentile::AtLeast(Nanoseconds(900)));
    }

    #[test]
    fn unfinished_requests_between_the_values_count_as_kaplan_and_meier_say() {
        // Survival by hand: 6 begun; 1 ends at 1 (5/6), 1 lost at 2, 1 ends at 3 (5/6·3/4), 1 lost at 4, 2 end at 5 (0).
        let sample = sample(&[(1, 1), (3, 1), (5, 2)], &[(2, 1), (4, 1)]);
        assert_eq!(sample.quantile(1.0 / 6.0), Some(Nanoseconds(1)));
        assert_eq!(sample.quantile(1.0 - 5.0 / 8.0), Some(Nanoseconds(3)));
        assert_eq!(sample.quantile(0.38), Some(Nanoseconds(5)));
        assert_eq!(sample.quantile(0.99), Some(Nanoseconds(5)));
    }

    #[test]
    fn few_values_can_still_bound_a_percentile_from_below() {
        assert_eq!(sample(&[(10, 8), (700, 2)], &[]).lower_bound(99.0), Some(Nanoseconds(700)));
        assert_eq!(sample(&[(10, 9), (700, 1)], &[]).lower_bound(99.0), Some(Nanoseconds(10)));
        assert_eq!(sample(&[], &[]).lower_bound(99.0), None);
    }
}
