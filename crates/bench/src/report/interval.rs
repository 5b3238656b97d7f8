//! Whether two figures differ by more than their spread.

use crate::summary::{Estimate, Percentile};

/// A figure's 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    low: f64,
    high: f64,
}

/// How one interval lies to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Difference {
    /// Wholly above it.
    Above,
    /// Wholly below it.
    Below,
    /// They overlap: no difference is seen.
    Unseen,
}

impl Interval {
    /// The interval of a mean; `None` with a single repeat, which says nothing of its spread.
    pub(crate) fn of_estimate(estimate: &Estimate) -> Option<Self> {
        let margin = estimate.margin?;
        Some(Self { low: estimate.mean - margin, high: estimate.mean + margin })
    }

    /// The interval of a percentile in nanoseconds, open above where the sample does not bound it; `None` with too few
    /// values.
    pub(crate) fn of_percentile(percentile: &Percentile) -> Option<Self> {
        let open = f64::INFINITY;
        match percentile {
            Percentile::Known { low, high, .. } => {
                Some(Self { low: low.0 as f64, high: high.map_or(open, |high| high.0 as f64) })
            }
            Percentile::AtLeast(value) => Some(Self { low: value.0 as f64, high: open }),
            Percentile::TooFew { .. } => None,
        }
    }

    /// How this interval lies to another.
    pub(crate) fn against(self, other: Self) -> Difference {
        if self.low > other.high {
            Difference::Above
        } else if self.high < other.low {
            Difference::Below
        } else {
            Difference::Unseen
        }
    }
}

/// How one mean lies to another; `None` where either has no interval.
pub(crate) fn estimates(one: Option<&Estimate>, other: Option<&Estimate>) -> Option<Difference> {
    Some(Interval::of_estimate(one?)?.against(Interval::of_estimate(other?)?))
}

/// How one percentile lies to another; `None` where either has too few values.
pub(crate) fn percentiles(one: &Percentile, other: &Percentile) -> Option<Difference> {
    Some(Interval::of_percentile(one)?.against(Interval::of_percentile(other)?))
}

#[cfg(test)]
mod tests {
    use cotenant_model::Nanoseconds;

    use super::*;

    #[test]
    fn only_intervals_that_are_apart_differ() {
        let estimate = |mean, margin| Estimate { mean, low: mean, high: mean, margin, repeats: 3 };
        let (one, near, far) = (estimate(1.0, Some(0.1)), estimate(1.15, Some(0.1)), estimate(1.3, Some(0.1)));
        assert_eq!(estimates(Some(&one), Some(&near)), Some(Difference::Unseen));
        assert_eq!(estimates(Some(&one), Some(&far)), Some(Difference::Below));
        assert_eq!(estimates(Some(&far), Some(&one)), Some(Difference::Above));
        assert_eq!(estimates(Some(&one), Some(&estimate(9.0, None))), None);
    }

    #[test]
    fn a_percentile_without_an_upper_bound_can_be_above_but_never_below() {
        let known = |low, high| Percentile::Known { value: Nanoseconds(low), low: Nanoseconds(low), high };
        let (open, closed) = (known(50, None), known(10, Some(Nanoseconds(20))));
        assert_eq!(percentiles(&open, &closed), Some(Difference::Above));
        assert_eq!(percentiles(&open, &known(90, Some(Nanoseconds(95)))), Some(Difference::Unseen));
    }
}
