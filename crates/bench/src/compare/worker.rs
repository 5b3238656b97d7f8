//! A tenant's process seen from the comparison: spawned, spoken to, stopped, never left behind.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command as Program, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cotenant_model::{Clock, Nanoseconds};
use cotenant_mps::{Identity, Registry, end_process_group};

use crate::protocol::{Command, Event, Ready, TenantPlan};

/// Lines of a tenant's standard error that are kept.
const LAST_WORDS: usize = 12;
/// How often a wait looks whether the comparison was interrupted.
const POLL: Duration = Duration::from_millis(20);
/// How long a stopped tenant may take to leave before it is killed.
const LEAVE: Duration = Duration::from_secs(10);
/// How long a tenant that is ended has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// Why a tenant did not do what it was told; whoever shows it names the tenant.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkerError {
    /// The process could not be started.
    #[error("its process could not be started")]
    Spawn(#[source] std::io::Error),
    /// It failed: its own account, or its exit status and the end of its standard error.
    #[error("{0}")]
    Failed(String),
    /// It did not answer in time and was killed.
    #[error("it did not answer within {0}")]
    Silent(Nanoseconds),
    /// The comparison was interrupted while waiting.
    #[error("interrupted")]
    Interrupted,
}

/// A running tenant process.
#[derive(Debug)]
pub(super) struct Worker {
    tenant: String,
    child: Child,
    input: Option<ChildStdin>,
    events: Receiver<Event>,
    last_words: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
    registry: Registry,
    record: Option<Identity>,
}

/// Waits that end when the comparison is interrupted.
#[derive(Clone, Copy)]
pub(super) struct Patience<'a> {
    /// The clock.
    pub(super) clock: &'a dyn Clock,
    /// Whether the comparison was interrupted.
    pub(super) interrupted: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patience").finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts a tenant's process: `program` (this one) as `cotenant tenant`, with `environment` over its own. The register
    /// lets a later run end it, should this one be killed.
    ///
    /// # Errors
    /// When the process cannot be started or is gone before it has read its plan.
    #[expect(clippy::disallowed_methods, reason = "the process is reaped by this type")]
    pub(super) fn spawn(
        program: &Path,
        registry: &Registry,
        plan: &TenantPlan,
        environment: &[(String, String)],
    ) -> Result<Self, WorkerError> {
        let tenant = plan.tenant.name.clone();
        let mut program = Program::new(program);
        program.arg("tenant");
        for inherited in cotenant_mps::MPS_VARIABLES {
            program.env_remove(inherited);
        }
        program.envs(environment.iter().map(|(name, value)| (name, value))).envs([registry.mark()]).process_group(0);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = program.spawn().map_err(WorkerError::Spawn)?;
        let record = match registry.record(child.id(), &format!("tenant {tenant}")) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(%error, "a crash of this run would leave tenant `{tenant}` behind");
                None
            }
        };
        let (sender, events) = channel();
        let last_words = Arc::new(Mutex::new(VecDeque::new()));
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|output| read_events(output, sender)));
        readers.extend(child.stderr.take().map(|errors| keep_last_words(errors, Arc::clone(&last_words))));
        let input = child.stdin.take();
        let mut worker = Self { tenant, child, input, events, last_words, readers, registry: registry.clone(), record };
        worker.write(plan)?;
        Ok(worker)
    }

    /// The process id.
    #[must_use]
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the tenant is ready.
    ///
    /// # Errors
    /// When it fails, stays silent for `limit`, or the comparison is interrupted.
    pub(super) fn wait_ready(&mut self, limit: Nanoseconds, patience: Patience<'_>) -> Result<Ready, WorkerError> {
        match self.next_event(patience.clock.monotonic().0 + limit.0, limit, patience)? {
            Event::Ready(ready) => Ok(ready),
            other @ (Event::Measured(_) | Event::Failed { .. }) => Err(Self::failure(other)),
        }
    }

    /// Sends an order.
    ///
    /// # Errors
    /// When the process no longer reads; then with its last words.
    pub(super) fn order(&mut self, command: &Command) -> Result<(), WorkerError> {
        self.write(command)
    }

    /// Waits for the window that was ordered, until `deadline` on the monotonic clock.
    ///
    /// # Errors
    /// As [`Worker::wait_ready`].
    pub(super) fn wait_measured(
        &mut self,
        deadline: Nanoseconds,
        patience: Patience<'_>,
    ) -> Result<cotenant_model::run::Window, WorkerError> {
        let limit = Nanoseconds(deadline.0.saturating_sub(patience.clock.monotonic().0));
        match self.next_event(deadline.0, limit, patience)? {
            Event::Measured(window) => Ok(*window),
            other @ (Event::Ready(_) | Event::Failed { .. }) => Err(Self::failure(other)),
        }
    }

    fn next_event(&mut self, deadline: u64, limit: Nanoseconds, patience: Patience<'_>) -> Result<Event, WorkerError> {
        loop {
            if (patience.interrupted)() {
                return Err(WorkerError::Interrupted);
            }
            match self.events.recv_timeout(POLL) {
                Ok(event) => return Ok(event),
                Err(RecvTimeoutError::Timeout) if patience.clock.monotonic().0 < deadline => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.kill();
                    return Err(WorkerError::Silent(limit));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.death()),
            }
        }
    }

    fn write<T: serde::Serialize>(&mut self, message: &T) -> Result<(), WorkerError> {
        let line = serde_json::to_string(message).map_err(std::io::Error::from);
        let written = line.and_then(|line| match &mut self.input {
            Some(input) => writeln!(input, "{line}").and_then(|()| input.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        });
        written.map_err(|_broken_pipe| self.death())
    }

    fn failure(event: Event) -> WorkerError {
        let message = match event {
            Event::Failed { message } => message,
            Event::Ready(_) | Event::Measured(_) => "it answered out of turn".to_owned(),
        };
        WorkerError::Failed(message)
    }

    /// What is known of a process that has closed its output: its own account if one came, else its status and last words.
    fn death(&mut self) -> WorkerError {
        while let Ok(event) = self.events.try_recv() {
            if let Event::Failed { .. } = event {
                return Self::failure(event);
            }
        }
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let message = if words.is_empty() { status } else { format!("{status}: {}", words.join(" / ")) };
        WorkerError::Failed(message)
    }

    /// Waits for a tenant that was told to stop, and kills its process group when it stays.
    pub(super) fn finish(mut self, clock: &dyn Clock) {
        drop(self.input.take());
        let deadline = clock.monotonic().0 + Nanoseconds::from_seconds(LEAVE.as_secs_f64()).0;
        while clock.monotonic().0 < deadline && self.record.as_ref().is_some_and(Identity::is_alive) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the process and all it started.
    fn kill(&mut self) {
        if let Some(identity) = Identity::of(self.child.id()) {
            let ended = end_process_group(&identity, GRACE);
            if !ended.survivors.is_empty() {
                tracing::warn!(survivors = ?ended.survivors, tenant = self.tenant, "processes of a tenant outlived SIGKILL");
            }
        }
        // Reaped last: as long as it is not, its process id means nobody else.
        self.child.wait().map_or_else(|error| tracing::warn!(%error, tenant = self.tenant, "not reaped"), |_status| ());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
        if let Some(record) = &self.record {
            self.registry.forget(record);
        }
    }
}

fn read_events(output: impl Read + Send + 'static, sender: Sender<Event>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let event = serde_json::from_str(&line)
                .unwrap_or_else(|error| Event::Failed { message: format!("unreadable answer ({error}): {line:.200}") });
            if sender.send(event).is_err() {
                return;
            }
        }
    })
}

fn keep_last_words(errors: impl Read + Send + 'static, kept: Arc<Mutex<VecDeque<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            let mut words = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if words.len() == LAST_WORDS {
                words.pop_front();
            }
            words.push_back(line.chars().filter(|c| !c.is_control()).take(400).collect());
        }
    })
}
