//! A figure over the repeats: mean, spread, and the margin of the mean.

use super::Estimate;

/// 97.5 % quantiles of Student's t for 1 to 9 degrees of freedom (any statistical table; R's `qt(0.975, df)`).
const STUDENT: [f64; 9] = [
    12.706_204_736,
    4.302_652_730,
    3.182_446_305,
    2.776_445_105,
    2.570_581_836,
    2.446_911_851,
    2.364_624_252,
    2.306_004_135,
    2.262_157_163,
];

/// The 97.5 % quantile of the normal distribution.
const NORMAL: f64 = 1.959_963_985;

impl Estimate {
    /// The estimate from one figure a repeat; figures that are not finite do not count; `None` without any.
    #[must_use]
    pub fn of(figures: &[f64]) -> Option<Self> {
        let figures: Vec<f64> = figures.iter().copied().filter(|figure| figure.is_finite()).collect();
        let repeats = u32::try_from(figures.len()).ok().filter(|repeats| *repeats > 0)?;
        let count = f64::from(repeats);
        let low = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let high = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mean = figures.iter().map(|figure| figure / count).sum::<f64>().clamp(low, high);
        let margin = (repeats > 1).then(|| {
            let variance = figures.iter().map(|figure| (figure - mean).powi(2)).sum::<f64>() / (count - 1.0);
            student(repeats - 1) * (variance / count).sqrt()
        });
        Some(Self { mean, low, high, margin, repeats })
    }
}

/// Half the width, in standard errors, of the 95 % interval of a mean: the 97.5 % quantile of Student's t.
///
/// From 10 degrees of freedom on by the series of Abramowitz and Stegun, 26.7.5, which is then within 0.00002.
pub(super) fn student(freedom: u32) -> f64 {
    if let Some(quantile) = usize::try_from(freedom).ok().and_then(|n| STUDENT.get(n.checked_sub(1)?)) {
        return *quantile;
    }
    let (z, n) = (NORMAL, f64::from(freedom.max(1)));
    let terms = [
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
        (79.0 * z.powi(9) + 776.0 * z.powi(7) + 1482.0 * z.powi(5) - 1920.0 * z.powi(3) - 945.0 * z) / 92_160.0,
    ];
    terms.iter().rev().fold(0.0, |sum, term| (sum + term) / n) + z
}

/// Jain's index of fairness, (Σx)² ÷ (n·Σx²) (Jain, Chiu and Hawe 1984): 1 when all are equal, 1/n when one has all.
///
/// `None` when there is nothing to share out.
pub(super) fn jain(shares: &[f64]) -> Option<f64> {
    let largest = shares.iter().copied().fold(0.0, f64::max);
    if largest <= 0.0 || !shares.iter().all(|share| share.is_finite() && *share >= 0.0) {
        return None;
    }
    let sum: f64 = shares.iter().map(|share| share / largest).sum();
    let squares: f64 = shares.iter().map(|share| (share / largest).powi(2)).sum();
    Some(sum * sum / (shares.len() as f64 * squares))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn student_is_that_of_the_tables() {
        for (freedom, quantile) in [(1, 12.706), (2, 4.3027), (9, 2.2622), (10, 2.2281), (15, 2.1314), (30, 2.0423)] {
            assert!((student(freedom) - quantile).abs() < 1e-3, "{freedom}: {}", student(freedom));
        }
        assert!((student(120) - 1.9799).abs() < 1e-4);
        assert!((student(u32::MAX) - 1.959_96).abs() < 1e-4);
    }

    #[test]
    fn the_margin_is_students() {
        // 1, 2, 3: standard deviation 1, standard error 1/√3, 4.3027 of them.
        let estimate = Estimate::of(&[1.0, 2.0, 3.0]).expect("estimate");
        assert!((estimate.margin.expect("margin") - 2.484).abs() < 1e-3);
        assert_eq!((estimate.mean, estimate.low, estimate.high, estimate.repeats), (2.0, 1.0, 3.0, 3));
        assert_eq!(Estimate::of(&[5.0]).expect("estimate").margin, None);
        assert_eq!(Estimate::of(&[f64::NAN]), None);
    }

    #[test]
    fn jain_is_one_for_equals_and_a_share_for_one_that_takes_all() {
        assert_eq!(jain(&[0.7, 0.7, 0.7, 0.7]), Some(1.0));
        assert_eq!(jain(&[1.0, 0.0, 0.0, 0.0]), Some(0.25));
        assert_eq!((jain(&[0.0, 0.0]), jain(&[])), (None, None));
    }

    proptest! {
        #[test]
        fn jain_lies_between_a_share_and_one(shares in prop::collection::vec(0.0..1e9, 1..9)) {
            if let Some(index) = jain(&shares) {
                prop_assert!(index <= 1.0 + 1e-9 && index >= 1.0 / shares.len() as f64 - 1e-9);
            }
        }

        #[test]
        fn a_mean_lies_within_its_spread(figures in prop::collection::vec(any::<f64>(), 0..6)) {
            if let Some(estimate) = Estimate::of(&figures) {
                prop_assert!(estimate.low <= estimate.mean && estimate.mean <= estimate.high);
            }
        }
    }
}
