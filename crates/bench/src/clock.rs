//! The host's monotonic clock.

use std::time::Duration;

use cotenant_model::{Clock, Nanoseconds};
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC`: every process of the host reads the same time from it.
///
/// [`Clock::sleep_until`] wakes within about 50 µs of the instant on a host with a free processor: it sleeps to
/// [`MonotonicClock::SPIN`] before it and spins the rest, because the kernel may wake a sleeper late by its timer slack of
/// 50 µs.
#[derive(Debug, Clone, Copy, Default)]
pub struct MonotonicClock;

impl MonotonicClock {
    /// What is left to spinning at the end of a sleep.
    pub const SPIN: Nanoseconds = Nanoseconds(100_000);
}

impl Clock for MonotonicClock {
    fn monotonic(&self) -> Nanoseconds {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
        Nanoseconds(seconds * 1_000_000_000 + nanoseconds)
    }

    fn sleep_until(&self, instant: Nanoseconds) {
        loop {
            let left = instant.0.saturating_sub(self.monotonic().0);
            if left == 0 {
                return;
            }
            if left > Self::SPIN.0 {
                std::thread::sleep(Duration::from_nanos(left - Self::SPIN.0));
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_never_ends_early() {
        let clock = MonotonicClock;
        for wait in [0, 1_000, 300_000, 5_000_000] {
            let instant = Nanoseconds(clock.monotonic().0 + wait);
            clock.sleep_until(instant);
            assert!(clock.monotonic() >= instant);
        }
    }

    #[test]
    fn an_instant_of_the_past_is_not_waited_for() {
        MonotonicClock.sleep_until(Nanoseconds(1));
    }
}
