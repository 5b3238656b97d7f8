//! The load generator of a server tenant: sends requests when they are due, as many at once as are due.
//!
//! ```text
//! due ─▶ in flight ─ answered ─▶ recorded; in a closed loop the stream's next request becomes due
//!            ├─ failed ─▶ recorded with its message; a closed loop's stream pauses before its next request
//!            └─ the window closes ─▶ given up; in an open loop its age is recorded
//! ```

use std::time::Duration;

use cotenant_model::kernel::WorkUnit;
use cotenant_model::run::Window;
use cotenant_model::workload::Load;
use cotenant_model::{Clock as _, Nanoseconds};
use tokio::task::JoinSet;

use super::exchange::{Exchange, Outcome, Piece};
use crate::clock::MonotonicClock;
use crate::protocol::WindowPlan;
use crate::tenant::arrivals::Arrivals;
use crate::tenant::recorder::Recorder;
use crate::tenant::stop::Stop;

/// Most requests in flight at once; a request that is due beyond them fails unsent.
const IN_FLIGHT: usize = 4_096;
/// Shortest time between a failed request of a closed loop's stream and its next: a server that refuses at once is not
/// asked in a tight loop.
const PAUSE: Nanoseconds = Nanoseconds(100_000_000);

/// Asks a model server: tells each piece of the answer as it comes, and at the end the server's own count of tokens.
pub(super) trait Ask: Clone + Send + 'static {
    /// Sends one request.
    fn ask(self, told: impl FnMut(Piece) + Send) -> impl Future<Output = Result<Option<u64>, String>> + Send;
}

/// Loads a server from `plan.warm` to `plan.close` and records the window.
pub(super) async fn serve<A: Ask>(
    ask: &A,
    tenant: &str,
    load: Option<&Load>,
    plan: &WindowPlan,
    stop: &Stop,
) -> Window {
    let mut dispatch = Dispatch {
        arrivals: Arrivals::new(load, plan.warm, plan.seed),
        flights: JoinSet::new(),
        recorder: Recorder::new(plan, WorkUnit::Token),
        close: plan.close,
    };
    tokio::select! {
        () = dispatch.run(ask) => {}
        () = stop.told() => {}
    }
    dispatch.recorder.finish(tenant)
}

struct Dispatch {
    arrivals: Arrivals,
    flights: JoinSet<Exchange>,
    recorder: Recorder,
    close: Nanoseconds,
}

impl Dispatch {
    async fn run<A: Ask>(&mut self, ask: &A) {
        loop {
            let now = MonotonicClock.monotonic();
            if now >= self.close {
                break;
            }
            self.send_due(ask, now);
            let next = self.arrivals.peek().map_or(self.close, |due| due.min(self.close));
            tokio::select! {
                () = sleep_until(next) => {}
                Some(ended) = self.flights.join_next(), if !self.flights.is_empty() => self.land(ended),
            }
        }
        // Each flight ends by itself at the close.
        while let Some(ended) = self.flights.join_next().await {
            self.land(ended);
        }
        if self.arrivals.is_open() {
            while let Some(due) = self.arrivals.take().filter(|due| *due < self.close) {
                self.recorder.leave(due);
            }
        }
    }

    /// Sends every request that is due by `now`.
    fn send_due<A: Ask>(&mut self, ask: &A, now: Nanoseconds) {
        while let Some(due) = self.arrivals.peek().filter(|due| *due <= now && *due < self.close) {
            self.arrivals.take();
            if self.flights.len() < IN_FLIGHT {
                self.flights.spawn(fly(ask.clone(), due, self.close));
            } else {
                self.recorder.fail(now, &format!("not sent: {IN_FLIGHT} requests were in flight"));
            }
        }
    }

    fn land(&mut self, ended: Result<Exchange, tokio::task::JoinError>) {
        let exchange = match ended {
            Ok(exchange) => exchange,
            // A bug of this program; it takes the tenant with it instead of a stream.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => return,
        };
        exchange.record(&mut self.recorder, self.arrivals.is_open());
        let pause = match exchange.outcome {
            Outcome::Failed { .. } => PAUSE,
            Outcome::Complete { .. } if exchange.pieces.is_empty() => PAUSE,
            Outcome::Complete { .. } | Outcome::Cut => Nanoseconds(0),
        };
        self.arrivals.answered(exchange.end, pause);
    }
}

/// One request, given up at `close`.
async fn fly<A: Ask>(ask: A, due: Nanoseconds, close: Nanoseconds) -> Exchange {
    let sent = MonotonicClock.monotonic();
    let mut pieces = Vec::new();
    let outcome = {
        let answer = ask.ask(|piece| pieces.push(piece));
        tokio::select! {
            answer = answer => match answer {
                Ok(tokens) => Outcome::Complete { tokens },
                Err(message) => Outcome::Failed { message },
            },
            () = sleep_until(close) => Outcome::Cut,
        }
    };
    Exchange { due, sent, pieces, outcome, end: MonotonicClock.monotonic() }
}

async fn sleep_until(instant: Nanoseconds) {
    let left = instant.0.saturating_sub(MonotonicClock.monotonic().0);
    tokio::time::sleep(Duration::from_nanos(left)).await;
}
