//! The keeper: the process that owns a node's MPS control daemons, so that they outlive the agent.
//!
//! It knows neither Kubernetes nor configuration: it does what it is asked over `<mps root>/keeper.sock` ([`protocol`]) and
//! says what happens. Its own record (`<mps root>/keeper.json`) and the daemons' environment tell a keeper that was killed
//! what it kept.
//!
//! ```text
//!            ensure                     dies                      restart
//!  (none) ──────────▶ running ────────────────────▶ dead ───────────────────▶ running
//!     ▲                 │  ▲ ensure: as wanted, kept; else replaced unless it serves somebody
//!     └──── stop ───────┘──┘
//! ```
//!
//! A daemon that dies is reported, not replaced: its clients must leave first, and only the agent can see to that. Killed with
//! SIGKILL, the keeper leaves everything running and the next one takes it over; on SIGTERM everything ends and is put back,
//! because the container that it runs in ends too.

pub mod client;
mod memory;
mod mode;
pub mod protocol;
mod record;
mod server;
mod shutdown;
mod slot;
pub mod spawn;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cotenant_model::GpuUuid;
use cotenant_model::cause::chain;
use cotenant_mps::{Place, trim_output};
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedMutexGuard, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use memory::SharedMemory;
use mode::Modes;
use protocol::{Answer, DaemonSettings, Happening, Kept, Refusal, Refused};
use record::Record;
use slot::{Slot, SlotError};

/// Happenings that a slow watcher may be behind before it is cut off.
const BEHIND: usize = 64;

/// How often logs are looked at, and how long one may be, in bytes.
const LOGS: std::time::Duration = std::time::Duration::from_secs(10);
const LOG_LIMIT: u64 = 4 << 20;

/// What a keeper is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The MPS root.
    pub root: PathBuf,
    /// Bytes of shared memory; `None` is half of the host's memory.
    pub shared_memory: Option<u64>,
    /// The driver's library; `None` finds it.
    pub library: Option<PathBuf>,
}

/// Why a keeper does not run.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The MPS root cannot be used.
    #[error("cannot use the MPS root {}", path.display())]
    Root {
        /// The root.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another keeper runs.
    #[error("another keeper runs on {}", path.display())]
    Running {
        /// The root.
        path: PathBuf,
    },
    /// The socket cannot be had.
    #[error("cannot listen on {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The keeper of one MPS root.
#[derive(Debug, Clone)]
pub struct Keeper {
    shared: Arc<Shared>,
}

type Slots = BTreeMap<GpuUuid, Arc<tokio::sync::Mutex<Slot>>>;

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    _lock: File,
    record: Mutex<Record>,
    modes: Modes,
    memory: SharedMemory,
    slots: Mutex<Slots>,
    happenings: broadcast::Sender<Happening>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Everything is put back.
    over: CancellationToken,
    /// Set by the request to shut down: whether the folders go too.
    cleanup: Mutex<bool>,
}

impl Keeper {
    /// Takes the MPS root; at most one keeper has it.
    ///
    /// # Errors
    /// When another has it, or it cannot be used.
    pub fn new(config: &Config) -> Result<Self, KeeperError> {
        let root = config.root.clone();
        let lock = lock(&root)?;
        let shared = Shared {
            record: Mutex::new(Record::open(&root)),
            _lock: lock,
            modes: Modes::new(config.library.clone()),
            memory: SharedMemory::new(&root, config.shared_memory),
            slots: Mutex::default(),
            happenings: broadcast::Sender::new(BEHIND),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            over: CancellationToken::new(),
            cleanup: Mutex::new(false),
            root,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Serves until `stop`, or until it is asked to end; then ends every daemon and puts everything back.
    ///
    /// # Errors
    /// When the socket cannot be had.
    pub async fn run(self, stop: CancellationToken) -> Result<(), KeeperError> {
        let listener = server::listen(&self.shared.root)?;
        let resume = self.clone();
        self.shared.tasks.spawn(async move { resume.resume().await });
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.shared.stop.cancelled() => {}
            () = server::serve(&self, &listener) => {}
            () = self.bound_logs() => {}
        }
        self.shared.stop.cancel();
        drop(listener);
        self.end().await;
        Ok(())
    }

    /// Keeps the logs of the daemons, which any client can make grow, from filling the disk.
    async fn bound_logs(&self) {
        loop {
            tokio::time::sleep(LOGS).await;
            for gpu in folders(&self.shared.root) {
                let Ok(place) = Place::new(&self.shared.root, gpu) else { continue };
                if let Err(error) = trim_output(&place.log(), LOG_LIMIT) {
                    tracing::warn!(gpu = %place.gpu(), %error, "a log cannot be cut");
                }
            }
        }
    }

    /// Takes over what a former keeper left: daemons that run, daemons that should, compute modes to put back.
    async fn resume(&self) {
        let content = self.record(|record| record.content().clone());
        let mut gpus: Vec<GpuUuid> = folders(&self.shared.root);
        gpus.extend(content.daemons.keys().chain(content.modes.keys()).cloned());
        gpus.sort();
        gpus.dedup();
        for gpu in gpus {
            let wanted = content.daemons.get(&gpu).cloned();
            let keeper = self.clone();
            let slot = self.slot(&gpu).lock_owned().await;
            let resumed = tokio::task::spawn_blocking(move || keeper.resume_one(slot, wanted)).await;
            if let Ok(Some(kept)) = resumed {
                self.happen(Happening::Started(kept));
            }
        }
    }

    fn resume_one(&self, mut slot: OwnedMutexGuard<Slot>, wanted: Option<DaemonSettings>) -> Option<Kept> {
        if self.shared.stop.is_cancelled() {
            return None;
        }
        let gpu = slot.gpu().clone();
        let resumed = match slot.adopt() {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => match wanted {
                Some(settings) => self.ensure_in(&mut slot, &settings).map_err(|refused| refused.why),
                None => {
                    self.put_back(&gpu);
                    return None;
                }
            },
        };
        if let Err(why) = resumed {
            tracing::warn!(%gpu, why, "a daemon of the former keeper does not run");
        }
        self.follow(&mut slot);
        slot.kept()
    }

    /// Does what is wanted of one GPU's daemon.
    async fn with_slot(&self, gpu: GpuUuid, work: impl FnOnce(&Self, &mut Slot) -> Answer + Send + 'static) -> Answer {
        let keeper = self.clone();
        let mut slot = self.slot(&gpu).lock_owned().await;
        if self.shared.stop.is_cancelled() {
            return Refused::new(Refusal::Ending, "this keeper is ending").into();
        }
        let done = tokio::task::spawn_blocking(move || {
            let answer = work(&keeper, &mut slot);
            keeper.follow(&mut slot);
            answer
        });
        done.await.unwrap_or_else(|error| Refused::new(Refusal::Failed, error.to_string()).into())
    }

    fn ensure(&self, slot: &mut Slot, settings: &DaemonSettings) -> Answer {
        let before = slot.kept().and_then(|kept| kept.pid);
        match self.ensure_in(slot, settings) {
            Ok(()) => self.started(slot, before),
            Err(refused) => refused.into(),
        }
    }

    fn ensure_in(&self, slot: &mut Slot, settings: &DaemonSettings) -> Result<(), Refused> {
        self.prepare(slot.gpu(), settings)?;
        slot.ensure(settings).map_err(|error| refused(&error))
    }

    fn restart(&self, slot: &mut Slot, settings: &DaemonSettings) -> Answer {
        let done =
            self.prepare(slot.gpu(), settings).and_then(|()| slot.restart(settings).map_err(|error| refused(&error)));
        match done {
            Ok(()) => self.started(slot, None),
            Err(refused) => refused.into(),
        }
    }

    fn started(&self, slot: &Slot, before: Option<u32>) -> Answer {
        let Some(kept) = slot.kept() else { return Refused::new(Refusal::Failed, "the daemon is gone again").into() };
        if kept.pid != before {
            tracing::info!(gpu = %kept.gpu, pid = kept.pid, adopted = kept.adopted, three = kept.three, "MPS control daemon");
            self.happen(Happening::Started(kept.clone()));
        }
        Answer::Runs(kept)
    }

    /// What a daemon needs before it starts: shared memory, the compute mode, and a note that it is kept.
    fn prepare(&self, gpu: &GpuUuid, settings: &DaemonSettings) -> Result<(), Refused> {
        let failed = |error: &dyn std::error::Error| Refused::new(Refusal::Failed, chain(error, ": "));
        if settings.shared_memory {
            self.shared.memory.mount().map_err(|error| failed(&error))?;
        }
        let keep =
            |record: &mut Record| record.change(|content| drop(content.daemons.insert(gpu.clone(), settings.clone())));
        self.record(keep).map_err(|error| failed(&error))?;
        if settings.exclusive {
            self.shared.modes.occupy(gpu, &self.shared.record).map_err(|error| failed(&error))
        } else {
            self.shared.modes.release(gpu, &self.shared.record).map_err(|error| failed(&error))
        }
    }

    fn stop_one(&self, slot: &mut Slot, idle: bool) -> Answer {
        let stopped = if idle { slot.stop_idle() } else { slot.stop() };
        if let Err(error) = stopped {
            return refused(&error).into();
        }
        let gpu = slot.gpu().clone();
        self.put_back(&gpu);
        self.happen(Happening::Stopped { gpu });
        Answer::Done
    }

    /// The GPU is shared no longer.
    fn put_back(&self, gpu: &GpuUuid) {
        let mode = self.shared.modes.release(gpu, &self.shared.record);
        warn(gpu, mode, "the compute mode is not as it was");
        let forgotten = self.record(|record| record.change(|content| content.daemons.retain(|one, _| one != gpu)));
        warn(gpu, forgotten, "a stopped daemon stays in the record");
    }

    /// Tells when the daemon of a slot dies.
    fn follow(&self, slot: &mut Slot) {
        if !slot.is_followed_anew() {
            return;
        }
        let Some(daemon) = slot.daemon() else { return };
        let handle = match daemon.handle() {
            Ok(Some(handle)) => handle,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(gpu = %slot.gpu(), %error, "the end of a daemon will be noticed late");
                return;
            }
        };
        let (keeper, gpu) = (self.clone(), slot.gpu().clone());
        let stop = self.shared.stop.clone();
        let runtime = tokio::runtime::Handle::current();
        self.shared.tasks.spawn_on(
            async move {
                #[expect(
                    deprecated,
                    reason = "its successor is unsafe; for a descriptor that it owns this one is sound"
                )]
                let Ok(handle) = AsyncFd::new(handle) else { return };
                if let Some(Ok(_ended)) = stop.run_until_cancelled(handle.readable()).await {
                    keeper.notice_death(gpu).await;
                }
            },
            &runtime,
        );
    }

    async fn notice_death(&self, gpu: GpuUuid) {
        let mut slot = self.slot(&gpu).lock_owned().await;
        let death = tokio::task::spawn_blocking(move || slot.note_death()).await;
        if let Ok(Some(how)) = death {
            tracing::warn!(%gpu, how, "an MPS control daemon died");
            self.happen(Happening::Died { gpu, how });
        }
    }

    async fn list(&self) -> Vec<Kept> {
        let slots: Vec<_> = self.slots().values().cloned().collect();
        let mut all = Vec::new();
        for slot in slots {
            all.extend(slot.lock().await.kept());
        }
        all
    }

    fn happen(&self, happening: Happening) {
        // Nobody may be watching.
        drop(self.shared.happenings.send(happening));
    }

    fn slot(&self, gpu: &GpuUuid) -> Arc<tokio::sync::Mutex<Slot>> {
        let new = || Arc::new(tokio::sync::Mutex::new(Slot::new(&self.shared.root, gpu.clone())));
        Arc::clone(self.slots().entry(gpu.clone()).or_insert_with(new))
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record<T>(&self, work: impl FnOnce(&mut Record) -> T) -> T {
        work(&mut self.shared.record.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn refused(error: &SlotError) -> Refused {
    Refused::new(error.refusal(), error.why())
}

fn warn(gpu: &GpuUuid, done: Result<(), impl std::error::Error + 'static>, what: &str) {
    if let Err(error) = done {
        tracing::warn!(%gpu, error = &error as &dyn std::error::Error, "{what}");
    }
}

/// GPUs that have a folder under the root.
fn folders(root: &Path) -> Vec<GpuUuid> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().join("pipe").is_dir());
    folders.filter_map(|entry| entry.file_name().into_string().ok()).map(GpuUuid).collect()
}

fn lock(root: &Path) -> Result<File, KeeperError> {
    let failed = |source| KeeperError::Root { path: root.to_owned(), source };
    std::fs::create_dir_all(root).map_err(failed)?;
    let path = root.join("keeper.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(KeeperError::Running { path: root.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
