//! What a tenant did in a window, kept as it happens.
//!
//! What *ended* inside `[open, close)` counts, whenever it began: a request in the histograms of its latencies, a token in
//! that of gaps. Work counts by the fraction of its time inside the window.
//!
//! A token costs two comparisons, one addition and one bucket increment; buffers are taken before the load begins, so that
//! nothing is allocated while it runs, save for a request with more than [`Request::ROOM`] tokens.

mod latency;
mod samples;
mod trace;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cotenant_model::Nanoseconds;
use cotenant_model::kernel::WorkUnit;
use cotenant_model::run::{Metric, Window, Work};

use self::latency::Latencies;
use self::samples::{Row, Samples};
use self::trace::Timeline;
use crate::protocol::WindowPlan;

/// Records one window.
#[derive(Debug)]
pub(super) struct Recorder {
    open: Nanoseconds,
    close: Nanoseconds,
    unit: WorkUnit,
    work: Work,
    time_to_first_token: Latencies,
    time_per_token: Latencies,
    gaps: Latencies,
    end_to_end: Latencies,
    lag: Latencies,
    unfinished: Latencies,
    samples: Samples,
    timeline: Option<Timeline>,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Request {
    /// When it was meant to start: every latency counts from here.
    due: Nanoseconds,
    /// How late the load generator began it though it was free to begin.
    lag: Nanoseconds,
    first: Option<Nanoseconds>,
    last: Nanoseconds,
    tokens: u64,
    /// Its gaps between tokens, in nanoseconds.
    gaps: Vec<u64>,
}

impl Request {
    /// Most gaps that are given room before the load begins.
    pub(super) const ROOM: usize = 1 << 16;

    /// Room for requests of `tokens` tokens; one `Request` serves any number of them, one after the other.
    #[must_use]
    pub(super) fn with_room(tokens: u32) -> Self {
        let room = usize::try_from(tokens).unwrap_or(Self::ROOM).min(Self::ROOM);
        let never = Nanoseconds(0);
        Self { due: never, lag: never, first: None, last: never, tokens: 0, gaps: Vec::with_capacity(room) }
    }

    /// Begins the next request.
    pub(super) fn begin(&mut self, due: Nanoseconds, lag: Nanoseconds) {
        self.due = due;
        self.lag = lag;
        self.first = None;
        self.last = due;
        self.tokens = 0;
        self.gaps.clear();
    }

    /// The gap that 99 % of its gaps do not exceed, by nearest rank: the largest below 100 gaps. 0 without gaps.
    fn slow_gap(&mut self) -> u64 {
        let rank = (self.gaps.len() * 99).div_ceil(100);
        match rank.checked_sub(1) {
            Some(index) => *self.gaps.select_nth_unstable(index).1,
            None => 0,
        }
    }
}

impl Recorder {
    /// Most distinct messages of failed requests that are kept.
    pub(super) const MESSAGES: usize = 8;

    /// A recorder of a window, of a tenant whose throughput counts `unit`.
    #[must_use]
    pub(super) fn new(plan: &WindowPlan, unit: WorkUnit) -> Self {
        Self {
            open: plan.open,
            close: plan.close,
            unit,
            work: Work { unit: Some(unit), ..Work::default() },
            time_to_first_token: Latencies::new(),
            time_per_token: Latencies::new(),
            gaps: Latencies::new(),
            end_to_end: Latencies::new(),
            lag: Latencies::new(),
            unfinished: Latencies::new(),
            samples: Samples::new(plan.open),
            timeline: plan.trace.then(|| Timeline::new(plan.open)),
        }
    }

    fn holds(&self, instant: Nanoseconds) -> bool {
        self.open <= instant && instant < self.close
    }

    /// Counts `units` of work done between two instants, by the fraction of that time inside the window.
    pub(super) fn work(&mut self, begin: Nanoseconds, end: Nanoseconds, units: f64) {
        let (from, to) = (begin.max(self.open), end.min(self.close));
        if from < to {
            self.work.units += units * (to.0 - from.0) as f64 / (end.0 - begin.0) as f64;
        } else if begin == end {
            self.arrived(end, units);
        }
    }

    /// Counts `units` of work that came all at once, whole when that was inside the window: what a server streams, for when
    /// it began on a token is not known.
    pub(super) fn arrived(&mut self, at: Nanoseconds, units: f64) {
        if self.holds(at) {
            self.work.units += units;
        }
    }

    /// A token of `request`, or a step of a kernel without tokens, is done at `at`; `last` says that the request is, too.
    pub(super) fn token(&mut self, request: &mut Request, at: Nanoseconds, last: bool) {
        let inside = self.holds(at);
        if request.first.is_some() {
            let gap = at.0.saturating_sub(request.last.0);
            request.gaps.push(gap);
            if inside && self.unit == WorkUnit::Token {
                self.gaps.record(gap);
            }
        } else {
            request.first = Some(at);
        }
        request.last = at;
        request.tokens += 1;
        if let Some(timeline) = self.timeline.as_mut().filter(|_timeline| inside) {
            timeline.push(at, last);
        }
    }

    /// `request` ended well with its last token. `tokens` is the server's own count where it differs from the pieces seen.
    pub(super) fn complete(&mut self, request: &mut Request, tokens: Option<u64>) {
        let Some(first) = request.first.filter(|_first| self.holds(request.last)) else { return };
        self.work.completed += 1;
        let end_to_end = request.last.0.saturating_sub(request.due.0);
        self.end_to_end.record(end_to_end);
        self.lag.record(request.lag.0);
        let mut row = Row { due: request.due, end_to_end, ..Row::default() };
        if self.unit == WorkUnit::Token {
            row.first = first.0.saturating_sub(request.due.0);
            self.time_to_first_token.record(row.first);
            let tokens = tokens.unwrap_or(request.tokens);
            if tokens > 1 {
                row.per_token = (end_to_end - row.first) / (tokens - 1);
                row.slow_gap = request.slow_gap();
                self.time_per_token.record(row.per_token);
            }
        }
        self.samples.push(&row);
    }

    /// A request ended in an error at `at`.
    pub(super) fn fail(&mut self, at: Nanoseconds, message: &str) {
        if !self.holds(at) {
            return;
        }
        self.work.failed += 1;
        if let Some(count) = self.work.errors.get_mut(message) {
            *count += 1;
        } else if self.work.errors.len() < Self::MESSAGES {
            self.work.errors.insert(message.to_owned(), 1);
        }
    }

    /// An open-loop request that was due at `due` has not ended by the window's close.
    pub(super) fn leave(&mut self, due: Nanoseconds) {
        if due < self.close {
            self.unfinished.record(self.close.0 - due.0);
        }
    }

    /// The record of the window.
    #[must_use]
    pub(super) fn finish(self, tenant: &str) -> Window {
        let metrics = [
            (Metric::Ttft, self.time_to_first_token),
            (Metric::Tpot, self.time_per_token),
            (Metric::Itl, self.gaps),
            (Metric::E2e, self.end_to_end),
            (Metric::Lag, self.lag),
        ];
        let histograms: BTreeMap<_, _> =
            metrics.into_iter().map(|(metric, latencies)| (metric, latencies.histogram())).collect();
        Window {
            tenant: tenant.to_owned(),
            failure: None,
            length: Nanoseconds(self.close.0.saturating_sub(self.open.0)),
            work: self.work,
            histograms: histograms.into_iter().filter(|(_metric, histogram)| !histogram.is_empty()).collect(),
            unfinished: self.unfinished.histogram(),
            requests: self.samples.columns(),
            trace: self.timeline.and_then(Timeline::trace),
            process: None,
        }
    }
}
