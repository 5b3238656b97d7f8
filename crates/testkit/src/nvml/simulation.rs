//! The state behind the simulated library: the scenario as it stands now.
//!
//! ```text
//!  absent ──first call──▶ loaded ──nvmlInit──▶ running ──nvmlShutdown──▶ loaded
//!                                              │     ▲
//!                                              └─────┘ every call: read a changed file, let due events happen
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use std::{fs, io};

use super::library::scenario_of;
use super::scenario::{Change, ErrorCode, Gpu, Mig, Monitoring, Scenario};
use super::settings::{self, Settings, Stamp};

static SIMULATION: Mutex<Option<Simulation>> = Mutex::new(None);

/// The simulated driver of this process.
#[derive(Debug)]
pub(super) struct Simulation {
    path: Option<PathBuf>,
    stamp: Option<Stamp>,
    pub(super) scenario: Scenario,
    settings: Settings,
    /// GPUs as they are now: the scenario's with their settings, after every event that is due.
    gpus: Vec<Gpu>,
    /// GPUs that this program saw fall off the bus since it started NVML: it has to start it again to see them.
    gone: BTreeSet<String>,
    happened: usize,
    zero: Instant,
    energy: BTreeMap<String, Energy>,
    initialized: u32,
    pub(super) event_sets: BTreeMap<usize, EventSet>,
    pub(super) monitoring_samples: BTreeMap<usize, Option<(Instant, Monitoring)>>,
    next_handle: usize,
}

#[derive(Debug)]
struct Energy {
    millijoules: f64,
    at: Instant,
}

/// A set of events that the caller waits for.
#[derive(Debug, Default)]
pub(super) struct EventSet {
    /// GPUs by position that were registered.
    pub(super) registered: BTreeMap<usize, Registration>,
}

/// What a set waits for of a GPU, and what it has been told.
#[derive(Debug)]
pub(super) struct Registration {
    /// The kinds of events, `nvmlEventType…`.
    pub(super) kinds: u64,
    /// How many of the script's events had happened by then, or have been looked at since.
    pub(super) seen: usize,
    /// How the GPU was cut.
    pub(super) mig: Option<Mig>,
}

/// What a device handle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The GPU at a position.
    Gpu(usize),
    /// A MIG device of a GPU: its position, and the ids of the GPU instance and the compute instance.
    Mig(usize, u32, u32),
}

#[expect(clippy::disallowed_methods, reason = "the simulated driver keeps a time of its own, as the real one does")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Runs one call of the library against the simulation; the C code it answers.
pub(super) fn answer(function: &str, call: impl FnOnce(&mut Simulation) -> Result<(), ErrorCode>) -> u32 {
    let mut guard = SIMULATION.lock().unwrap_or_else(PoisonError::into_inner);
    let simulation = guard.get_or_insert_with(Simulation::new);
    match simulation.serve(function, call) {
        Ok(()) => 0,
        Err(code) => code as u32,
    }
}

impl Simulation {
    fn new() -> Self {
        Self {
            path: scenario_of(Self::new as fn() -> Self as usize),
            stamp: None,
            scenario: Scenario::default(),
            settings: Settings::default(),
            gpus: Vec::new(),
            gone: BTreeSet::new(),
            happened: 0,
            zero: now(),
            energy: BTreeMap::new(),
            initialized: 0,
            event_sets: BTreeMap::new(),
            monitoring_samples: BTreeMap::new(),
            next_handle: 0,
        }
    }

    fn serve(
        &mut self,
        function: &str,
        call: impl FnOnce(&mut Self) -> Result<(), ErrorCode>,
    ) -> Result<(), ErrorCode> {
        self.reload().map_err(|reason| self.complain(&reason))?;
        self.advance();
        if let Some(code) = self.scenario.errors.get(function) {
            return Err(*code);
        }
        if !self.scenario.driver_loaded {
            self.initialized = 0;
            return Err(ErrorCode::DriverNotLoaded);
        }
        if self.initialized == 0 && !function.starts_with("nvmlInit") {
            return Err(ErrorCode::Uninitialized);
        }
        call(self)
    }

    #[expect(clippy::print_stderr, reason = "a C library has no other way to tell a scenario's author what is wrong")]
    fn complain(&self, reason: &io::Error) -> ErrorCode {
        eprintln!("simulated NVML: scenario {:?}: {reason}", self.path);
        ErrorCode::Unknown
    }

    /// Reads the scenario and the shared settings when they are others than the last ones read.
    fn reload(&mut self) -> io::Result<()> {
        let path = self.path.clone().ok_or(io::ErrorKind::NotFound)?;
        let stamp = settings::stamp(&path)?;
        if stamp.is_none() && self.stamp.is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        // A test that ends removes the file before the last program has let go of the library.
        let changed = stamp.is_some() && stamp != self.stamp;
        if changed {
            let scenario: Scenario = serde_json::from_slice(&fs::read(&path)?)?;
            if let Some(name) = scenario.misleading_name() {
                return Err(io::Error::other(format!("the name `{name}` does not contain `Simulated`")));
            }
            if !scenario.shared_settings {
                self.settings.clear();
            }
            (self.scenario, self.stamp) = (scenario, stamp);
        }
        if (self.scenario.shared_settings && self.settings.read(&path)?) || changed {
            self.begin();
        }
        Ok(())
    }

    /// Puts every GPU where it stands before the first event.
    fn begin(&mut self) {
        self.settle_energy();
        self.gpus.clone_from(&self.scenario.gpus);
        self.gpus.iter_mut().for_each(|gpu| self.settings.apply(gpu));
        self.happened = 0;
    }

    /// Lets every event happen that is due.
    fn advance(&mut self) {
        let elapsed = now().duration_since(self.zero).as_millis();
        self.settle_energy();
        while let Some(event) = self.scenario.events.get(self.happened) {
            if u128::from(event.after_milliseconds) > elapsed {
                break;
            }
            if let Some(gpu) = self.gpus.get_mut(event.gpu) {
                apply(gpu, &event.change);
            }
            self.happened += 1;
        }
        if self.initialized > 0 {
            let lost = self.gpus.iter().filter(|gpu| gpu.lost);
            self.gone.extend(lost.map(|gpu| gpu.uuid.clone()));
        }
    }

    /// Adds to each counter what its GPU used since the last call.
    fn settle_energy(&mut self) {
        let at = now();
        for gpu in &self.gpus {
            let Some(start) = gpu.energy_millijoules else { continue };
            let energy = self
                .energy
                .entry(gpu.uuid.clone())
                .or_insert_with(|| Energy { millijoules: start as f64, at: self.zero });
            let seconds = at.duration_since(energy.at).as_secs_f64();
            energy.millijoules += f64::from(gpu.power_milliwatts.unwrap_or(0)) * seconds;
            energy.at = at;
        }
    }

    /// Counts an `nvmlInit`; the first one is time zero of the script.
    pub(super) fn initialize(&mut self) {
        if self.initialized == 0 {
            self.zero = now();
            self.begin();
            self.energy.clear();
            self.gone.clear();
        }
        self.initialized += 1;
    }

    /// Counts an `nvmlShutdown`.
    pub(super) fn shut_down(&mut self) {
        self.initialized -= 1;
    }

    /// A GPU by position, which must not be lost.
    pub(super) fn gpu_at(&self, position: usize) -> Result<&Gpu, ErrorCode> {
        match self.gpus.get(position) {
            None => Err(ErrorCode::InvalidArgument),
            Some(gpu) if gpu.lost || self.gone.contains(&gpu.uuid) => Err(ErrorCode::GpuIsLost),
            Some(gpu) => Ok(gpu),
        }
    }

    /// Changes settings of a GPU, for every program of the host where the scenario says so.
    pub(super) fn change<T>(
        &mut self,
        position: usize,
        change: impl FnOnce(&mut Gpu) -> Result<T, ErrorCode>,
    ) -> Result<T, ErrorCode> {
        let shared = self.path.clone().filter(|_| self.scenario.shared_settings);
        let refused = |this: &Self, reason: io::Error| {
            this.complain(&reason);
            ErrorCode::NoPermission
        };
        // Held until the end, so that no other program changes settings between reading and writing them.
        let _lock = shared.as_deref().map(settings::lock).transpose().map_err(|reason| refused(self, reason))?;
        self.reload().map_err(|reason| self.complain(&reason))?;
        self.advance();
        self.gpu_at(position)?;
        let gpu = self.gpus.get_mut(position).ok_or(ErrorCode::InvalidArgument)?;
        let answer = change(gpu)?;
        self.settings.keep(gpu);
        if let Some(path) = shared {
            self.settings.write(&path).map_err(|reason| refused(self, reason))?;
        }
        Ok(answer)
    }

    /// How many GPUs there are, lost ones too.
    pub(super) fn gpu_count(&self) -> usize {
        self.gpus.len()
    }

    /// The device with this UUID.
    pub(super) fn find(&self, uuid: &str) -> Option<Target> {
        self.gpus.iter().enumerate().find_map(|(position, gpu)| {
            if gpu.uuid == uuid {
                return Some(Target::Gpu(position));
            }
            let mut devices = gpu.mig.iter().flat_map(|mig| mig.devices());
            let (instance, compute) = devices.find(|(_, compute)| compute.uuid == uuid)?;
            Some(Target::Mig(position, instance.id, compute.id))
        })
    }

    /// The energy counter of a GPU.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and energy only grows"
    )]
    pub(super) fn energy_of(&self, gpu: &Gpu) -> Option<u64> {
        self.energy.get(&gpu.uuid).filter(|_| gpu.energy_millijoules.is_some()).map(|energy| energy.millijoules as u64)
    }

    /// How many of the script's events have happened.
    pub(super) const fn happened(&self) -> usize {
        self.happened
    }

    /// A number for a new handle, never 0.
    pub(super) const fn new_handle(&mut self) -> usize {
        self.next_handle += 1;
        self.next_handle
    }
}

fn apply(gpu: &mut Gpu, change: &Change) {
    match change {
        Change::Appears(process) => gpu.processes.push(process.clone()),
        Change::Leaves(pid) => gpu.processes.iter_mut().filter(|process| process.pid == *pid).for_each(|process| {
            process.lists.clear();
        }),
        Change::Power(milliwatts) => gpu.power_milliwatts = Some(*milliwatts),
        Change::RecoveryAction(action) => gpu.recovery_action = Some(*action),
        Change::Lost => gpu.lost = true,
        Change::Back => gpu.lost = false,
        Change::Xid(_) | Change::InstanceXid(..) | Change::SingleBitError | Change::DoubleBitError => {}
    }
}
