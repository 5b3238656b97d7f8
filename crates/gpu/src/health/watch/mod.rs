//! The thread that watches the GPUs: it waits for events, asks each GPU every second, and starts NVML again for lost ones.
//!
//! ```text
//!            ┌──── an event, or none for a while ────┐
//!            ▼                                       │
//!        waiting ── a second has passed ──▶ asking ──┤
//!            ▲                                │ a GPU is lost, or the driver gone
//!            │                                ▼
//!            └── NVML runs again ◀──── starting again: after 5 s, and then ever more rarely, up to every 5 min
//! ```

mod gpus;

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cotenant_model::{Clock, Nanoseconds};
use nvml_wrapper::error::NvmlError;

use self::gpus::{Gpus, Told};
use super::{Happening, InstanceIds, Notice};
use crate::driver::Driver;
use crate::reader::Nvml;

/// How long one wait for events lasts: as long as a stop, or a change of MIG devices, waits for it.
const WAIT: Duration = Duration::from_millis(250);
/// How often each GPU is asked: loss is an event as a rule, and this finds the rest within a second.
const ASK: Nanoseconds = Nanoseconds(1_000_000_000);
/// When NVML is first started again after a loss, and how rarely it ends up being.
const FIRST_RESTART: Nanoseconds = Nanoseconds(5_000_000_000);
const RAREST_RESTART: Nanoseconds = Nanoseconds(300_000_000_000);

/// Why the GPUs cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The thread cannot be started.
    #[error("cannot start the thread that watches the GPUs")]
    Thread(#[source] io::Error),
    /// There is a watch of this library already.
    #[error("the GPUs are watched already")]
    Watched,
}

/// Watches every GPU of the host until it is dropped.
///
/// It registers for XID errors, memory errors and changes of MIG devices where a GPU has them, and tells what it sees as
/// [`Notice`]s, from a thread of its own. A GPU that falls off the bus is told as lost, and as answering once it is back; so are
/// all of them when the driver goes and comes. The driver library's calls are shared with every reader that
/// [`share`](Nvml::share)s it, and wait while NVML is started again.
#[derive(Debug)]
pub struct XidWatch {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl XidWatch {
    /// Starts to watch the GPUs of a reader's library; `tell` is called with each notice and must not block for long.
    ///
    /// # Errors
    /// When the thread cannot be started, or the library is watched already.
    pub fn start(
        reader: &Nvml,
        clock: Arc<dyn Clock>,
        tell: impl FnMut(Notice) + Send + 'static,
    ) -> Result<Self, WatchError> {
        let driver = reader.driver().clone();
        if !driver.begin_watch() {
            return Err(WatchError::Watched);
        }
        let stop = Arc::new(Stop::default());
        let watcher = Watcher {
            gpus: Gpus::new(driver.clone()),
            driver,
            clock,
            tell: Box::new(tell),
            stop: Arc::clone(&stop),
            ask_at: Nanoseconds(0),
            restart: None,
        };
        // The watcher goes with its closure, whether or not there is a thread for it, and leaves the place to another.
        let started = thread::Builder::new().name("gpu-watch".to_owned()).spawn(|| watcher.run());
        Ok(Self { stop, thread: Some(started.map_err(WatchError::Thread)?) })
    }
}

impl Drop for XidWatch {
    fn drop(&mut self) {
        self.stop.request();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches the GPUs has panicked");
        }
    }
}

/// Tells the thread to end.
#[derive(Debug, Default)]
struct Stop {
    requested: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn request(&self) {
        *self.requested.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Whether to end; waits so long for it.
    fn within(&self, time: Duration) -> bool {
        let requested = self.requested.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(requested, time, |requested| !*requested);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// When NVML is started again, and how long after that the next time.
#[derive(Debug, Clone, Copy)]
struct Restart {
    at: Nanoseconds,
    delay: Nanoseconds,
}

struct Watcher {
    driver: Driver,
    gpus: Gpus,
    clock: Arc<dyn Clock>,
    tell: Box<dyn FnMut(Notice) + Send>,
    stop: Arc<Stop>,
    ask_at: Nanoseconds,
    restart: Option<Restart>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.gpus.let_go();
        self.driver.end_watch();
    }
}

impl Watcher {
    fn run(mut self) {
        while !self.stop.within(Duration::ZERO) {
            if self.clock.monotonic() >= self.ask_at {
                self.ask();
            }
            self.start_again_when_due();
            match self.gpus.wait(WAIT) {
                Ok(Some(told)) => self.report(told),
                Ok(None) => {}
                Err(error) => self.failed(&error),
            }
        }
    }

    /// Waiting failed: a GPU or the driver is gone, and asking tells which. Never at once again, for the driver may go on failing.
    fn failed(&mut self, error: &NvmlError) {
        tracing::debug!(%error, "waiting for events of the GPUs failed");
        self.ask();
        self.stop.within(WAIT);
    }

    /// Asks every GPU, and says what each answers.
    fn ask(&mut self) {
        let at = self.clock.monotonic();
        self.ask_at = Nanoseconds(at.0.saturating_add(ASK.0));
        for (gpu, what) in self.gpus.ask() {
            if let Happening::Lost { reason } = &what {
                tracing::warn!(%gpu, reason, "a GPU does not answer any more");
            }
            (self.tell)(Notice { at, gpu, what });
        }
        if !self.gpus.any_lost() {
            self.restart = None;
        } else if self.restart.is_none() {
            self.restart = Some(Restart { at: later(at, FIRST_RESTART), delay: FIRST_RESTART });
        }
    }

    /// Starts NVML again while a GPU is lost: it shows what was there when it was started.
    fn start_again_when_due(&mut self) {
        let now = self.clock.monotonic();
        let Some(Restart { at, delay }) = self.restart.filter(|restart| restart.at <= now) else { return };
        self.start_again();
        self.ask();
        if self.restart.is_some() {
            let delay = Nanoseconds(delay.0.saturating_mul(2).min(RAREST_RESTART.0));
            self.restart = Some(Restart { at: later(at, delay), delay });
        }
    }

    fn start_again(&mut self) {
        self.gpus.let_go();
        let error = self.driver.restart().err().map(|error| error.to_string());
        tracing::info!(error, "a GPU is lost: NVML was started again");
    }

    fn report(&mut self, Told { gpus, event }: Told) {
        let at = self.clock.monotonic();
        let instance =
            event.instance.map(|(gpu_instance, compute_instance)| InstanceIds { gpu_instance, compute_instance });
        let what = match event.kind {
            gpus::XID => Happening::Xid { xid: event.data, instance },
            gpus::SINGLE_BIT => Happening::MemoryError { corrected: true },
            gpus::DOUBLE_BIT => Happening::MemoryError { corrected: false },
            gpus::MIG_CHANGE => Happening::MigChanged,
            kind => return tracing::debug!(kind, "an event that was not asked for"),
        };
        for gpu in gpus {
            (self.tell)(Notice { at, gpu, what: what.clone() });
        }
    }
}

const fn later(at: Nanoseconds, by: Nanoseconds) -> Nanoseconds {
    Nanoseconds(at.0.saturating_add(by.0))
}
