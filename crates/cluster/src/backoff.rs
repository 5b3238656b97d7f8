//! How long to wait before asking again.

use std::time::Duration;

use rand::RngExt as _;

/// The first pause.
const SHORTEST: Duration = Duration::from_millis(500);
/// The longest pause: a node must notice within seconds that the API server is back, and a thousand nodes that ask every
/// ten seconds do not keep it down.
const LONGEST: Duration = Duration::from_secs(10);

/// Pauses that double from half a second to ten, each cut at random to between half and all of it, so that the nodes of
/// a cluster do not ask in step. It never ends.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// Back to the shortest pause.
    pub fn reset(&mut self) {
        self.next = SHORTEST;
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(LONGEST);
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: SHORTEST }
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.pause())
    }
}

impl kube::runtime::utils::Backoff for Backoff {
    fn reset(&mut self) {
        Self::reset(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_ten_seconds_and_start_over() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = backoff.by_ref().take(8).collect();
        assert!((SHORTEST / 2..=SHORTEST).contains(&pauses[0]), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= LONGEST), "{pauses:?}");
        assert!(pauses[6] >= LONGEST / 2, "{pauses:?}");
        backoff.reset();
        assert!(backoff.pause() <= SHORTEST);
    }
}
