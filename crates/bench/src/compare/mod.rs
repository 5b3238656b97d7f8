//! `cotenant compare`: every arm, every repeat, every tenant a process of its own.
//!
//! ```text
//! preflight ─▶ for each repeat, for each arm in rotating order: ─▶ record
//!                 set up ─ start tenants ─ warm up ─ window ─ stop tenants ─ take down
//! ```
//!
//! An interruption ends the pass that runs, takes everything down, and keeps the passes before it.

pub mod hold;
mod pass;
mod preflight;
mod processes;
mod schedule;
mod strategy;
mod tune;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use cotenant_gpu::Sampler;
use cotenant_model::gpu::Driver;
use cotenant_model::run::{ArmRecord, Host, Pass, Program, Run, Settings};
use cotenant_model::workload::Workload;
use cotenant_model::{Arm, Clock, Nanoseconds};

pub use preflight::TooLarge;
pub use strategy::Site;
pub use tune::TuneSettings;
use worker::Patience;

/// What to compare.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The tenants.
    pub workload: Workload,
    /// The arms; `solo` is among them.
    pub arms: Vec<Arm>,
    /// How to measure.
    pub settings: Settings,
    /// How to tune MPS percentages; `None` for not at all.
    pub tune: Option<TuneSettings>,
    /// Version and commit of this program, for the record.
    pub program: Program,
}

/// Where to compare, and with what.
#[derive(Clone)]
pub struct Machine<'a> {
    /// The GPU and the folder of the run.
    pub site: Site,
    /// This program, which is also the tenants' (as `cotenant tenant`).
    pub program: PathBuf,
    /// The driver.
    pub driver: Driver,
    /// Telemetry of the GPU.
    pub sampler: &'a Sampler,
    /// The clock all processes share.
    pub clock: Arc<dyn Clock>,
    /// When the run began on that clock.
    pub begun: Nanoseconds,
    /// Whether to stop early.
    pub interrupted: &'a dyn Fn() -> bool,
    /// What was noticed before the run, for the record's notes.
    pub notes: Vec<String>,
}

/// Is told how a comparison goes on.
pub trait Observer {
    /// A pass begins; `left` is the time all remaining passes will take at least.
    fn pass(&mut self, arm: &Arm, number: usize, total: usize, left: Nanoseconds);
    /// A pass has ended.
    fn passed(&mut self, arm: &Arm, pass: &Pass);
    /// The tuner begins a probe.
    fn probe(&mut self, description: &str);
}

/// The comparison was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// A record, and whether it is whole.
#[derive(Debug)]
pub struct Outcome {
    /// What was measured.
    pub run: Run,
    /// Whether an interruption cut it short.
    pub interrupted: bool,
}

impl std::fmt::Debug for Machine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("site", &self.site).finish_non_exhaustive()
    }
}

impl<'a> Machine<'a> {
    fn patience(&self) -> Patience<'_> {
        Patience { clock: self.clock.as_ref(), interrupted: self.interrupted }
    }
}

/// Runs a comparison. Arms that cannot run here are recorded as refused, tenants that fail as failed.
///
/// # Errors
/// When the tenants do not fit on the GPU.
pub fn compare(
    mut comparison: Comparison,
    machine: &Machine<'_>,
    observer: &mut dyn Observer,
    started: String,
) -> Result<Outcome, TooLarge> {
    preflight::memory(&machine.site.gpu, &comparison.workload.tenants)?;
    let mut run = blank(&comparison, machine, started);
    let outcome = fill(&mut comparison, machine, observer, &mut run);
    let windows = run.arms.iter().flat_map(|arm| &arm.passes).flat_map(|pass| &pass.windows);
    run.host.multiprocessors = windows.filter_map(|window| window.process.as_ref()?.multiprocessors).max();
    if outcome.is_err() {
        let measured: usize = run.arms.iter().map(|arm| arm.passes.len()).sum();
        run.notes.push(format!("interrupted; passes measured: {measured}"));
    }
    Ok(Outcome { run, interrupted: outcome.is_err() })
}

fn fill(
    comparison: &mut Comparison,
    machine: &Machine<'_>,
    observer: &mut dyn Observer,
    run: &mut Run,
) -> Result<(), Interrupted> {
    refuse(comparison, machine, run);
    for repeat in 0..comparison.settings.repeats {
        for plan in schedule::repeat(repeat, &comparison.arms, &comparison.workload.tenants) {
            if run.arms.get(plan.arm).is_some_and(|record| record.refused.is_some()) {
                continue;
            }
            announce(comparison, observer, run, plan.arm);
            let (pass, notes) = pass::run(machine, comparison, &plan)?;
            for note in notes {
                note_once(
                    run,
                    format!("{}: {note}", comparison.arms.get(plan.arm).map(Arm::to_string).unwrap_or_default()),
                );
            }
            if let (Some(arm), Some(record)) = (comparison.arms.get(plan.arm), run.arms.get_mut(plan.arm)) {
                observer.passed(arm, &pass);
                record.passes.push(pass);
            }
        }
        if repeat == 0 && comparison.tune.is_some() {
            tune::run(comparison, machine, observer, run)?;
        }
    }
    Ok(())
}

/// Adds a note that the record does not hold yet.
fn note_once(run: &mut Run, note: String) {
    if !run.notes.contains(&note) {
        run.notes.push(note);
    }
}

fn announce(comparison: &Comparison, observer: &mut dyn Observer, run: &Run, arm: usize) {
    let tenants = &comparison.workload.tenants;
    let refused = |plan: &schedule::PassPlan| run.arms.get(plan.arm).is_some_and(|record| record.refused.is_some());
    let total: usize = (0..comparison.settings.repeats)
        .map(|repeat| schedule::repeat(repeat, &comparison.arms, tenants).iter().filter(|plan| !refused(plan)).count())
        .sum();
    let done: usize = run.arms.iter().map(|record| record.passes.len()).sum();
    let each = comparison.settings.warmup.0 + comparison.settings.duration.0;
    let left = Nanoseconds(each.saturating_mul(u64::try_from(total.saturating_sub(done)).unwrap_or(0)));
    if let Some(arm) = comparison.arms.get(arm) {
        observer.pass(arm, done + 1, total, left);
    }
}

fn refuse(comparison: &Comparison, machine: &Machine<'_>, run: &mut Run) {
    for record in &mut run.arms {
        record.refused = preflight::refusal(&record.arm, &machine.site, &comparison.workload.tenants);
    }
}

fn blank(comparison: &Comparison, machine: &Machine<'_>, started: String) -> Run {
    let arms = comparison.arms.iter();
    Run {
        schema: Run::SCHEMA,
        name: comparison.workload.name.clone(),
        description: comparison.workload.description.clone(),
        program: comparison.program.clone(),
        started,
        host: Host {
            gpu: machine.site.gpu.clone(),
            multiprocessors: None,
            driver: machine.driver.clone(),
            processors: std::thread::available_parallelism().map_or(0, |count| u32::try_from(count.get()).unwrap_or(0)),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
        },
        settings: comparison.settings.clone(),
        tenants: comparison.workload.tenants.clone(),
        arms: arms.map(|arm| ArmRecord { arm: arm.clone(), refused: None, passes: Vec::new() }).collect(),
        tuning: None,
        notes: machine.notes.clone(),
    }
}
