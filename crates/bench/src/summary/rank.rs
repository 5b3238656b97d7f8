//! Which order statistics bound a percentile, whatever the distribution.
//!
//! The number of `n` values at or below the true `p`-quantile is binomial, `B ~ Bin(n, p)`. So the `l`-th and the `u`-th
//! smallest value enclose the quantile with probability `P(l ≤ B ≤ u − 1)`; with `P(B ≤ l − 1) ≤ 2.5 %` and
//! `P(B ≥ u) ≤ 2.5 %` that is at least 95 % (David and Nagaraja, *Order Statistics*, 3rd edition, §7.1).

/// Chance that each end of an interval misses.
const TAIL: f64 = 0.025;

/// Chance that a one-sided bound misses.
const ONE_SIDED: f64 = 0.05;

/// Values beyond which an interval is that of this many: wider than it need be, never narrower.
const MOST: u64 = 10_000_000;

/// Ends of a 95 % interval of a quantile, as shares of the sample in rising order: the 3rd of 10 values is 0.3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Interval {
    /// Share of the value below; `None` where not even the smallest is surely below.
    pub(super) low: Option<f64>,
    /// Share of the value above; `None` where not even the largest is surely above.
    pub(super) high: Option<f64>,
}

/// The fewest values from which the `fraction`-quantile is stated.
///
/// That is the smallest `n` whose largest value bounds the quantile from above with 95 % (`pⁿ ≤ 5 %`) and whose smallest
/// bounds it from below with 97.5 % (`(1 − p)ⁿ ≤ 2.5 %`): 6 for the median, 29 for p90, 299 for p99. Both ends of the
/// 95 % interval exist from `pⁿ ≤ 2.5 %` on: 6, 36 and 368.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a quotient of two negative logarithms is positive, and `as` saturates"
)]
pub(super) fn needed(fraction: f64) -> u64 {
    let above = ONE_SIDED.ln() / fraction.ln();
    let below = TAIL.ln() / (1.0 - fraction).ln();
    above.max(below).ceil() as u64
}

/// The 95 % interval of the `fraction`-quantile of `count` values.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count lies between 0 and the count"
)]
pub(super) fn interval(count: u64, fraction: f64) -> Interval {
    let count = count.min(MOST);
    let mode = (((count + 1) as f64 * fraction) as u64).min(count);
    let below = tail(mode, |k| k as f64 * (1.0 - fraction) / ((count - k + 1) as f64 * fraction), |k| k.checked_sub(1));
    let above = tail(
        mode,
        |k| (count - k) as f64 * fraction / ((k + 1) as f64 * (1.0 - fraction)),
        |k| (k < count).then_some(k + 1),
    );
    let total = below.total + above.total - 1.0;
    let share = |rank: u64| rank as f64 / count as f64;
    let low = below.quantile(TAIL * total);
    let high = above.quantile(TAIL * total).saturating_add(1);
    Interval { low: (low > 0).then(|| share(low)), high: (high <= count).then(|| share(high)) }
}

/// Binomial probabilities from the mode outwards, each over the mode's.
struct Tail {
    /// Number of successes and its weight, from the mode (weight 1) outwards.
    weights: Vec<(u64, f64)>,
    /// Sum of the weights.
    total: f64,
}

/// Follows the binomial weights from `mode` until they no longer matter.
///
/// `ratio` is the weight of the next number over that of this one; `next` is the next number, `None` after the last.
fn tail(mode: u64, ratio: impl Fn(u64) -> f64, next: impl Fn(u64) -> Option<u64>) -> Tail {
    let mut weights = vec![(mode, 1.0)];
    let (mut number, mut weight, mut total) = (mode, 1.0, 1.0);
    while let Some(further) = next(number) {
        weight *= ratio(number);
        number = further;
        if weight < 1e-18 {
            break;
        }
        weights.push((number, weight));
        total += weight;
    }
    Tail { weights, total }
}

impl Tail {
    /// The number nearest to the mode's far side at which the weights from the far end add up to more than `mass`.
    fn quantile(&self, mass: f64) -> u64 {
        let mut sum = 0.0;
        let beyond = self.weights.iter().rev().find(|(_, weight)| {
            sum += weight;
            sum > mass
        });
        beyond.or_else(|| self.weights.first()).map_or(0, |(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ranks of the interval.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
    fn ranks(count: u64, fraction: f64) -> (Option<u64>, Option<u64>) {
        let Interval { low, high } = interval(count, fraction);
        let rank = |share: f64| (share * count as f64).round() as u64;
        (low.map(rank), high.map(rank))
    }

    #[test]
    fn a_percentile_is_stated_from_so_many_values_on() {
        assert_eq!([0.5, 0.9, 0.95, 0.99, 0.999].map(needed), [6, 29, 59, 299, 2995]);
        assert_eq!(needed(0.01), 368);
    }

    #[test]
    fn intervals_are_those_of_the_published_tables() {
        // Median, 95 %: Conover, Practical Nonparametric Statistics, table A3 (n = 10: 2nd and 9th; 20: 6th and 15th).
        assert_eq!(ranks(10, 0.5), (Some(2), Some(9)));
        assert_eq!(ranks(20, 0.5), (Some(6), Some(15)));
        assert_eq!(ranks(6, 0.5), (Some(1), Some(6)));
        assert_eq!(ranks(5, 0.5), (None, None));
    }

    #[test]
    fn a_p99_has_an_upper_end_from_368_values_on() {
        assert_eq!(ranks(367, 0.99).1, None);
        assert_eq!(ranks(368, 0.99).1, Some(368));
        assert_eq!(ranks(500, 0.99).1, Some(500));
    }

    #[test]
    fn both_ends_hold_their_tails_exactly() {
        for (count, fraction) in [(40, 0.9), (368, 0.99), (1000, 0.99), (47, 0.37)] {
            let below = |k: u64| -> f64 { (0..=k).map(|k| probability(count, fraction, k)).sum() };
            let (low, high) = ranks(count, fraction);
            let low = low.expect("low");
            assert!(below(low - 1) <= TAIL && below(low) > TAIL, "{count} {fraction}");
            let high = high.expect("high");
            assert!(1.0 - below(high - 1) <= TAIL && 1.0 - below(high - 2) > TAIL, "{count} {fraction}");
        }
    }

    /// `P(B = k)` by the formula itself.
    fn probability(count: u64, fraction: f64, k: u64) -> f64 {
        let choose: f64 = (0..k).map(|i| ((count - i) as f64 / (k - i) as f64).ln()).sum();
        (choose + k as f64 * fraction.ln() + (count - k) as f64 * (1.0 - fraction).ln()).exp()
    }

    #[test]
    fn large_counts_agree_with_the_normal_approximation() {
        let (low, high) = ranks(1_000_000, 0.9);
        assert!((low.expect("low") as f64 - (900_000.0 - 1.959_964 * 300.0)).abs() < 3.0, "{low:?}");
        assert!((high.expect("high") as f64 - (900_000.0 + 1.959_964 * 300.0)).abs() < 3.0, "{high:?}");
        assert!(interval(u64::MAX, 0.5).low.expect("low") < 0.5);
    }
}
