//! The state behind the simulated library: the scenario as it stands now.
//!
//! ```text
//!  absent ──first call──▶ loaded ──nvmlInit──▶ running ──nvmlShutdown──▶ loaded
//!                                              │     ▲
//!                                              └─────┘ every call: read a changed file, let due events happen
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};
use std::{fs, io};

use super::library::scenario_of;
use super::scenario::{Change, ErrorCode, Gpu, Monitoring, Scenario};

static SIMULATION: Mutex<Option<Simulation>> = Mutex::new(None);

/// The simulated driver of this process.
#[derive(Debug)]
pub(super) struct Simulation {
    path: Option<PathBuf>,
    stamp: Option<Stamp>,
    pub(super) scenario: Scenario,
    /// GPUs as they are now: the scenario's, after every event that is due.
    gpus: Vec<Gpu>,
    happened: usize,
    zero: Instant,
    energy: BTreeMap<String, Energy>,
    initialized: u32,
    pub(super) event_sets: BTreeMap<usize, EventSet>,
    pub(super) monitoring_samples: BTreeMap<usize, Option<(Instant, Monitoring)>>,
    next_handle: usize,
}

/// Tells one version of the scenario file from another.
type Stamp = (u64, SystemTime, u64);

#[derive(Debug)]
struct Energy {
    millijoules: f64,
    at: Instant,
}

/// A set of events that the caller waits for.
#[derive(Debug, Default)]
pub(super) struct EventSet {
    /// GPUs by position that were registered, with the number of events that had happened by then.
    pub(super) registered: BTreeMap<usize, usize>,
}

/// What a device handle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The GPU at a position.
    Gpu(usize),
    /// A MIG device of a GPU, by both positions.
    Mig(usize, usize),
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
            gpus: Vec::new(),
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

    /// Reads the scenario when the file is another than the last one read.
    fn reload(&mut self) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt as _;
        let path = self.path.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let metadata = match fs::metadata(path) {
            // A test that ends removes the file before the last program has let go of the library.
            Err(gone) if gone.kind() == io::ErrorKind::NotFound && self.stamp.is_some() => return Ok(()),
            metadata => metadata?,
        };
        let stamp = Some((metadata.ino(), metadata.modified()?, metadata.len()));
        if stamp == self.stamp {
            return Ok(());
        }
        let scenario: Scenario = serde_json::from_slice(&fs::read(path)?)?;
        if let Some(name) = scenario.misleading_name() {
            return Err(io::Error::other(format!("the name `{name}` does not contain `Simulated`")));
        }
        self.settle_energy();
        self.gpus.clone_from(&scenario.gpus);
        (self.scenario, self.stamp, self.happened) = (scenario, stamp, 0);
        Ok(())
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
            (self.zero, self.happened) = (now(), 0);
            self.gpus.clone_from(&self.scenario.gpus);
            self.energy.clear();
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
            Some(gpu) if gpu.lost => Err(ErrorCode::GpuIsLost),
            Some(gpu) => Ok(gpu),
        }
    }

    /// The same, to change a setting.
    pub(super) fn gpu_at_mut(&mut self, position: usize) -> Result<&mut Gpu, ErrorCode> {
        self.gpu_at(position)?;
        self.gpus.get_mut(position).ok_or(ErrorCode::InvalidArgument)
    }

    /// How many GPUs there are, lost ones too.
    pub(super) fn gpu_count(&self) -> usize {
        self.gpus.len()
    }

    /// The device with this UUID.
    pub(super) fn find(&self, uuid: &str) -> Option<Target> {
        self.gpus.iter().enumerate().find_map(|(position, gpu)| {
            let mut devices = gpu.mig.iter().flat_map(|mig| &mig.devices);
            if gpu.uuid == uuid {
                return Some(Target::Gpu(position));
            }
            devices.position(|device| device.uuid == uuid).map(|mig| Target::Mig(position, mig))
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
        Change::Lost => gpu.lost = true,
        Change::Xid(_) => {}
    }
}
