//! Deadlines on the monotonic clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long a wait sleeps between two looks at the world.
const LOOK: Duration = Duration::from_millis(10);

/// A moment that a wait must not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(Duration);

/// The monotonic clock since its arbitrary start.
fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

impl Deadline {
    /// The moment `span` from now.
    pub(crate) fn after(span: Duration) -> Self {
        Self(now().saturating_add(span))
    }

    /// Time left; `None` once it has passed.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.0.checked_sub(now()).filter(|left| !left.is_zero())
    }

    /// Whether it has passed.
    pub(crate) fn passed(self) -> bool {
        self.remaining().is_none()
    }

    /// Waits until `done` or the deadline; says whether it was done.
    pub(crate) fn wait(self, mut done: impl FnMut() -> bool) -> bool {
        loop {
            if done() {
                return true;
            }
            let Some(left) = self.remaining() else { return false };
            std::thread::sleep(left.min(LOOK));
        }
    }
}
