//! Histograms of latencies while they grow.

use cotenant_model::Histogram;

/// Latencies in nanoseconds in the buckets of an HDR histogram of three significant figures, up to one hour.
///
/// Its 34,816 buckets are laid out at once, so that recording never allocates; only those touched take memory.
#[derive(Debug)]
pub(super) struct Latencies {
    buckets: Option<hdrhistogram::Histogram<u64>>,
}

impl Latencies {
    /// Longest latency told apart; a longer one counts as this. No window is as long.
    const LONGEST: u64 = 3_600_000_000_000;

    pub(super) fn new() -> Self {
        // The bounds are constants that the library accepts; were they ever not, nothing would be recorded, and a test says so.
        Self { buckets: hdrhistogram::Histogram::new_with_bounds(1, Self::LONGEST, 3).ok() }
    }

    pub(super) fn record(&mut self, nanoseconds: u64) {
        if let Some(buckets) = &mut self.buckets {
            buckets.saturating_record(nanoseconds);
        }
    }

    /// The buckets that are not empty, by their highest value.
    pub(super) fn histogram(&self) -> Histogram {
        let counts = self.buckets.iter().flat_map(|buckets| {
            buckets.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_since_last_iteration()))
        });
        Histogram { counts: counts.collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_latency_lands_in_a_bucket_at_most_a_thousandth_above_it(
            latencies in prop::collection::vec(0..Latencies::LONGEST, 1..50),
        ) {
            let mut recorded = Latencies::new();
            latencies.iter().for_each(|latency| recorded.record(*latency));
            let histogram = recorded.histogram();
            let mut sorted = latencies;
            sorted.sort_unstable();
            prop_assert_eq!(histogram.len(), sorted.len() as u64);
            for (rank, latency) in (1..).zip(&sorted) {
                let bucket = histogram.at_rank(rank).expect("rank").0;
                prop_assert!(bucket >= *latency && bucket as f64 <= *latency as f64 * 1.001, "{latency} in {bucket}");
            }
        }
    }

    #[test]
    fn a_latency_beyond_the_longest_still_counts() {
        let mut recorded = Latencies::new();
        recorded.record(u64::MAX);
        assert_eq!(recorded.histogram().len(), 1);
        assert!(recorded.histogram().max().is_some_and(|max| max.0 >= Latencies::LONGEST));
    }
}
