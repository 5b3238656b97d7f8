//! A thread that reads one GPU at an interval, off the hot path of what is measured.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use cotenant_model::cause::chain;
use cotenant_model::gpu::GpuProcess;
use cotenant_model::{Clock, GpuReader, GpuUuid, Nanoseconds};

use crate::history::{History, Observation};

/// Why there is no observation.
#[derive(Debug, thiserror::Error)]
pub enum SamplerError {
    /// The operating system refused the thread.
    #[error("cannot start the thread that samples the GPU {gpu}")]
    Thread {
        /// The GPU.
        gpu: GpuUuid,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A window that ends before it starts, or is empty.
    #[error("a window from {} ns to {} ns is empty", start.0, end.0)]
    EmptyWindow {
        /// Its start.
        start: Nanoseconds,
        /// Its end.
        end: Nanoseconds,
    },
    /// The sampler was dropped before the window's end.
    #[error("the sampler ended before the window did")]
    Ended,
}

/// Samples one GPU in the background until it is dropped.
#[derive(Debug)]
pub struct Sampler {
    windows: Option<Sender<Window>>,
    ended: Receiver<()>,
}

/// A window that was announced; [`Watch::finish`] waits for its end.
#[derive(Debug)]
pub struct Watch {
    answer: Receiver<Observation>,
}

#[derive(Debug)]
struct Window {
    start: Nanoseconds,
    end: Nanoseconds,
    /// Read in the middle of the window; `None` before.
    processes: Option<Vec<GpuProcess>>,
    answer: Sender<Observation>,
}

/// How long a drop waits for the driver to answer a call that is under way.
const PATIENCE: Duration = Duration::from_secs(1);

impl Sampler {
    /// Starts sampling a GPU at once. `clock` must be the one that windows are given in.
    ///
    /// An interval of 250 ms disturbs no measurement; below it monitors have been seen to slow the GPU's own work.
    ///
    /// # Errors
    /// When the operating system refuses the thread. A GPU that cannot be read is reported with each window instead.
    pub fn start<R: GpuReader + 'static>(
        reader: R,
        gpu: GpuUuid,
        clock: Arc<dyn Clock>,
        interval: Nanoseconds,
    ) -> Result<Self, SamplerError> {
        let (windows, announced) = mpsc::channel();
        let (ending, ended) = mpsc::channel();
        let worker = Worker {
            reader,
            gpu: gpu.clone(),
            clock,
            interval,
            history: History::new(interval),
            last: None,
            announced,
            windows: Vec::new(),
        };
        let spawned = std::thread::Builder::new().name("gpu-sampler".to_owned()).spawn(move || {
            let _ending: Sender<()> = ending;
            worker.run();
        });
        spawned
            .map(|_detached| Self { windows: Some(windows), ended })
            .map_err(|source| SamplerError::Thread { gpu, source })
    }

    /// Announces a window of the monotonic clock. Announced before it starts, it gets readings right at its start, middle and
    /// end, and its processes read in the middle; a window that is over gets what was read anyway, and no processes.
    ///
    /// # Errors
    /// When the window is empty or the thread is gone.
    pub fn watch(&self, start: Nanoseconds, end: Nanoseconds) -> Result<Watch, SamplerError> {
        if start >= end {
            return Err(SamplerError::EmptyWindow { start, end });
        }
        let (sender, answer) = mpsc::channel();
        let window = Window { start, end, processes: None, answer: sender };
        let windows = self.windows.as_ref().ok_or(SamplerError::Ended)?;
        windows.send(window).map_err(|_window| SamplerError::Ended)?;
        Ok(Watch { answer })
    }
}

impl Drop for Sampler {
    /// Ends the thread. One that hangs in the driver is left behind after a second.
    fn drop(&mut self) {
        self.windows = None;
        if self.ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the driver does not answer; its sampling thread is left behind");
        }
    }
}

impl Watch {
    /// Waits for the window's end and tells what the GPU did.
    ///
    /// # Errors
    /// When the sampler was dropped before the window's end.
    pub fn finish(self) -> Result<Observation, SamplerError> {
        self.answer.recv().map_err(|_gone| SamplerError::Ended)
    }
}

/// What the thread owns.
struct Worker<R> {
    reader: R,
    gpu: GpuUuid,
    clock: Arc<dyn Clock>,
    interval: Nanoseconds,
    history: History,
    /// When a reading was last tried.
    last: Option<Nanoseconds>,
    announced: Receiver<Window>,
    windows: Vec<Window>,
}

impl<R: GpuReader> Worker<R> {
    fn run(mut self) {
        loop {
            let (now, due) = (self.clock.monotonic(), self.due());
            if now >= due {
                self.read(now);
            }
            self.answer();
            let wait = self.due().0.saturating_sub(self.clock.monotonic().0);
            match self.announced.recv_timeout(Duration::from_nanos(wait)) {
                Ok(window) => self.windows.push(window),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn due(&self) -> Nanoseconds {
        let edges = self.windows.iter().flat_map(|window| [window.start, window.middle(), window.end]);
        self.last.map_or(Nanoseconds(0), |last| next_reading(last, self.interval, edges))
    }

    /// One reading, and the processes of windows whose middle has come.
    fn read(&mut self, now: Nanoseconds) {
        self.last = Some(now);
        match self.reader.sample(&self.gpu) {
            Ok(sample) => self.history.push(now, sample),
            Err(error) => self.history.fail(now, chain(&error, ": ")),
        }
        let halfway =
            |window: &&mut Window| window.processes.is_none() && (window.middle()..=window.end).contains(&now);
        let mut waiting: Vec<_> = self.windows.iter_mut().filter(halfway).collect();
        if waiting.is_empty() {
            return;
        }
        let processes = self.reader.processes(&self.gpu).unwrap_or_else(|error| {
            self.history.fail(now, chain(&error, ": "));
            Vec::new()
        });
        for window in &mut waiting {
            window.processes = Some(processes.clone());
        }
    }

    /// Answers windows that are over and whose end has been read.
    fn answer(&mut self) {
        let Some(last) = self.last else { return };
        for window in self.windows.extract_if(.., |window| window.end <= last) {
            let processes = window.processes.unwrap_or_default();
            // Nobody listens when the watch was given up.
            drop(window.answer.send(self.history.observe(window.start, window.end, processes)));
        }
    }
}

impl Window {
    const fn middle(&self) -> Nanoseconds {
        Nanoseconds(self.start.0 + (self.end.0 - self.start.0) / 2)
    }
}

/// When to read after `last`: an interval later, or at the next edge of a window. A regular reading within half an interval
/// before an edge is left to the edge, since figures that are differences between readings get worse as those get closer.
fn next_reading(last: Nanoseconds, interval: Nanoseconds, edges: impl Iterator<Item = Nanoseconds>) -> Nanoseconds {
    let regular = Nanoseconds(last.0 + interval.0);
    let edge = edges.filter(|edge| *edge > last).min();
    edge.filter(|edge| edge.0 < regular.0 + interval.0 / 2).unwrap_or(regular)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(last: u64, edges: &[u64]) -> u64 {
        next_reading(Nanoseconds(last), Nanoseconds(100), edges.iter().copied().map(Nanoseconds)).0
    }

    #[test]
    fn a_reading_is_due_at_the_interval_or_at_an_edge_nearby() {
        assert_eq!(next(1_000, &[]), 1_100);
        assert_eq!(next(1_000, &[1_030]), 1_030, "an edge comes first");
        assert_eq!(next(1_000, &[1_149]), 1_149, "the regular reading is left to an edge soon after");
        assert_eq!(next(1_000, &[1_150, 1_400]), 1_100, "an edge further away waits");
        assert_eq!(next(1_000, &[1_000, 900]), 1_100, "edges that were read are over");
    }
}
