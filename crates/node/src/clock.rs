//! The host's clocks.

use std::time::Duration;

use cotenant_model::{Clock, Nanoseconds};
use rustix::time::{ClockId, clock_gettime};

use crate::agent::state::event::Moment;

/// `CLOCK_MONOTONIC`, for what is minutes and seconds: a sleep may end some 50 µs late.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HostClock;

impl Clock for HostClock {
    fn monotonic(&self) -> Nanoseconds {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Nanoseconds(seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn sleep_until(&self, instant: Nanoseconds) {
        std::thread::sleep(Duration::from_nanos(instant.0.saturating_sub(self.monotonic().0)));
    }
}

/// Now, on both clocks.
pub(crate) fn now() -> Moment {
    let unix = u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or(0);
    Moment { monotonic: HostClock.monotonic(), unix }
}
