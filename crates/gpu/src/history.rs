//! Readings over time and what they say about a window.

use std::collections::VecDeque;

use cotenant_model::Nanoseconds;
use cotenant_model::gpu::{GpuProcess, GpuSample};
use cotenant_model::run::Telemetry;

/// Where a window's energy comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnergySource {
    /// The driver's energy counter.
    Counter,
    /// Power readings integrated over time, where the GPU has no counter. The driver averages power over up to a second, so
    /// a short window is told its neighbourhood's power too.
    PowerIntegral,
}

/// A call that failed one or more times in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When it first failed, of the monotonic clock.
    pub first: Nanoseconds,
    /// When it last failed.
    pub last: Nanoseconds,
    /// How often.
    pub count: u64,
    /// The error and its causes.
    pub message: String,
}

/// What a GPU did in a window, with what a reader of it must know.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// For the record of the run.
    pub telemetry: Telemetry,
    /// How the energy was measured; `None` where it was not.
    pub energy_source: Option<EnergySource>,
    /// Calls that failed during the window.
    pub failures: Vec<Failure>,
}

impl Observation {
    /// What the record's notes should say: a gap, failures, energy that is not the counter's.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let gap = self.telemetry.gap.map(|gap| format!("no telemetry for {gap}"));
        let energy = match self.energy_source {
            Some(EnergySource::Counter) => None,
            Some(EnergySource::PowerIntegral) => {
                Some("energy integrated from power readings: the GPU has no energy counter".to_owned())
            }
            None => Some("energy unknown".to_owned()),
        };
        let failures = self.failures.iter().map(|failure| match failure.count {
            1 => format!("telemetry failed once: {}", failure.message),
            count => format!("telemetry failed {count} times: {}", failure.message),
        });
        gap.into_iter().chain(energy).chain(failures).collect()
    }
}

/// Readings of one GPU in the order taken.
#[derive(Debug)]
pub(crate) struct History {
    interval: Nanoseconds,
    readings: VecDeque<(Nanoseconds, GpuSample)>,
    failures: VecDeque<Failure>,
}

/// Four and a half hours at four readings a second, about 15 MiB.
const MOST_READINGS: usize = 1 << 16;
/// Kinds of failure in a row; a GPU that flaps cannot fill the memory.
const MOST_FAILURES: usize = 64;

impl History {
    pub(crate) const fn new(interval: Nanoseconds) -> Self {
        Self { interval, readings: VecDeque::new(), failures: VecDeque::new() }
    }

    /// Keeps a reading; the oldest gives way.
    pub(crate) fn push(&mut self, at: Nanoseconds, sample: GpuSample) {
        if self.readings.len() == MOST_READINGS {
            self.readings.pop_front();
        }
        self.readings.push_back((at, sample));
    }

    /// Counts a failure; the same one in a row is kept once.
    pub(crate) fn fail(&mut self, at: Nanoseconds, message: String) {
        if let Some(previous) = self.failures.back_mut().filter(|previous| previous.message == message) {
            previous.last = at;
            previous.count += 1;
            return;
        }
        if self.failures.len() == MOST_FAILURES {
            self.failures.pop_front();
        }
        self.failures.push_back(Failure { first: at, last: at, count: 1, message });
    }

    /// What the readings say about a window; `processes` were read during it.
    pub(crate) fn observe(&self, start: Nanoseconds, end: Nanoseconds, processes: Vec<GpuProcess>) -> Observation {
        let energy = self.energy(start, end);
        let telemetry = Telemetry {
            samples: self.samples(start, end),
            energy_millijoules: energy.map(|(millijoules, _)| millijoules),
            processes,
            gap: self.gap(start, end),
        };
        let overlapping = self.failures.iter().filter(|failure| failure.first <= end && failure.last >= start);
        Observation {
            telemetry,
            energy_source: energy.map(|(_, source)| source),
            failures: overlapping.cloned().collect(),
        }
    }

    /// Readings inside the window, by their time from its start. GPM figures cover the time since the reading before, so
    /// they are left out where most of that time lies before the window.
    fn samples(&self, start: Nanoseconds, end: Nanoseconds) -> Vec<(Nanoseconds, GpuSample)> {
        let mut previous = None;
        let mut samples = Vec::new();
        for (at, sample) in &self.readings {
            if *at >= start && *at <= end {
                let mut sample = sample.clone();
                if previous.is_none_or(|Nanoseconds(previous)| start.0.saturating_sub(previous) > at.0 - start.0) {
                    (sample.sm_activity, sample.sm_occupancy) = (None, None);
                    (sample.memory_bandwidth, sample.tensor_activity) = (None, None);
                }
                samples.push((Nanoseconds(at.0 - start.0), sample));
            }
            previous = Some(*at);
        }
        samples
    }

    /// The longest time inside the window without a reading, when it is more than twice the interval. The window's edges
    /// count as readings: what lies outside is none of its business.
    fn gap(&self, start: Nanoseconds, end: Nanoseconds) -> Option<Nanoseconds> {
        let inside = self.readings.iter().map(|(at, _)| at.0).filter(|at| (start.0..=end.0).contains(at));
        let edges: Vec<u64> = std::iter::once(start.0).chain(inside).chain([end.0]).collect();
        let longest = edges.windows(2).map(|pair| pair[1] - pair[0]).max()?;
        (longest > self.interval.0.saturating_mul(2)).then_some(Nanoseconds(longest))
    }

    /// Energy over the window in millijoules from the counter, or else from power.
    fn energy(&self, start: Nanoseconds, end: Nanoseconds) -> Option<(u64, EnergySource)> {
        let counter = self.counted(start, end).map(|energy| (energy, EnergySource::Counter));
        counter.or_else(|| self.integrated(start, end).map(|energy| (energy, EnergySource::PowerIntegral)))
    }

    /// The counter's difference between the readings nearest to the edges, scaled to the window's length.
    fn counted(&self, start: Nanoseconds, end: Nanoseconds) -> Option<u64> {
        let readings: Vec<_> = self
            .readings
            .iter()
            .filter_map(|(at, sample)| Some((at.0, u128::from(sample.energy_millijoules?))))
            .collect();
        let (first, last) = self.nearest(&readings, start, end)?;
        let ((from, before), (until, after)) = (readings[first], readings[last]);
        // A counter that runs backwards was reset with the driver.
        let difference = after.checked_sub(before)?;
        u64::try_from(difference * u128::from(end.0 - start.0) / u128::from(until - from)).ok()
    }

    /// Power integrated by trapezoids between the readings nearest to the edges, scaled to the window's length.
    fn integrated(&self, start: Nanoseconds, end: Nanoseconds) -> Option<u64> {
        let readings: Vec<_> = self
            .readings
            .iter()
            .filter_map(|(at, sample)| Some((at.0, u128::from(sample.power_milliwatts?))))
            .collect();
        let (first, last) = self.nearest(&readings, start, end)?;
        let trapezoid = |pair: &[(u64, u128)]| (pair[0].1 + pair[1].1) * u128::from(pair[1].0 - pair[0].0) / 2;
        let picojoules: u128 = readings[first..=last].windows(2).map(trapezoid).sum();
        let span = u128::from(readings[last].0 - readings[first].0);
        u64::try_from(picojoules * u128::from(end.0 - start.0) / span / 1_000_000_000).ok()
    }

    /// Positions of the readings nearest to both edges. They must differ, and each be at most two intervals from its edge: a
    /// reading further away says nothing about the window.
    fn nearest<T>(&self, readings: &[(u64, T)], start: Nanoseconds, end: Nanoseconds) -> Option<(usize, usize)> {
        let nearest = |edge: u64| {
            let distances = readings.iter().map(|(at, _)| at.abs_diff(edge)).enumerate();
            let (position, distance) = distances.min_by_key(|(_, distance)| *distance)?;
            (distance <= self.interval.0.saturating_mul(2)).then_some(position)
        };
        let (first, last) = (nearest(start.0)?, nearest(end.0)?);
        (readings[first].0 < readings[last].0).then_some((first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// One reading for each (milliseconds, energy, power), every 100 ms.
    fn history(readings: &[(u64, Option<u64>, Option<u32>)]) -> History {
        let mut history = History::new(Nanoseconds(100 * MS));
        for (at, energy_millijoules, power_milliwatts) in readings {
            let sample = GpuSample {
                energy_millijoules: *energy_millijoules,
                power_milliwatts: *power_milliwatts,
                sm_activity: Some(50.0),
                ..GpuSample::default()
            };
            history.push(Nanoseconds(at * MS), sample);
        }
        history
    }

    fn observe(history: &History, start: u64, end: u64) -> Observation {
        history.observe(Nanoseconds(start * MS), Nanoseconds(end * MS), Vec::new())
    }

    #[test]
    fn energy_is_the_counters_difference_scaled_to_the_window() {
        let history = history(&[(990, Some(1_000), None), (1_100, Some(1_050), None), (1_240, Some(1_125), None)]);
        let observation = observe(&history, 1_000, 1_200);
        // 125 mJ over the 250 ms between the nearest readings, of which the window is 200 ms.
        assert_eq!(observation.telemetry.energy_millijoules, Some(100));
        assert_eq!(observation.energy_source, Some(EnergySource::Counter));
    }

    #[test]
    fn energy_without_a_counter_is_the_integral_of_power_and_says_so() {
        let history = history(&[(0, None, Some(100_000)), (100, None, Some(300_000)), (200, None, Some(300_000))]);
        let observation = observe(&history, 0, 200);
        // (100 W + 300 W) / 2 * 0.1 s + 300 W * 0.1 s = 50 J.
        assert_eq!(observation.telemetry.energy_millijoules, Some(50_000));
        assert_eq!(observation.energy_source, Some(EnergySource::PowerIntegral));
        assert!(observation.notes()[0].contains("integrated"), "{:?}", observation.notes());
    }

    #[test]
    fn a_counter_that_was_reset_is_not_believed() {
        let history = history(&[(0, Some(900), Some(10_000)), (100, Some(5), Some(10_000))]);
        let observation = observe(&history, 0, 100);
        assert_eq!(observation.telemetry.energy_millijoules, Some(1_000));
        assert_eq!(observation.energy_source, Some(EnergySource::PowerIntegral));
    }

    #[test]
    fn energy_is_unknown_when_no_reading_is_near_an_edge() {
        let history = history(&[(0, Some(0), None), (100, Some(10), None), (200, Some(20), None)]);
        let observation = observe(&history, 0, 500);
        assert_eq!((observation.telemetry.energy_millijoules, observation.energy_source), (None, None));
        assert_eq!(observe(&history, 90, 110).telemetry.energy_millijoules, None, "one reading is no difference");
    }

    #[test]
    fn a_gap_is_the_longest_time_without_a_reading_also_at_the_edges() {
        let history = history(&[(0, None, None), (100, None, None), (420, None, None), (500, None, None)]);
        assert_eq!(observe(&history, 0, 500).telemetry.gap, Some(Nanoseconds(320 * MS)));
        assert_eq!(observe(&history, 420, 700).telemetry.gap, None, "exactly twice the interval is no gap");
        assert_eq!(observe(&history, 420, 900).telemetry.gap, Some(Nanoseconds(400 * MS)));
    }

    #[test]
    fn samples_count_from_the_windows_start_and_cover_only_its_own_time() {
        let history = history(&[(0, None, None), (100, None, None), (190, None, None), (300, None, None)]);
        let samples = observe(&history, 95, 200).telemetry.samples;
        let seen: Vec<_> = samples.iter().map(|(at, sample)| (at.0 / MS, sample.sm_activity)).collect();
        assert_eq!(seen, [(5, None), (95, Some(50.0))]);
    }

    #[test]
    fn the_same_failure_in_a_row_is_told_once_with_its_count() {
        let mut history = history(&[]);
        for at in [10, 20, 30] {
            history.fail(Nanoseconds(at * MS), "lost".to_owned());
        }
        let observation = observe(&history, 25, 40);
        assert_eq!(observation.failures.iter().map(|failure| failure.count).collect::<Vec<_>>(), [3]);
        assert_eq!(observe(&history, 31, 40).failures, []);
        assert!(observation.notes().contains(&"telemetry failed 3 times: lost".to_owned()));
    }

    #[test]
    fn old_readings_give_way() {
        let mut history = History::new(Nanoseconds(1));
        for at in 0..=MOST_READINGS {
            history.push(Nanoseconds(at as u64), GpuSample::default());
        }
        assert_eq!((history.readings.len(), history.readings.front().map(|(at, _)| at.0)), (MOST_READINGS, Some(1)));
    }
}
