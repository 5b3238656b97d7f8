//! A smooth guess at a figure everywhere, from noisy measurements at a few settings.
//!
//! Gaussian-process regression (Rasmussen and Williams 2006, algorithm 2.1) with a Matérn 5/2 covariance, a linear trend
//! and a constant. Length and height of the covariance are the pair of a small table with the highest marginal likelihood.

/// Lengths tried, as fractions of the whole GPU.
const LENGTHS: [f64; 3] = [0.15, 0.35, 0.8];

/// Heights tried: standard deviations of the figure around its trend.
const HEIGHTS: [f64; 3] = [0.05, 0.2, 0.6];

/// Standard deviation of the constant and of the trend across the whole GPU.
const TREND: f64 = 1.0;

/// A measurement to fit: where, what, and the variance of its noise.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Observation {
    /// Share of the GPU of each tenant, 0 to 1.
    pub(super) shares: Vec<f64>,
    /// The figure.
    pub(super) value: f64,
    /// Variance of the figure's noise.
    pub(super) noise: f64,
}

/// What the figure is likely to be at a setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Guess {
    /// Mean.
    pub(super) mean: f64,
    /// Standard deviation.
    pub(super) deviation: f64,
}

/// Length and height of the covariance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shape {
    length: f64,
    height: f64,
}

/// The fitted surface.
#[derive(Debug)]
pub(super) struct Surface {
    shape: Shape,
    centre: f64,
    places: Vec<Vec<f64>>,
    /// Lower triangle of the Cholesky factor of the covariance with noise, row by row.
    factor: Vec<Vec<f64>>,
    /// The covariance's inverse times the values.
    weights: Vec<f64>,
    likelihood: f64,
}

impl Surface {
    /// Fits the shape that makes the observations most likely.
    pub(super) fn fit(observations: &[Observation]) -> Self {
        let shapes = LENGTHS.iter().flat_map(|length| HEIGHTS.map(|height| Shape { length: *length, height }));
        let fits = shapes.map(|shape| Self::with(observations, shape));
        let best = fits.max_by(|one, other| one.likelihood.total_cmp(&other.likelihood));
        best.unwrap_or_else(|| Self::with(observations, Shape { length: LENGTHS[1], height: HEIGHTS[1] }))
    }

    /// The shape that was fitted.
    pub(super) const fn shape(&self) -> Shape {
        self.shape
    }

    /// Fits with a given shape.
    pub(super) fn with(observations: &[Observation], shape: Shape) -> Self {
        let centre = observations.iter().map(|seen| seen.value).sum::<f64>() / observations.len().max(1) as f64;
        let places: Vec<Vec<f64>> = observations.iter().map(|seen| seen.shares.clone()).collect();
        let rows = observations.iter().enumerate().map(|(i, seen)| {
            let row = places.iter().take(i + 1).map(|place| shape.covariance(&seen.shares, place));
            let mut row: Vec<f64> = row.collect();
            row[i] += seen.noise + 1e-9;
            row
        });
        let factor = cholesky(rows.collect());
        let values: Vec<f64> = observations.iter().map(|seen| seen.value - centre).collect();
        let half = forward(&factor, &values);
        let fit: f64 = half.iter().map(|value| value * value).sum();
        let volume: f64 = factor.iter().enumerate().map(|(i, row)| row[i].ln()).sum();
        let weights = backward(&factor, half);
        Self { shape, centre, places, factor, weights, likelihood: -0.5 * fit - volume }
    }

    /// What the figure is likely to be at a setting.
    pub(super) fn guess(&self, shares: &[f64]) -> Guess {
        let covariances: Vec<f64> = self.places.iter().map(|place| self.shape.covariance(shares, place)).collect();
        let mean: f64 = covariances.iter().zip(&self.weights).map(|(one, other)| one * other).sum();
        let explained: f64 = forward(&self.factor, &covariances).iter().map(|value| value * value).sum();
        let variance = self.shape.covariance(shares, shares) - explained;
        Guess { mean: self.centre + mean, deviation: variance.max(1e-12).sqrt() }
    }
}

impl Shape {
    fn covariance(self, one: &[f64], other: &[f64]) -> f64 {
        let squared: f64 = one.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum();
        let distance = (5.0 * squared).sqrt() / self.length;
        let near = self.height * self.height * (1.0 + distance + distance * distance / 3.0) * (-distance).exp();
        let slope: f64 = one.iter().zip(other).map(|(a, b)| (a - 0.5) * (b - 0.5)).sum();
        near + TREND * TREND * (1.0 + slope)
    }
}

/// The lower triangular factor of a positive definite matrix given by its lower triangle.
fn cholesky(mut rows: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    for i in 0..rows.len() {
        let (done, rest) = rows.split_at_mut(i);
        let row = &mut rest[0];
        for (j, above) in done.iter().enumerate() {
            let known: f64 = row[..j].iter().zip(above).map(|(a, b)| a * b).sum();
            row[j] = (row[j] - known) / above[j];
        }
        let known: f64 = row[..i].iter().map(|value| value * value).sum();
        row[i] = (row[i] - known).max(1e-12).sqrt();
    }
    rows
}

/// Solves `factor · x = values`.
fn forward(factor: &[Vec<f64>], values: &[f64]) -> Vec<f64> {
    let mut solved: Vec<f64> = Vec::with_capacity(values.len());
    for (row, value) in factor.iter().zip(values) {
        let known: f64 = row.iter().zip(&solved).map(|(a, b)| a * b).sum();
        solved.push((value - known) / row[solved.len()]);
    }
    solved
}

/// Solves `factorᵀ · x = values`.
fn backward(factor: &[Vec<f64>], mut values: Vec<f64>) -> Vec<f64> {
    for i in (0..values.len()).rev() {
        let solved = values[i] / factor[i][i];
        values[i] = solved;
        for (value, weight) in values.iter_mut().zip(&factor[i][..i]) {
            *value -= weight * solved;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observations(figure: impl Fn(f64, f64) -> f64) -> Vec<Observation> {
        let places = (0..5).flat_map(|i| (0..5).map(move |j| (f64::from(i) / 4.0, f64::from(j) / 4.0)));
        places.map(|(a, b)| Observation { shares: vec![a, b], value: figure(a, b), noise: 1e-6 }).collect()
    }

    #[test]
    fn a_smooth_figure_is_guessed_between_the_measurements() {
        let figure = |a: f64, b: f64| (1.0 + a).ln() - 0.3 * a * b;
        let surface = Surface::fit(&observations(figure));
        for (a, b) in [(0.1, 0.9), (0.4, 0.4), (0.63, 0.12)] {
            let guess = surface.guess(&[a, b]);
            assert!((guess.mean - figure(a, b)).abs() < 0.01, "{guess:?} for {}", figure(a, b));
        }
    }

    #[test]
    fn a_guess_is_surest_where_it_was_measured() {
        let surface = Surface::fit(&observations(|a, b| a - b));
        assert!(surface.guess(&[0.5, 0.5]).deviation < surface.guess(&[0.6, 0.62]).deviation);
        assert!(surface.guess(&[0.6, 0.62]).deviation < surface.guess(&[2.0, 2.0]).deviation);
    }

    #[test]
    fn equations_are_solved() {
        let factor = cholesky(vec![vec![4.0], vec![2.0, 3.0]]);
        let solved = backward(&factor, forward(&factor, &[2.0, 5.0]));
        assert!((4.0 * solved[0] + 2.0 * solved[1] - 2.0).abs() < 1e-12);
        assert!((2.0 * solved[0] + 3.0 * solved[1] - 5.0).abs() < 1e-12);
    }
}
