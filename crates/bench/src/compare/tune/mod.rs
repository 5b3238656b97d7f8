//! The tuner at work: its probes measured on the GPU, then its choice measured as an arm of its own.
//!
//! All probes run under one MPS daemon. A percentage is fixed when a process makes its context, so each (tenant,
//! percentage) pair has a process of its own; those that were started stay, idle, as long as they fit on the GPU.

mod pool;
mod score;

use cotenant_model::cause::chain;
use cotenant_model::run::{ArmRecord, Run, Tuning, TuningPoint};
use cotenant_model::workload::Engine;
use cotenant_model::{Arm, Bytes, Nanoseconds, Percent};
use cotenant_mps::Daemon;

use super::preflight::CONTEXT;
use super::schedule::PassPlan;
use super::{Comparison, Interrupted, Machine, Observer, note_once, pass};
use crate::tuner::{self, Cost, Settings, Tuner};
use pool::Pool;

/// How to tune.
#[derive(Debug, Clone, Copy)]
pub struct TuneSettings {
    /// Whether to measure the whole 5 % grid too.
    pub grid: bool,
}

/// Load before a probe's window.
const WARMUP: Nanoseconds = Nanoseconds(200_000_000);
/// Length of a probe's window.
const WINDOW: Nanoseconds = Nanoseconds(800_000_000);
/// The same of a point of the exhaustive grid, of which there are many.
const GRID: (Nanoseconds, Nanoseconds) = (Nanoseconds(50_000_000), Nanoseconds(250_000_000));
/// Points of the grid that are measured again, and how often, so that the best is not merely the luckiest.
const FINALISTS: usize = 8;
const FINALS: usize = 4;

/// Searches, records the search, and runs the chosen setting as an arm.
pub(super) fn run(
    comparison: &mut Comparison,
    machine: &Machine<'_>,
    observer: &mut dyn Observer,
    run: &mut Run,
) -> Result<(), Interrupted> {
    let (daemon, hold) = match machine.site.start_mps() {
        Ok(started) => started,
        Err(error) => {
            note_once(run, format!("not tuned: {}", chain(&error, ": ")));
            return Ok(());
        }
    };
    search(comparison, machine, observer, (run, daemon))?;
    // The chosen arm's pass takes and gives back the compute mode itself.
    drop(hold);
    match run.tuning.as_ref().and_then(chosen) {
        Some(percent) => adopt(Arm::MpsPercent(percent), comparison, machine, run),
        None => {
            if run.tuning.is_some() {
                note_once(run, "the tuner found no MPS percentages that keep every SLO".to_owned());
            }
            Ok(())
        }
    }
}

/// The percentages that the search chose.
fn chosen(tuning: &Tuning) -> Option<Vec<Percent>> {
    tuning.chosen.and_then(|chosen| tuning.points.get(chosen)).map(|point| point.percent.clone())
}

/// Searches and records what was found; then measures the grid, where it is wanted, so that an interruption there keeps the
/// search.
fn search(
    comparison: &Comparison,
    machine: &Machine<'_>,
    observer: &mut dyn Observer,
    (run, daemon): (&mut Run, Daemon),
) -> Result<(), Interrupted> {
    let Some(score) = score::Score::of(run) else {
        note_once(run, "not tuned: a tenant has no solo figures".to_owned());
        return Ok(());
    };
    let settings = settings(comparison, machine);
    let mut tuner = Tuner::new(settings);
    let mut pool = Pool::new(machine, comparison, &daemon, settings.cost.keeps);
    while let Some(probe) = tuner.next() {
        observer.probe(&format!("tuning: {}, {} spent", Arm::MpsPercent(probe.percent.clone()), tuner.spent()));
        let began = machine.clock.monotonic();
        let point = measure(&mut pool, &score, &probe.percent, (WARMUP, WINDOW), probe.windows)?;
        let took = Nanoseconds(machine.clock.monotonic().0.saturating_sub(began.0));
        match point {
            Some(point) => tuner.record(&point, took),
            None => tuner.refuse(took),
        }
    }
    let tuning = run.tuning.insert(tuner.finish());
    if comparison.tune.is_some_and(|tune| tune.grid) {
        tuning.grid = grid(&mut pool, &score, observer, chosen(tuning))?;
    }
    pool.end();
    Ok(())
}

/// The search's settings: processes are kept where 20 of the largest fit, and never those of servers, whose port is one.
fn settings(comparison: &Comparison, machine: &Machine<'_>) -> Settings {
    let tenants = &comparison.workload.tenants;
    let largest = tenants.iter().map(|tenant| tenant.expected_memory().unwrap_or_default().0).max().unwrap_or_default();
    let needed = Bytes((largest + CONTEXT.0).saturating_mul(20));
    let serves = tenants.iter().any(|tenant| matches!(tenant.engine, Engine::Server(_)));
    let window = Nanoseconds(WARMUP.0 + WINDOW.0);
    let settings = Settings::new(tenants.len());
    Settings { cost: Cost { window, keeps: !serves && needed < machine.site.gpu.memory, ..settings.cost }, ..settings }
}

/// Measures one setting; `None` when a tenant failed at it.
fn measure(
    pool: &mut Pool<'_>,
    score: &score::Score,
    percent: &[Percent],
    (warmup, length): (Nanoseconds, Nanoseconds),
    windows: u32,
) -> Result<Option<TuningPoint>, Interrupted> {
    let mut seen = Vec::new();
    for _ in 0..windows.max(1) {
        match pool.measure(percent, warmup, length)? {
            Some(windows) => seen.push(windows),
            None => return Ok(None),
        }
    }
    Ok(Some(score.point(percent, &seen)))
}

/// Every point of the grid once, then the best of those that keep every SLO, and the tuner's choice, again.
fn grid(
    pool: &mut Pool<'_>,
    score: &score::Score,
    observer: &mut dyn Observer,
    chosen: Option<Vec<Percent>>,
) -> Result<Vec<TuningPoint>, Interrupted> {
    let all = tuner::grid(score.tenants());
    let mut points = Vec::new();
    for (number, percent) in all.iter().enumerate() {
        observer.probe(&format!("grid: point {} of {}", number + 1, all.len()));
        points.extend(measure(pool, score, percent, GRID, 1)?);
    }
    let mut finalists = score::finalists(&points, FINALISTS);
    finalists.extend(chosen.filter(|chosen| !finalists.contains(chosen)));
    let mut finals: Vec<Vec<TuningPoint>> = vec![Vec::new(); finalists.len()];
    for _ in 0..FINALS {
        for (percent, seen) in finalists.iter().zip(&mut finals) {
            observer.probe(&format!("grid: {} again", Arm::MpsPercent(percent.clone())));
            seen.extend(measure(pool, score, percent, (WARMUP, WINDOW), 1)?);
        }
    }
    for again in finals.iter().filter_map(|seen| score::mean(seen)) {
        if let Some(point) = points.iter_mut().find(|point| point.percent == again.percent) {
            *point = again;
        }
    }
    Ok(points)
}

/// Adds the chosen setting as an arm and runs its pass of the first repeat, which the other arms have behind them.
fn adopt(arm: Arm, comparison: &mut Comparison, machine: &Machine<'_>, run: &mut Run) -> Result<(), Interrupted> {
    if comparison.arms.contains(&arm) {
        return Ok(());
    }
    comparison.arms.push(arm.clone());
    let plan = PassPlan {
        repeat: 0,
        arm: comparison.arms.len() - 1,
        tenants: (0..comparison.workload.tenants.len()).collect(),
    };
    let (pass, notes) = pass::run(machine, comparison, &plan)?;
    for note in notes {
        note_once(run, format!("{arm}: {note}"));
    }
    run.arms.push(ArmRecord { arm, refused: None, passes: vec![pass] });
    Ok(())
}
