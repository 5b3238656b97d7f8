//! Figures as text, the same in every report.

use cotenant_model::MicroUsd;
use cotenant_model::unit::significant;

use crate::summary::{Estimate, Percentile};

/// What stands where there is no figure.
pub(crate) const NONE: &str = "–";

/// Three significant figures; whole numbers with thousands apart from 1,000 on.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 999.5 {
        return significant(value);
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { String::from("-") } else { String::new() };
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A ratio: two decimals below 10, three significant figures above.
pub(crate) fn ratio(value: f64) -> String {
    if value.abs() < 9.995 { format!("{value:.2}") } else { number(value) }
}

/// A ratio with `×` after it.
pub(crate) fn times(value: f64) -> String {
    format!("{}×", ratio(value))
}

/// The mean, with half its confidence interval where there is one: `1,234 ±12`.
pub(crate) fn spread(estimate: &Estimate) -> String {
    with_margin(estimate, number)
}

/// The mean of a ratio, with half its confidence interval where there is one: `1.40 ±0.02`.
pub(crate) fn ratio_spread(estimate: &Estimate) -> String {
    with_margin(estimate, ratio)
}

fn with_margin(estimate: &Estimate, write: fn(f64) -> String) -> String {
    let mean = write(estimate.mean);
    let Some(margin) = estimate.margin else { return mean };
    let decimals = mean.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let smallest = 0.1_f64.powi(i32::try_from(decimals).unwrap_or(0));
    if margin > 0.0 && margin < smallest / 2.0 {
        return format!("{mean} ±<{smallest:.decimals$}");
    }
    let text = if margin >= 999.5 { number(margin) } else { format!("{margin:.decimals$}") };
    format!("{mean} ±{text}")
}

/// A percentile, with what stands in its way where it is not known: `8.39 s`, `≥ 8.2 s`, `n=40: too few`.
pub(crate) fn percentile(percentile: &Percentile) -> String {
    match percentile {
        Percentile::Known { value, .. } => value.to_string(),
        Percentile::AtLeast(value) => format!("≥ {value}"),
        Percentile::TooFew { count, .. } => format!("n={count}: too few"),
    }
}

/// A percentile with its confidence interval: `8.39 s (8.1 s to 9 s)`, `8.39 s (8.1 s or more)`.
pub(crate) fn percentile_interval(value: &Percentile) -> String {
    match value {
        Percentile::Known { low, high: Some(high), .. } => format!("{} ({low} to {high})", percentile(value)),
        Percentile::Known { low, high: None, .. } => format!("{} ({low} or more)", percentile(value)),
        Percentile::TooFew { count, needed } => format!("too few: {count} of {needed} needed"),
        Percentile::AtLeast(_) => percentile(value),
    }
}

/// Dollars in three significant figures, at least cents: `$1.78`, `$0.042`.
pub(crate) fn money(amount: MicroUsd) -> String {
    let dollars = amount.dollars();
    match dollars {
        d if d >= 99.95 => format!("${}", number(d)),
        d if d >= 0.1 => format!("${d:.2}"),
        d => format!("${}", tiny(d)),
    }
}

/// Two significant figures of a number below 0.1.
fn tiny(value: f64) -> String {
    [2_u8, 3, 4, 5]
        .into_iter()
        .map(|decimals| (decimals, format!("{value:.0$}", usize::from(decimals))))
        .find(|(decimals, _)| value * 10_f64.powi(i32::from(*decimals)) >= 10.0)
        .map_or_else(|| format!("{value:.6}"), |(_, text)| text)
}

/// Two ends of a range as ratios; one where both read the same: `0.38–0.39`, `0.22`.
pub(crate) fn range(low: f64, high: f64) -> String {
    let (low, high) = (ratio(low), ratio(high));
    if low == high { low } else { format!("{low}–{high}") }
}

/// An optional figure, or [`NONE`].
pub(crate) fn or_none<T>(value: Option<T>, write: impl Fn(T) -> String) -> String {
    value.map_or_else(|| NONE.to_owned(), write)
}

#[cfg(test)]
mod tests {
    use cotenant_model::Nanoseconds;

    use super::*;

    #[test]
    fn figures_keep_three_significant_figures_and_their_margin() {
        let estimate = |mean, margin| Estimate { mean, low: mean, high: mean, margin, repeats: 3 };
        assert_eq!(number(1_234_567.8), "1,234,568");
        assert_eq!(number(999.7), "1,000");
        assert_eq!(spread(&estimate(1234.4, Some(11.6))), "1,234 ±12");
        assert_eq!(ratio_spread(&estimate(1.4, Some(0.021))), "1.40 ±0.02");
        assert_eq!(ratio_spread(&estimate(1.4, Some(0.001))), "1.40 ±<0.01");
        assert_eq!(ratio_spread(&estimate(1.4, None)), "1.40");
    }

    #[test]
    fn a_percentile_that_is_not_known_says_why() {
        assert_eq!(percentile(&Percentile::AtLeast(Nanoseconds(8_200_000_000))), "≥ 8.2 s");
        assert_eq!(percentile(&Percentile::TooFew { count: 40, needed: 299 }), "n=40: too few");
    }

    #[test]
    fn small_money_is_not_shown_as_nothing() {
        assert_eq!(money(MicroUsd(1_780_000)), "$1.78");
        assert_eq!(money(MicroUsd(4_210)), "$0.0042");
        assert_eq!(money(MicroUsd(3)), "$0.000003");
    }
}
