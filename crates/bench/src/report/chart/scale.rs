//! Scales: from figures to places, with ticks at round figures.

/// A linear or logarithmic scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
    logarithmic: bool,
}

impl Scale {
    /// Equal steps of the figure are equal distances; widened where `low` is not below `high`.
    pub(crate) fn linear((low, high): (f64, f64), (start, end): (f64, f64)) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, start, end, logarithmic: false }
    }

    /// Equal factors of the figure are equal distances; figures below a billionth are drawn as that.
    pub(crate) fn logarithmic((low, high): (f64, f64), (start, end): (f64, f64)) -> Self {
        let low = low.max(1e-9);
        let high = if high > low * 1.01 { high } else { low * 10.0 };
        Self { low, high, start, end, logarithmic: true }
    }

    /// The place of a figure, kept on the scale.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        let share = if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.start + share * (self.end - self.start)
    }

    /// Round figures on the scale, at most `most` of them.
    pub(crate) fn ticks(&self, most: usize) -> Vec<f64> {
        if self.logarithmic { self.logarithmic_ticks(most) } else { self.linear_ticks(most) }
    }

    fn linear_ticks(&self, most: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / most.max(1) as f64;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * decade).find(|step| *step >= rough);
        let step = step.unwrap_or(decade);
        let first = (self.low / step).ceil();
        let ticks = (0..=most).map(|index| (first + index as f64) * step);
        ticks.filter(|tick| *tick <= self.high + step * 1e-9).collect()
    }

    /// As many round figures of each decade as fit, otherwise every second, third, … decade.
    fn logarithmic_ticks(&self, most: usize) -> Vec<f64> {
        let decades = || (-9..16).map(|exponent| 10_f64.powi(exponent));
        let within = |tick: &f64| *tick >= self.low * 0.9999 && *tick <= self.high * 1.0001;
        let rich: [&[f64]; 3] =
            [&[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0], &[1.0, 1.5, 2.0, 3.0, 5.0], &[1.0, 2.0, 5.0]];
        let of = |factors: &[f64]| -> Vec<f64> {
            decades().flat_map(|decade| factors.iter().map(move |factor| factor * decade)).filter(within).collect()
        };
        if let Some(ticks) = rich.into_iter().map(of).find(|ticks| ticks.len() <= most) {
            return ticks;
        }
        let coarse: Vec<f64> = decades().filter(within).collect();
        let every = coarse.len().div_ceil(most.max(1)).max(1);
        coarse.into_iter().step_by(every).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_on_the_scale() {
        let linear = Scale::linear((0.0, 1234.0), (0.0, 100.0));
        assert_eq!(linear.ticks(4), [0.0, 500.0, 1000.0]);
        let log = Scale::logarithmic((0.9, 40.0), (0.0, 100.0));
        assert_eq!(log.ticks(6), [1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(Scale::logarithmic((1.0, 1e9), (0.0, 1.0)).ticks(5).len(), 5);
    }

    #[test]
    fn places_keep_to_the_scale_even_for_absurd_figures() {
        let scale = Scale::logarithmic((1.0, 100.0), (0.0, 200.0));
        assert!((scale.place(10.0) - 100.0).abs() < 1e-9);
        for value in [0.0, -5.0, 1e300, f64::INFINITY] {
            assert!((0.0..=200.0).contains(&scale.place(value)), "{value}");
        }
        assert!(Scale::linear((3.0, 3.0), (0.0, 1.0)).place(3.0).is_finite());
    }
}
