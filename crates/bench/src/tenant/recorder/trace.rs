//! When the first tokens of a window were done.

use cotenant_model::Nanoseconds;
use cotenant_model::run::Trace;

/// The earliest [`Timeline::EVENTS`] events of a window, told in any order.
#[derive(Debug)]
pub(super) struct Timeline {
    open: Nanoseconds,
    /// Each event with whether a request ended at it; up to twice as many as are kept.
    events: Vec<(Nanoseconds, bool)>,
    /// From this instant on, events are too late to be kept.
    full: Nanoseconds,
}

impl Timeline {
    /// Events that are kept.
    pub(super) const EVENTS: usize = 4_000;

    pub(super) fn new(open: Nanoseconds) -> Self {
        Self { open, events: Vec::with_capacity(2 * Self::EVENTS), full: Nanoseconds(u64::MAX) }
    }

    pub(super) fn push(&mut self, at: Nanoseconds, end: bool) {
        if at >= self.full {
            return;
        }
        self.events.push((at, end));
        if self.events.len() == 2 * Self::EVENTS {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.events.sort_by_key(|(at, _end)| *at);
        self.events.truncate(Self::EVENTS);
        if let Some((at, _end)) = self.events.get(Self::EVENTS - 1) {
            self.full = *at;
        }
    }

    /// The events in order; `None` when there were none.
    pub(super) fn trace(mut self) -> Option<Trace> {
        self.cut();
        let times: Vec<u64> = self.events.iter().map(|(at, _end)| at.0.saturating_sub(self.open.0) / 1_000).collect();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let ends = (0..).zip(&self.events).filter_map(|(position, (_at, end))| end.then_some(position)).collect();
        Some(Trace { first: *times.first()?, gaps, ends })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_events_are_kept_whatever_their_order() {
        let mut timeline = Timeline::new(Nanoseconds(1_000_000));
        let count = 3 * Timeline::EVENTS as u64;
        for index in 0..count {
            // A walk over all residues in an order that is neither rising nor falling.
            let position = index * 7_001 % count;
            timeline.push(Nanoseconds(1_000_000 + position * 1_500), position % 10 == 9);
        }
        let trace = timeline.trace().expect("events");
        let times: Vec<u64> = trace.times().collect();
        let expected: Vec<u64> = (0..Timeline::EVENTS as u64).map(|position| position * 1_500 / 1_000).collect();
        assert_eq!(times, expected);
        assert_eq!(trace.ends[..3], [9, 19, 29]);
        assert_eq!(trace.ends.len(), Timeline::EVENTS / 10);
    }

    #[test]
    fn a_window_without_events_has_no_trace() {
        assert_eq!(Timeline::new(Nanoseconds(0)).trace(), None);
    }
}
