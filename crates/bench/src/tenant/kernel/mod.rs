//! The loop of a kernel tenant: one slot, first come first served.
//!
//! A request is a number of steps. It waits until the slot is free, like a request of a server with one slot, and its
//! latency counts from when it was due, so that a stall is felt by every request behind it. While none is due the slot
//! sleeps and takes no processor.
//!
//! ```text
//! asleep ─ due ─▶ step ─▶ step ─ … ─▶ last step ─▶ asleep, or the next step where a request waits
//!                  └─ the window closes or the order to stop comes ─▶ the request is left unfinished
//! ```

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of a few small numbers are exact")]
mod tests;

use cotenant_model::kernel::WorkUnit;
use cotenant_model::run::Window;
use cotenant_model::workload::Load;
use cotenant_model::{Clock, Kernel, Nanoseconds};

use super::arrivals::Arrivals;
use super::recorder::{Recorder, Request};
use super::stop::Stop;
use crate::protocol::WindowPlan;

/// Work that is done step by step: a token, a product, a burst, a copy.
pub(super) trait Steps {
    /// Why a step failed.
    type Error;

    /// Does one step and waits until it is done.
    ///
    /// # Errors
    /// When the work cannot go on.
    fn step(&mut self) -> Result<(), Self::Error>;
}

/// What a kernel tenant serves.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Service {
    /// The tenant's name.
    pub tenant: String,
    /// Steps of one request.
    pub steps: u32,
    /// Units of throughput that one step completes.
    pub units: f64,
    /// The unit.
    pub unit: WorkUnit,
    /// How requests arrive; `None` for a kernel that serves none.
    pub load: Option<Load>,
}

/// What the loop needs of its process.
#[derive(Clone, Copy)]
pub(super) struct Host<'a> {
    /// The clock of the host.
    pub clock: &'a dyn Clock,
    /// The order to stop.
    pub stop: &'a Stop,
}

impl std::fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("stop", self.stop).finish_non_exhaustive()
    }
}

impl Service {
    /// What `tenant` serves with `kernel` under `load`.
    #[must_use]
    pub(super) fn new(tenant: &str, kernel: &Kernel, load: Option<&Load>) -> Self {
        let steps = kernel.steps_per_request();
        Self {
            tenant: tenant.to_owned(),
            steps,
            units: f64::from(kernel.units_per_step()),
            unit: kernel.unit(),
            load: load.filter(|_load| steps > 0).cloned(),
        }
    }
}

/// Serves from `plan.warm` to `plan.close` and returns the record of the window; a record cut short when the order to stop
/// comes.
///
/// # Errors
/// The first error of a step; nothing of the window is kept then.
pub(super) fn serve<S: Steps>(
    steps: &mut S,
    service: &Service,
    plan: &WindowPlan,
    host: Host<'_>,
) -> Result<Window, S::Error> {
    let arrivals = Arrivals::new(service.load.as_ref(), plan.warm, plan.seed);
    let recorder = Recorder::new(plan, service.unit);
    let request = Request::with_room(service.steps);
    let mut slot = Slot { steps, service, close: plan.close, host, recorder, request };
    let unfinished = slot.serve_all(arrivals)?;
    let mut recorder = slot.recorder;
    unfinished.into_iter().for_each(|due| recorder.leave(due));
    host.stop.sleep_until(host.clock, plan.close);
    Ok(recorder.finish(&service.tenant))
}

struct Slot<'a, S> {
    steps: &'a mut S,
    service: &'a Service,
    close: Nanoseconds,
    host: Host<'a>,
    recorder: Recorder,
    request: Request,
}

impl<S: Steps> Slot<'_, S> {
    /// Serves every request until the window closes; the due times of open-loop requests that did not end by then.
    fn serve_all(&mut self, mut arrivals: Arrivals) -> Result<Vec<Nanoseconds>, S::Error> {
        let mut unfinished = Vec::new();
        let mut free = Nanoseconds(0);
        while let Some(due) = arrivals.peek().filter(|due| *due < self.close) {
            if !self.host.stop.sleep_until(self.host.clock, due) {
                return Ok(unfinished);
            }
            let begin = self.host.clock.monotonic();
            if begin >= self.close {
                break;
            }
            arrivals.take();
            self.request.begin(due, Nanoseconds(begin.0.saturating_sub(due.max(free).0)));
            let Some(end) = self.serve(begin)? else {
                unfinished.push(due);
                break;
            };
            arrivals.answered(end, Nanoseconds(0));
            free = end;
        }
        if !arrivals.is_open() {
            return Ok(Vec::new());
        }
        unfinished.extend(std::iter::from_fn(|| arrivals.take()).take_while(|due| *due < self.close));
        Ok(unfinished)
    }

    /// Serves one request; when it ended, or `None` when the window closed or the order to stop came before that.
    fn serve(&mut self, begin: Nanoseconds) -> Result<Option<Nanoseconds>, S::Error> {
        let mut from = begin;
        for left in (0..self.service.steps).rev() {
            self.steps.step()?;
            let end = self.host.clock.monotonic();
            self.recorder.work(from, end, self.service.units);
            self.recorder.token(&mut self.request, end, left == 0);
            if end >= self.close || self.host.stop.is_set() {
                return Ok(None);
            }
            from = end;
        }
        self.recorder.complete(&mut self.request, None);
        Ok(Some(from))
    }
}
