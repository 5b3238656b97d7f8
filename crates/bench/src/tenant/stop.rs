//! The order to stop, told once and seen by whatever runs.

use std::sync::atomic::{AtomicBool, Ordering};

use cotenant_model::{Clock, Nanoseconds};
use tokio::sync::Notify;

/// Whether the tenant is to stop; it never becomes unset.
#[derive(Debug, Default)]
pub(super) struct Stop {
    set: AtomicBool,
    told: Notify,
}

impl Stop {
    /// Longest time before a sleeper sees the order.
    const NAP: Nanoseconds = Nanoseconds(50_000_000);

    /// Tells it.
    pub(super) fn set(&self) {
        self.set.store(true, Ordering::Release);
        self.told.notify_one();
    }

    /// Whether it was told; cheap enough for every step of a kernel.
    #[must_use]
    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }

    /// Waits until it is told; for one waiter at a time.
    pub(super) async fn told(&self) {
        while !self.is_set() {
            self.told.notified().await;
        }
    }

    /// Sleeps until the clock has reached `instant` or the order comes; `false` when the order came.
    pub(super) fn sleep_until(&self, clock: &dyn Clock, instant: Nanoseconds) -> bool {
        loop {
            if self.is_set() {
                return false;
            }
            let now = clock.monotonic();
            if now >= instant {
                return true;
            }
            clock.sleep_until(instant.min(Nanoseconds(now.0.saturating_add(Self::NAP.0))));
        }
    }
}
