//! Waiting with a limit: nothing here waits for ever.

use std::time::{Duration, Instant};

/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// A moment that must not pass.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    end: Instant,
    limit: Duration,
}

impl Deadline {
    /// The moment `limit` from now.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self { end: now() + limit, limit }
    }

    /// Whether it has passed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        now() >= self.end
    }

    /// How much is left of it.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(now())
    }

    /// How long it has been waited for.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.limit.saturating_sub(self.left())
    }
}

/// Looks until `look` succeeds; an error of it means "not yet".
///
/// # Errors
/// When it does not succeed within `limit`: with `what` and the error of the last look.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let deadline = Deadline::after(limit);
    loop {
        match look() {
            Ok(seen) => return Ok(seen),
            Err(error) if deadline.is_over() => {
                return Err(error.context(format!("{what}: not within {:.0} s", limit.as_secs_f64())));
            }
            Err(_not_yet) => std::thread::sleep(LOOK.min(deadline.left())),
        }
    }
}

/// The time of a look; runs of the program are not measured by it.
#[expect(clippy::disallowed_methods, reason = "limits of waiting, in processes that measure no GPU")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_success_or_with_the_last_reason() {
        let mut looks = 0;
        let seen = until("three looks", Duration::from_secs(10), || {
            looks += 1;
            anyhow::ensure!(looks == 3, "look {looks}");
            Ok(looks)
        });
        assert_eq!(seen.unwrap(), 3);
        let failed = until("a miracle", Duration::from_millis(1), || -> anyhow::Result<()> { anyhow::bail!("no") });
        assert_eq!(format!("{:#}", failed.unwrap_err()), "a miracle: not within 0 s: no");
    }
}
