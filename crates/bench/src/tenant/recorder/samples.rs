//! Single requests, thinned out as they grow many.

use cotenant_model::Nanoseconds;
use cotenant_model::run::RequestSamples;

/// One request that ended well; spans in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) due: Nanoseconds,
    pub(super) first: u64,
    pub(super) per_token: u64,
    pub(super) end_to_end: u64,
    pub(super) slow_gap: u64,
}

/// Every `stride`-th request; the stride doubles whenever there would be more than [`Samples::ROWS`].
#[derive(Debug)]
pub(super) struct Samples {
    open: Nanoseconds,
    seen: u64,
    columns: RequestSamples,
}

impl Samples {
    /// Most requests that are kept.
    pub(super) const ROWS: usize = 20_000;

    pub(super) fn new(open: Nanoseconds) -> Self {
        let columns = RequestSamples {
            stride: 1,
            start: Vec::with_capacity(Self::ROWS),
            ttft: Vec::with_capacity(Self::ROWS),
            tpot: Vec::with_capacity(Self::ROWS),
            e2e: Vec::with_capacity(Self::ROWS),
            itl: Vec::with_capacity(Self::ROWS),
        };
        Self { open, seen: 0, columns }
    }

    pub(super) fn push(&mut self, row: &Row) {
        let kept = self.seen.is_multiple_of(self.columns.stride);
        self.seen += 1;
        if !kept {
            return;
        }
        if self.columns.start.len() == Self::ROWS {
            self.thin();
            // With an even number of rows, the one at hand has an even place among those left.
        }
        self.columns.start.push(microseconds_between(self.open, row.due));
        self.columns.ttft.push(row.first / 1_000);
        self.columns.tpot.push(row.per_token / 1_000);
        self.columns.e2e.push(row.end_to_end / 1_000);
        self.columns.itl.push(row.slow_gap / 1_000);
    }

    /// Drops every second row.
    fn thin(&mut self) {
        let columns = &mut self.columns;
        columns.stride *= 2;
        halve(&mut columns.start);
        halve(&mut columns.ttft);
        halve(&mut columns.tpot);
        halve(&mut columns.e2e);
        halve(&mut columns.itl);
    }

    pub(super) fn columns(self) -> RequestSamples {
        self.columns
    }
}

fn halve<T>(column: &mut Vec<T>) {
    let mut index = 0;
    column.retain(|_row| {
        index += 1;
        index % 2 == 1
    });
}

/// From `open` to `instant`, negative when `instant` was before.
fn microseconds_between(open: Nanoseconds, instant: Nanoseconds) -> i64 {
    let distance = i64::try_from(open.0.abs_diff(instant.0) / 1_000).unwrap_or(i64::MAX);
    if instant < open { -distance } else { distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_requests_than_rows_are_thinned_out_evenly() {
        let mut samples = Samples::new(Nanoseconds(0));
        for number in 0..70_000 {
            samples.push(&Row { due: Nanoseconds(number * 1_000), ..Row::default() });
        }
        let columns = samples.columns();
        assert_eq!(columns.stride, 4);
        assert_eq!(columns.start.len(), 17_500);
        assert!((0..).step_by(4).zip(&columns.start).all(|(expected, start)| expected == *start));
        for column in [&columns.ttft, &columns.tpot, &columns.e2e, &columns.itl] {
            assert_eq!(column.len(), columns.start.len());
        }
    }

    #[test]
    fn a_request_of_before_the_window_has_a_negative_start() {
        let mut samples = Samples::new(Nanoseconds(5_000_000));
        samples.push(&Row { due: Nanoseconds(2_000_000), ..Row::default() });
        assert_eq!(samples.columns().start, [-3_000]);
    }
}
