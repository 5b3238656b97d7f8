//! When requests are due: pure generators, one for each shape of [`Load`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use cotenant_model::Nanoseconds;
use cotenant_model::workload::{Arrivals as Spacing, Load};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand_distr::{Distribution as _, Exp};

/// The due times of a tenant's requests, in order.
///
/// A closed loop has a request due at once for each stream, and another for each answer it is told of; an open loop has its
/// own times whatever the answers do. The same load, start and seed give the same times in the same version of the program.
#[derive(Debug)]
pub(super) struct Arrivals {
    source: Source,
    /// Known and not yet taken: the whole queue of a closed loop, at most one request of an open one.
    due: BinaryHeap<Reverse<Nanoseconds>>,
}

#[derive(Debug)]
enum Source {
    Closed { think: Nanoseconds },
    Poisson { gaps: Exp<f64>, random: Box<StdRng>, last: Nanoseconds },
    Constant { start: Nanoseconds, gap: f64, taken: u64 },
    Recorded { start: Nanoseconds, offsets: Vec<Nanoseconds>, period: Nanoseconds, taken: usize },
    Never,
}

impl Arrivals {
    /// Arrivals of a load that begins at `start`; none for a tenant without one, or with a rate that is not above 0.
    #[must_use]
    pub(super) fn new(load: Option<&Load>, start: Nanoseconds, seed: u64) -> Self {
        let mut due = BinaryHeap::new();
        let source = match load {
            None => Source::Never,
            Some(Load::Closed { streams, think }) => {
                due.extend((0..*streams).map(|_stream| Reverse(start)));
                Source::Closed { think: *think }
            }
            Some(Load::Open { arrivals, requests_per_second }) => open(*arrivals, *requests_per_second, start, seed),
            Some(Load::Trace { arrivals, .. }) => {
                Source::Recorded { start, offsets: arrivals.clone(), period: period(arrivals), taken: 0 }
            }
        };
        Self { source, due }
    }

    /// Whether requests are due at their own times, whatever the answers do.
    #[must_use]
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.source, Source::Poisson { .. } | Source::Constant { .. } | Source::Recorded { .. })
    }

    /// When the next request is due; `None` when none is until an answer comes.
    pub(super) fn peek(&mut self) -> Option<Nanoseconds> {
        if self.due.is_empty() {
            let next = self.source.generate()?;
            self.due.push(Reverse(next));
        }
        self.due.peek().map(|Reverse(due)| *due)
    }

    /// Takes the next request.
    pub(super) fn take(&mut self) -> Option<Nanoseconds> {
        let due = self.peek();
        self.due.pop();
        due
    }

    /// Tells a closed loop that a request ended at `end`, its stream free to send again after its think time or `pause`,
    /// whichever is longer. An open loop does not care.
    pub(super) fn answered(&mut self, end: Nanoseconds, pause: Nanoseconds) {
        if let Source::Closed { think } = self.source {
            self.due.push(Reverse(Nanoseconds(end.0.saturating_add(think.max(pause).0))));
        }
    }
}

fn open(spacing: Spacing, rate: f64, start: Nanoseconds, seed: u64) -> Source {
    if !(rate.is_finite() && rate > 0.0) {
        return Source::Never;
    }
    match spacing {
        Spacing::Constant => Source::Constant { start, gap: 1e9 / rate, taken: 0 },
        Spacing::Poisson => Exp::new(rate).map_or(Source::Never, |gaps| Source::Poisson {
            gaps,
            random: Box::new(StdRng::seed_from_u64(seed)),
            last: start,
        }),
    }
}

/// After how long a recording starts again: its span and once its mean gap, so that the joint looks like any other gap. A
/// recording of one instant repeats after the silence before it.
fn period(offsets: &[Nanoseconds]) -> Nanoseconds {
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return Nanoseconds(0) };
    let span = last.0.saturating_sub(first.0);
    let gaps = u64::try_from(offsets.len()).unwrap_or(u64::MAX) - 1;
    match span {
        0 => *last,
        _ => Nanoseconds(span + span / gaps),
    }
}

impl Source {
    fn generate(&mut self) -> Option<Nanoseconds> {
        match self {
            Self::Closed { .. } | Self::Never => None,
            Self::Poisson { gaps, random, last } => {
                let gap = Nanoseconds::from_seconds(gaps.sample(random));
                *last = Nanoseconds(last.0.saturating_add(gap.0));
                Some(*last)
            }
            Self::Constant { start, gap, taken } => {
                let offset = Nanoseconds::from_seconds(*taken as f64 * *gap / 1e9);
                *taken += 1;
                Some(Nanoseconds(start.0.saturating_add(offset.0)))
            }
            Self::Recorded { start, offsets, period, taken } => {
                let round = u64::try_from(*taken / offsets.len().max(1)).ok()?;
                if round > 0 && period.0 == 0 {
                    return None;
                }
                let offset = offsets.get(*taken % offsets.len().max(1))?;
                *taken += 1;
                Some(Nanoseconds(start.0.saturating_add(round.saturating_mul(period.0)).saturating_add(offset.0)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn open_load(arrivals: Spacing, requests_per_second: f64) -> Load {
        Load::Open { arrivals, requests_per_second }
    }

    fn times(load: &Load, start: u64, seed: u64, count: usize) -> Vec<u64> {
        let mut arrivals = Arrivals::new(Some(load), Nanoseconds(start), seed);
        std::iter::from_fn(|| arrivals.take()).take(count).map(|due| due.0).collect()
    }

    fn recorded(offsets: &[u64]) -> Load {
        Load::Trace { file: "arrivals.txt".to_owned(), arrivals: offsets.iter().copied().map(Nanoseconds).collect() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn poisson_arrivals_keep_their_mean_rate(rate in 0.5_f64..5_000.0, seed: u64) {
            // The mean of 20,000 exponential gaps lies within 5 standard errors, 5 / sqrt(20,000) = 3.5 %.
            let times = times(&open_load(Spacing::Poisson, rate), 7, seed, 20_000);
            let mean = (times[19_999] - 7) as f64 / 20_000.0 / 1e9;
            prop_assert!((mean * rate - 1.0).abs() < 0.036, "mean gap {mean} s at rate {rate}");
            prop_assert!(times.is_sorted());
        }

        #[test]
        fn a_seed_repeats_its_arrivals_and_another_does_not(rate in 0.5_f64..5_000.0, seed: u64, start in 0..SECOND) {
            let load = open_load(Spacing::Poisson, rate);
            prop_assert_eq!(times(&load, start, seed, 50), times(&load, start, seed, 50));
            prop_assert_ne!(times(&load, start, seed, 50), times(&load, start, seed ^ 1, 50));
        }

        #[test]
        fn constant_gaps_never_drift(rate in 0.5_f64..5_000.0, start in 0..SECOND) {
            let times = times(&open_load(Spacing::Constant, rate), start, 1, 5_000);
            for (index, time) in times.iter().enumerate() {
                let exact = start as f64 + index as f64 * 1e9 / rate;
                prop_assert!((*time as f64 - exact).abs() <= 2.0, "arrival {index} at {time}, not {exact}");
            }
        }

        #[test]
        fn a_recording_repeats_with_one_period(gaps in prop::collection::vec(1_u64..SECOND, 1..20), first in 0..SECOND) {
            let offsets: Vec<u64> = std::iter::once(first)
                .chain(gaps.iter().scan(first, |sum, gap| { *sum += gap; Some(*sum) }))
                .collect();
            let times = times(&recorded(&offsets), 100, 0, offsets.len() * 3);
            let period = times[offsets.len()] - times[0];
            prop_assert!(times.is_sorted());
            for pair in 0..offsets.len() * 2 {
                prop_assert_eq!(times[pair + offsets.len()] - times[pair], period);
            }
        }
    }

    #[test]
    fn a_constant_rate_of_ten_has_gaps_of_exactly_100_ms() {
        let times = times(&open_load(Spacing::Constant, 10.0), 5, 0, 4);
        assert_eq!(times, [5, 100_000_005, 200_000_005, 300_000_005]);
    }

    #[test]
    fn a_recording_joins_its_end_to_its_start_by_its_mean_gap() {
        assert_eq!(times(&recorded(&[10, 20, 30]), 0, 0, 7), [10, 20, 30, 40, 50, 60, 70]);
        assert_eq!(times(&recorded(&[0, 10]), 0, 0, 4), [0, 10, 20, 30]);
        assert_eq!(times(&recorded(&[40]), 0, 0, 3), [40, 80, 120]);
    }

    #[test]
    fn a_recording_that_cannot_repeat_ends() {
        assert_eq!(times(&recorded(&[]), 3, 0, 9), [0_u64; 0]);
        assert_eq!(times(&recorded(&[0, 0]), 3, 0, 9), [3, 3]);
    }

    #[test]
    fn a_closed_loop_waits_for_its_answers() {
        let load = Load::Closed { streams: 2, think: Nanoseconds(10) };
        let mut arrivals = Arrivals::new(Some(&load), Nanoseconds(100), 0);
        assert!(!arrivals.is_open());
        assert_eq!(
            (arrivals.take(), arrivals.take(), arrivals.take()),
            (Some(Nanoseconds(100)), Some(Nanoseconds(100)), None)
        );
        arrivals.answered(Nanoseconds(150), Nanoseconds(0));
        arrivals.answered(Nanoseconds(160), Nanoseconds(50));
        assert_eq!((arrivals.peek(), arrivals.take()), (Some(Nanoseconds(160)), Some(Nanoseconds(160))));
        assert_eq!((arrivals.take(), arrivals.peek()), (Some(Nanoseconds(210)), None));
    }

    #[test]
    fn no_load_and_absurd_rates_give_no_requests() {
        assert_eq!(Arrivals::new(None, Nanoseconds(0), 0).peek(), None);
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            for spacing in [Spacing::Constant, Spacing::Poisson] {
                assert_eq!(times(&open_load(spacing, rate), 0, 0, 1), [0_u64; 0], "{rate}");
            }
        }
    }
}
