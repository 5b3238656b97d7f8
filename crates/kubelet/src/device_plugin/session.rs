//! Where a plugin stands with the kubelet: a state machine that touches nothing.
//!
//! ```text
//!            kubelet.sock is there                 accepted             ListAndWatch opened
//!   Out ────────────────────────────▶ Asking ───────────────▶ Accepted ─────────────────────▶ Watched
//!    ▲                                  │ refused, silent        │ not opened in time             │ closed
//!    └────────── after a delay ─────────┴────────────────────────┴────────────────────────────────┘
//!                  at once when kubelet.sock is another, or another plugin for the resource has ended
//! ```
//!
//! A kubelet that still watches is not asked again before its stream has been ended: it ends the *newer* of two sessions of
//! a resource when the older one closes.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::socket::Identity;

/// How long an accepted plugin waits to be watched.
const TO_WATCH: Duration = Duration::from_secs(10);
/// First delay after a failure; it doubles.
const SHORTEST: Duration = Duration::from_millis(50);
/// Longest delay.
const LONGEST: Duration = Duration::from_secs(15);

/// The open `ListAndWatch` streams, by number in the order they opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Streams {
    /// How many were ever opened: the number of the next.
    pub(super) opened: u64,
    /// Those that are open.
    pub(super) open: BTreeSet<u64>,
}

/// What the world looks like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) now: Instant,
    /// The kubelet's socket.
    pub(super) kubelet: Option<Identity>,
    /// Whether another plugin for the same resource is there.
    pub(super) peer: bool,
    pub(super) streams: &'a Streams,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not registered; may ask from then on.
    Out { from: Instant },
    /// The kubelet has been asked.
    Asking { kubelet: Identity, since: u64 },
    /// It has agreed, and should open a stream.
    Accepted { kubelet: Identity, since: u64, until: Instant },
    /// It has opened this stream.
    Watched { kubelet: Identity, stream: u64, opened: Instant },
}

/// Where a plugin stands with the kubelet.
#[derive(Debug)]
pub(super) struct Session {
    state: State,
    delay: Duration,
    /// The kubelet's socket when last seen.
    kubelet: Option<Identity>,
    /// Whether another plugin was there when last looked.
    peer: bool,
    /// What went wrong last.
    trouble: Option<String>,
    registrations: u64,
}

impl Session {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Out { from: now },
            delay: SHORTEST,
            kubelet: None,
            peer: false,
            trouble: None,
            registrations: 0,
        }
    }

    /// Takes in what is seen. Answers whether the kubelet is to be asked now.
    pub(super) fn step(&mut self, seen: Seen<'_>) -> bool {
        if seen.kubelet != self.kubelet {
            self.kubelet = seen.kubelet;
            self.delay = SHORTEST;
            if let State::Out { from } = &mut self.state {
                *from = seen.now;
            }
        }
        self.follow_kubelet(seen);
        self.follow_peer(seen);
        self.follow_streams(seen);
        match (self.state, seen.kubelet) {
            (State::Out { from }, Some(kubelet)) if seen.now >= from => {
                self.state = State::Asking { kubelet, since: seen.streams.opened };
                true
            }
            _ => false,
        }
    }

    /// A new socket is a new kubelet, which knows nobody. A socket that is merely gone says nothing of a kubelet that watches.
    fn follow_kubelet(&mut self, seen: Seen<'_>) {
        let known = match self.state {
            State::Accepted { kubelet, .. } | State::Watched { kubelet, .. } => Some(kubelet),
            State::Out { .. } | State::Asking { .. } => None,
        };
        if known.is_some() && seen.kubelet.is_some() && known != seen.kubelet {
            self.leave(seen.now, Duration::ZERO, "the kubelet was restarted");
        }
    }

    /// A kubelet asks the plugin that registered last. When that one goes, it asks nobody, although it still watches the other.
    fn follow_peer(&mut self, seen: Seen<'_>) {
        let has_gone = self.peer && !seen.peer;
        self.peer = seen.peer;
        if has_gone && self.watched().is_some() {
            self.leave(seen.now, Duration::ZERO, "another plugin for the resource has ended");
        }
    }

    fn follow_streams(&mut self, seen: Seen<'_>) {
        match self.state {
            State::Accepted { kubelet, since, until } => {
                if let Some(&stream) = seen.streams.open.range(since..).next() {
                    self.registrations += 1;
                    self.trouble = None;
                    self.state = State::Watched { kubelet, stream, opened: seen.now };
                } else if seen.now >= until {
                    let delay = self.next_delay();
                    self.leave(seen.now, delay, "the kubelet agreed and then did not ask for the devices");
                }
            }
            State::Watched { stream, opened, .. } if !seen.streams.open.contains(&stream) => {
                // A session that held is no reason for caution.
                if seen.now - opened >= TO_WATCH {
                    self.delay = SHORTEST;
                }
                let delay = self.next_delay();
                self.leave(seen.now, delay, "the kubelet ended the session");
            }
            State::Out { .. } | State::Asking { .. } | State::Watched { .. } => {}
        }
    }

    /// Takes in the kubelet's answer, `None` when it agreed.
    pub(super) fn answered(&mut self, now: Instant, trouble: Option<&str>) {
        let State::Asking { kubelet, since } = self.state else { return };
        match trouble {
            None => self.state = State::Accepted { kubelet, since, until: now + TO_WATCH },
            Some(trouble) => {
                let delay = self.next_delay();
                self.leave(now, delay, trouble);
            }
        }
    }

    fn leave(&mut self, now: Instant, delay: Duration, trouble: &str) {
        self.trouble = Some(trouble.to_owned());
        self.state = State::Out { from: now + delay };
    }

    fn next_delay(&mut self) -> Duration {
        let delay = self.delay;
        self.delay = (delay * 2).min(LONGEST);
        delay
    }

    /// When `step` has something to do although nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Out { from } => self.kubelet.is_some().then_some(from),
            State::Accepted { until, .. } => Some(until),
            State::Asking { .. } | State::Watched { .. } => None,
        }
    }

    /// How often the kubelet has registered the plugin, when it watches it now.
    pub(super) fn watched(&self) -> Option<u64> {
        matches!(self.state, State::Watched { .. }).then_some(self.registrations)
    }

    /// What went wrong last, while the kubelet does not watch.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

#[cfg(test)]
#[path = "session/tests.rs"]
mod tests;
