//! What `cotenant compare` makes sure of before it measures.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cotenant_bench::clock::MonotonicClock;
use cotenant_bench::compare::{Comparison, Machine, Site, TuneSettings, hold};
use cotenant_gpu::{Nvml, ProcessTable, Sampler};
use cotenant_model::cause::chain;
use cotenant_model::gpu::{Driver, Gpu};
use cotenant_model::run::{Price, Program, Settings};
use cotenant_model::workload::Workload;
use cotenant_model::{Arm, Clock, GpuReader as _, GpuUuid, Nanoseconds};
use cotenant_mps::{GpuLock, LockError, Outcome, Reaped, Registry, Role, RunRoot};

use super::Arguments;
use crate::exit::{Failure, Kind};
use crate::terminal;

/// Repeats when neither the command line nor the workload says.
const REPEATS: u32 = 3;
/// Length of a measured window when neither says.
const DURATION: Nanoseconds = Nanoseconds(5_000_000_000);
/// Load before a window when neither says.
const WARMUP: Nanoseconds = Nanoseconds(1_000_000_000);

/// Name of a run's folder under the run root, before its process id.
const RUN_FOLDER: &str = "run-";

/// Why a comparison cannot begin.
#[derive(Debug)]
pub(super) enum Unready {
    /// There is no GPU to use.
    NoGpu { why: Failure, workload: Box<Workload> },
    /// Anything else.
    Failure(Failure),
}

impl From<Failure> for Unready {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// A comparison that can begin; it holds the GPU's lock.
#[derive(Debug)]
pub(super) struct Prepared {
    comparison: Comparison,
    gpu: Gpu,
    driver: Driver,
    nvml: Nvml,
    registry: Registry,
    exclusive: bool,
    interrupted: Arc<AtomicBool>,
    notes: Vec<String>,
    _lock: GpuLock,
    /// Where the results go.
    pub(super) folder: PathBuf,
}

/// Makes sure of everything; nothing has been started when it fails.
pub(super) fn prepare(arguments: &Arguments, workload: Workload) -> Result<Prepared, Unready> {
    let mut nvml = match Nvml::open() {
        Ok(nvml) => nvml,
        Err(error) => return Err(no_gpu(&error, workload)),
    };
    let Some((gpu, driver)) = choose(&nvml, &arguments.gpu)? else {
        let why = Failure::new(Kind::NoGpu, "no NVIDIA GPU: the driver lists no device");
        return Err(Unready::NoGpu { why, workload: Box::new(workload) });
    };
    let failed = |error: &dyn std::error::Error| Failure::from_error(Kind::Other, error);
    let root = RunRoot::open().map_err(|error| failed(&error))?;
    let registry = Registry::open(root).map_err(|error| failed(&error))?;
    for reaped in registry.reap_leftovers().map_err(|error| failed(&error))? {
        tell(&reaped);
    }
    remove_stale_folders(registry.root());
    let lock = GpuLock::acquire(registry.root(), &gpu.uuid).map_err(|error| busy(&error))?;
    let gpu = restored(gpu, &registry, &mut nvml)?;
    let folder = arguments.out.clone().unwrap_or_else(|| default_folder(&gpu, &workload.name));
    writable(&folder)?;
    let notes = notes(&mut nvml, &registry, &gpu, (arguments, &workload));
    let exclusive = arguments.allow_settings;
    let comparison = comparison(arguments, workload, &gpu);
    let interrupted = listen_for_signals().map_err(|error| failed(&error))?;
    Ok(Prepared { comparison, gpu, driver, nvml, registry, exclusive, interrupted, notes, _lock: lock, folder })
}

impl Prepared {
    /// Gives the comparison what it runs on: telemetry, clock, register of processes.
    pub(super) fn with_machine<T>(
        self,
        work: impl FnOnce(Comparison, &Machine<'_>, String) -> T,
    ) -> Result<T, Failure> {
        for note in &self.notes {
            terminal::complain(&format!("note: {note}"));
        }
        let failed = |error: &dyn std::error::Error| Failure::from_error(Kind::Other, error);
        let clock: Arc<dyn Clock> = Arc::new(MonotonicClock);
        let interval = self.comparison.settings.telemetry_interval;
        let sampler = Sampler::start(self.nvml, self.gpu.uuid.clone(), Arc::clone(&clock), interval)
            .map_err(|error| failed(&error))?;
        let directory = self
            .registry
            .root()
            .subdirectory(&format!("{RUN_FOLDER}{}", std::process::id()))
            .map_err(|error| failed(&error))?;
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let interrupted = || self.interrupted.load(Ordering::Relaxed);
        let machine = Machine {
            begun: clock.monotonic(),
            site: Site {
                gpu: self.gpu,
                directory: directory.clone(),
                registry: self.registry,
                exclusive: self.exclusive,
            },
            program,
            driver: self.driver,
            sampler: &sampler,
            clock,
            interrupted: &interrupted,
            notes: self.notes,
        };
        let started = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string();
        let done = work(self.comparison, &machine, started);
        // Server logs of a run are of no use after it; what is left would only be found by the next run.
        drop(std::fs::remove_dir_all(directory));
        Ok(done)
    }
}

/// The GPU with its compute mode put back, where a killed run had changed it.
fn restored(gpu: Gpu, registry: &Registry, nvml: &mut Nvml) -> Result<Gpu, Failure> {
    let mode = hold::restore(&gpu.uuid, registry.root().path(), nvml).map_err(|error| {
        Failure::from_error(Kind::Other, &error).hint("run it once as the user whose run was killed")
    })?;
    let Some(mode) = mode else { return Ok(gpu) };
    let word = hold::word(mode);
    terminal::complain(&format!(
        "note: put the GPU's compute mode back to {word}, which a run that was killed had changed"
    ));
    Ok(Gpu { compute_mode: Some(mode), ..gpu })
}

/// Removes the log folders of runs that are over; a run's folder carries its process id.
fn remove_stale_folders(root: &RunRoot) {
    for entry in std::fs::read_dir(root.path()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(RUN_FOLDER)).and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            terminal::complain(&format!("note: cannot remove `{}`: {error}", entry.path().display()));
        }
    }
}

/// Says what became of a process that a killed run left behind; one that was gone already is no news.
fn tell(reaped: &Reaped) {
    let what = &reaped.what;
    match &reaped.outcome {
        Outcome::Gone => {}
        Outcome::Ended(_) => terminal::complain(&format!(
            "note: ended {what} (process {}), left by run {} that was killed",
            reaped.pid, reaped.owner
        )),
        Outcome::Survived(_) => terminal::complain(&format!(
            "note: {what} (process {}), left by run {}, cannot be ended",
            reaped.pid, reaped.owner
        )),
    }
}

fn no_gpu(error: &cotenant_gpu::OpenError, workload: Workload) -> Unready {
    let why = Failure::new(Kind::NoGpu, format!("no NVIDIA GPU can be used: {}", chain(error, ": "))).hint(error.fix());
    Unready::NoGpu { why, workload: Box::new(workload) }
}

/// The wanted GPU; `None` when the driver lists none at all.
fn choose(nvml: &Nvml, wanted: &str) -> Result<Option<(Gpu, Driver)>, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::from_error(Kind::NoGpu, error);
    let gpus = nvml.gpus().map_err(|error| failed(&error))?;
    let driver = nvml.driver().map_err(|error| failed(&error))?;
    if gpus.is_empty() {
        return Ok(None);
    }
    let known: Vec<String> = gpus.iter().map(|gpu| format!("{} ({}, {})", gpu.index, gpu.name, gpu.uuid)).collect();
    let uuid = GpuUuid(wanted.to_owned());
    match gpus.into_iter().find(|gpu| gpu.uuid == uuid || gpu.index.to_string() == wanted) {
        Some(gpu) => Ok(Some((gpu, driver))),
        None => Err(Failure::new(Kind::Input, format!("there is no GPU `{wanted}`"))
            .hint(format!("there are: {}", known.join("; ")))),
    }
}

fn busy(error: &LockError) -> Failure {
    if matches!(error, LockError::Held { .. }) {
        return Failure::from_error(Kind::Busy, error).hint("wait for it to end, or choose another GPU with --gpu");
    }
    Failure::from_error(Kind::Other, error)
}

/// `results/GPU/DATE-NAME`, the GPU by the part of its name that tells models apart.
fn default_folder(gpu: &Gpu, name: &str) -> PathBuf {
    let model = gpu.name.trim_start_matches("NVIDIA ").to_lowercase().replace(' ', "-");
    let date = jiff::Zoned::now().date();
    PathBuf::from(format!("results/{model}/{date}-{name}"))
}

/// Makes the folder and writes into it once, so that a full disk is not found out after the measurement.
pub(super) fn writable(folder: &Path) -> Result<(), Failure> {
    let probe = folder.join(".writable");
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&probe, b"x"))
        .and_then(|()| std::fs::remove_file(&probe));
    written.map_err(|error| {
        Failure::new(Kind::Output, format!("cannot write results into `{}`: {error}", folder.display()))
            .hint("choose another folder with --out")
    })
}

/// What a reader must know: this GPU's other users, and too few repeats.
fn notes(
    nvml: &mut Nvml,
    registry: &Registry,
    gpu: &Gpu,
    (arguments, workload): (&Arguments, &Workload),
) -> Vec<String> {
    let mut notes = other_daemons(registry);
    notes.extend(other_processes(nvml, gpu));
    if arguments.repeats.or(workload.repeats).is_some_and(|repeats| repeats < REPEATS) {
        notes.push("fewer than 3 repeats: the spread shown is no measure of the true one".to_owned());
    }
    notes
}

fn other_daemons(registry: &Registry) -> Vec<String> {
    let daemons = match cotenant_mps::foreign_daemons(registry) {
        Ok(daemons) => daemons,
        Err(error) => return vec![format!("other MPS daemons could not be looked for: {}", chain(&error, ": "))],
    };
    let controls = daemons.iter().filter(|daemon| daemon.role == Role::Control);
    let tell = controls.map(|daemon| {
        let pipe = daemon.pipe_directory.as_ref().map(|path| format!(", pipe directory {}", path.display()));
        let place = format!("process {}{}", daemon.pid, pipe.unwrap_or_default());
        format!("somebody else's MPS control daemon runs here and is left alone ({place})")
    });
    tell.collect()
}

fn other_processes(nvml: &mut Nvml, gpu: &Gpu) -> Vec<String> {
    let processes = match nvml.processes(&gpu.uuid) {
        Ok(processes) => processes,
        Err(error) => return vec![format!("other processes on this GPU could not be listed: {}", chain(&error, ": "))],
    };
    let others = ProcessTable::default().foreign(&processes, &BTreeSet::new());
    let tell = others.iter().map(|other| {
        let command = other.command.clone().unwrap_or_else(|| "a command that cannot be seen from here".to_owned());
        format!("another process is on this GPU and is left alone: {command} (process {})", other.process.pid)
    });
    tell.collect()
}

fn comparison(arguments: &Arguments, workload: Workload, gpu: &Gpu) -> Comparison {
    let mut arms = vec![Arm::Solo];
    let chosen = if arguments.arms.is_empty() { workload.arms.clone() } else { Some(arguments.arms.clone()) };
    for arm in chosen.unwrap_or_else(|| vec![Arm::TimeSlicing, Arm::Mps]) {
        if !arms.contains(&arm) {
            arms.push(arm);
        }
    }
    let given = arguments.price.map(|per_hour| Price { per_hour, source: "given with --price".to_owned() });
    let settings = Settings {
        repeats: arguments.repeats.or(workload.repeats).unwrap_or(REPEATS),
        duration: arguments.duration.or(workload.duration).unwrap_or(DURATION),
        warmup: arguments.warmup.or(workload.warmup).unwrap_or(WARMUP),
        seed: arguments.seed,
        telemetry_interval: arguments.telemetry_interval,
        price: given.or_else(|| cotenant_model::price::bundled(&gpu.name)),
    };
    let tune = arguments.tune.then_some(TuneSettings { grid: arguments.grid });
    let commit = option_env!("COTENANT_COMMIT").map(str::to_owned);
    let program = Program { version: env!("CARGO_PKG_VERSION").to_owned(), commit };
    Comparison { workload, arms, settings, tune, program }
}

/// The first Ctrl-C or SIGTERM ends the measurement in order; a second ends the program at once (the next run cleans up).
fn listen_for_signals() -> std::io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted))?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(interrupted)
}
