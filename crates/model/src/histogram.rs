//! Latency histograms as they are kept in a run record.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Nanoseconds;

/// Counts of latencies in nanoseconds, bucketed as an HDR histogram of three significant figures buckets them.
///
/// `counts` holds the buckets that are not empty in rising order, each as `[highest equivalent value, count]`, so a value
/// read back is at most 0.1 % above the one recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Histogram {
    /// `[nanoseconds, count]`, rising, no empty bucket.
    pub counts: Vec<(u64, u64)>,
}

impl Histogram {
    /// Values recorded.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The `rank`-th smallest value, counted from 1; `None` beyond the last.
    #[must_use]
    pub fn at_rank(&self, rank: u64) -> Option<Nanoseconds> {
        let mut seen = 0;
        for (value, count) in &self.counts {
            seen += count;
            if rank <= seen && rank > 0 {
                return Some(Nanoseconds(*value));
            }
        }
        None
    }

    /// The largest value; `None` when empty.
    #[must_use]
    pub fn max(&self) -> Option<Nanoseconds> {
        self.counts.last().map(|(value, _)| Nanoseconds(*value))
    }

    /// Both histograms' values in one.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let mut counts: BTreeMap<u64, u64> = self.counts.iter().copied().collect();
        for (value, count) in &other.counts {
            *counts.entry(*value).or_default() += count;
        }
        Self { counts: counts.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_run_through_the_buckets() {
        let histogram = Histogram { counts: vec![(10, 2), (20, 1)] };
        let ranks: Vec<_> = (0..5).map(|rank| histogram.at_rank(rank).map(|value| value.0)).collect();
        assert_eq!(ranks, [None, Some(10), Some(10), Some(20), None]);
        assert_eq!(histogram.merged(&histogram).counts, [(10, 4), (20, 2)]);
    }
}
