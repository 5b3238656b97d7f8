//! What the measurements so far say of settings measured and not.

use cotenant_model::Percent;

use super::grid::STEP;
use super::surface::{Guess, Observation, Shape, Surface};
use super::tally::{Tally, noise};

/// Gain in the logarithm of the aggregate below which a probe is not worth its time.
const NEGLIGIBLE: f64 = 2e-4;

/// Range of the logarithm of the SLO ratio that is fitted: how far beyond a limit a setting is does not matter.
const CLIP: (f64, f64) = (-1.5, 0.7);

/// What a choice that breaks an SLO would cost, as a logarithm of the aggregate.
const BROKEN: f64 = 0.1;

/// Least chance granted to a setting beside the incumbent that was not measured: a smooth surface is wrong at a cliff.
const DOUBT: f64 = 0.1;

/// Settings with new measurements after which the surfaces' shapes are fitted anew.
const REFIT: usize = 4;

/// An opinion of every setting.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    tallies: &'a [Tally],
    aggregate: Surface,
    /// `None` when no tenant has an SLO.
    slo: Option<Surface>,
    incumbent: Option<usize>,
}

impl<'a> Judge<'a> {
    /// Fits the surfaces; `shapes` are earlier ones with the number of settings they were fitted to.
    pub(super) fn new(tallies: &'a [Tally], expected_noise: f64, shapes: Option<(usize, [Shape; 2])>) -> Self {
        let shapes = shapes.filter(|(settings, _)| tallies.len() < settings + REFIT).map(|(_, shapes)| shapes);
        let [aggregate_noise, slo_noise] = noise(tallies, expected_noise);
        let aggregate = observations(tallies, aggregate_noise, |tally| {
            (!tally.refused).then(|| tally.point.aggregate.max(1e-3).ln())
        });
        let protected = tallies.iter().any(|tally| tally.point.worst_slo > 0.0 || tally.refused);
        let slo = observations(tallies, slo_noise, |tally| Some(ratio(tally)));
        let fit = |seen: &[Observation], index: usize| match shapes {
            Some(shapes) => Surface::with(seen, shapes[index]),
            None => Surface::fit(seen),
        };
        let mut judge =
            Self { tallies, aggregate: fit(&aggregate, 0), slo: protected.then(|| fit(&slo, 1)), incumbent: None };
        judge.incumbent = judge.choose();
        judge
    }

    /// The shapes to keep for the next time.
    pub(super) fn shapes(&self, before: Option<(usize, [Shape; 2])>) -> Option<(usize, [Shape; 2])> {
        let fresh = before.filter(|(settings, _)| self.tallies.len() < settings + REFIT);
        fresh.or_else(|| {
            let slo = self.slo.as_ref().unwrap_or(&self.aggregate).shape();
            Some((self.tallies.len(), [self.aggregate.shape(), slo]))
        })
    }

    /// Position of the setting that would be chosen now; `None` when none keeps every SLO.
    pub(super) const fn incumbent(&self) -> Option<usize> {
        self.incumbent
    }

    /// Measured settings around which better ones may lie, the most promising first; at most four.
    pub(super) fn leaders(&self) -> Vec<Vec<Percent>> {
        let promise = |tally: &Tally| {
            let shares = shares(&tally.point.percent);
            self.aggregate.guess(&shares).mean - self.excess(&shares)
        };
        let mut ranked: Vec<&Tally> = self.tallies.iter().filter(|tally| !tally.refused).collect();
        ranked.sort_by(|one, other| promise(other).total_cmp(&promise(one)));
        ranked.iter().take(4).map(|tally| tally.point.percent.clone()).collect()
    }

    /// What measuring a setting once more is expected to gain; `None` when it is not worth it.
    pub(super) fn gain(&self, percent: &[Percent]) -> Option<f64> {
        let known = self.tallies.iter().position(|tally| tally.point.percent == percent);
        if known.is_some_and(|index| self.tallies[index].refused) {
            return None;
        }
        let shares = shares(percent);
        let doubted = known.is_none() && self.is_beside_incumbent(percent);
        let kept = self.chance_kept(&shares).max(if doubted { DOUBT } else { 0.0 });
        let gain = match self.incumbent {
            None => kept,
            Some(best) if known == Some(best) => (1.0 - kept) * BROKEN,
            Some(best) => kept * improvement(self.aggregate.guess(&shares), self.worth(best)),
        };
        (gain > NEGLIGIBLE).then_some(gain)
    }

    /// Among the settings whose measured mean and whose surface both keep every SLO, the one with the highest aggregate.
    fn choose(&self) -> Option<usize> {
        let kept = |index: &usize| {
            let tally = &self.tallies[*index];
            !tally.refused && tally.point.worst_slo <= 1.0 && self.chance_kept(&shares(&tally.point.percent)) >= 0.4
        };
        (0..self.tallies.len()).filter(kept).max_by(|one, other| self.worth(*one).total_cmp(&self.worth(*other)))
    }

    /// Logarithm of a measured setting's aggregate, its neighbours considered.
    fn worth(&self, index: usize) -> f64 {
        self.aggregate.guess(&shares(&self.tallies[index].point.percent)).mean
    }

    /// Whether a setting is at most one step of the grid from the incumbent in every tenant.
    fn is_beside_incumbent(&self, percent: &[Percent]) -> bool {
        self.incumbent.is_some_and(|best| {
            let pairs = self.tallies[best].point.percent.iter().zip(percent);
            pairs.into_iter().all(|(one, other)| one.get().abs_diff(other.get()) <= STEP)
        })
    }

    fn chance_kept(&self, shares: &[f64]) -> f64 {
        self.slo.as_ref().map_or(1.0, |slo| {
            let guess = slo.guess(shares);
            normal(-guess.mean / guess.deviation)
        })
    }

    fn excess(&self, shares: &[f64]) -> f64 {
        self.slo.as_ref().map_or(0.0, |slo| slo.guess(shares).mean.max(0.0))
    }
}

/// The logarithm of a setting's worst SLO ratio, clipped; a setting that cannot run keeps none.
fn ratio(tally: &Tally) -> f64 {
    if tally.refused { CLIP.1 } else { tally.point.worst_slo.max(1e-3).ln().clamp(CLIP.0, CLIP.1) }
}

fn observations(tallies: &[Tally], noise: f64, figure: impl Fn(&Tally) -> Option<f64>) -> Vec<Observation> {
    let observation = |tally: &Tally| {
        let noise = noise * noise / f64::from(tally.windows);
        Some(Observation { shares: shares(&tally.point.percent), value: figure(tally)?, noise })
    };
    tallies.iter().filter_map(observation).collect()
}

fn shares(percent: &[Percent]) -> Vec<f64> {
    percent.iter().map(|percent| f64::from(percent.get()) / 100.0).collect()
}

/// Expected improvement of a guess over the best known (Jones, Schonlau and Welch 1998).
fn improvement(guess: Guess, best: f64) -> f64 {
    let z = (guess.mean - best) / guess.deviation;
    let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    guess.deviation * (density + z * normal(z))
}

/// The normal distribution function, within 0.0002 (Page 1977).
fn normal(z: f64) -> f64 {
    1.0 / (1.0 + (-(1.5976 * z + 0.070_565_992 * z.powi(3))).exp())
}
