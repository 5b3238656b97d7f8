//! `cotenant compare`.

mod prepare;
mod progress;

use std::path::PathBuf;
use std::process::ExitCode;

use cotenant_bench::compare::{Outcome, compare};
use cotenant_bench::report::Report;
use cotenant_bench::store;
use cotenant_bench::summary::Summary;
use cotenant_model::run::Run;
use cotenant_model::workload::Workload;
use cotenant_model::{Arm, MicroUsd, Nanoseconds};

use super::{Format, recorded, report, workload};
use crate::exit::{Failure, Kind};
use crate::terminal;
use prepare::Prepared;

/// The workload that is compared when none is named.
const STANDARD: (&str, &str) =
    ("two-decoders.yaml", include_str!("../../../../../examples/workloads/two-decoders.yaml"));

/// Measure what sharing a GPU does to each model.
///
/// Runs every tenant of a workload as a process of its own: alone (`solo`, the reference), under time slicing, under CUDA
/// MPS. Prints a table, one line an arm, and writes run.json, report.html and timeline.gif. Without WORKLOAD it compares two
/// small decoders; without an NVIDIA GPU it says why there is none and shows a recorded run.
///
/// The MPS daemon it starts is its own and is always stopped. GPU settings are never changed without
/// --allow-settings.
///
/// Ctrl-C ends the measurement in order and keeps what was measured; a second one quits at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Workload file; see docs/workload-file.md and examples/workloads/.
    workload: Option<PathBuf>,
    /// Arms to run besides solo, such as time-slicing,mps,mps:50,mps:25/75,mps-memory,mig:1g.18gb.
    #[arg(long, value_delimiter = ',', value_parser = arm)]
    arms: Vec<Arm>,
    /// Times each arm runs; fewer than 3 show no honest spread.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: Option<u32>,
    /// Length of each measured window: seconds, or with a unit (500ms, 1m).
    #[arg(long, value_parser = seconds)]
    duration: Option<Nanoseconds>,
    /// Load before each window that is not counted: seconds, or with a unit.
    #[arg(long, value_parser = seconds)]
    warmup: Option<Nanoseconds>,
    /// Find the MPS percentages that keep every SLO with the highest aggregate, then measure them as an arm.
    #[arg(long)]
    tune: bool,
    /// With --tune: also measure every point of the 5 % grid (two tenants: 400 points, about 10 minutes).
    #[arg(long, requires = "tune")]
    grid: bool,
    /// Folder for the results; results/GPU/DATE-NAME when left out.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What the GPU costs an hour in US dollars; the bundled on-demand price when left out.
    #[arg(long, value_name = "USD", value_parser = price)]
    price: Option<MicroUsd>,
    /// Set the GPU's compute mode to exclusive-process while MPS runs, so that a tenant that misses its daemon fails instead
    /// of running beside it, and put it back after. Takes root. Proved on simulated GPUs only.
    #[arg(long)]
    allow_settings: bool,
    /// Index or UUID of the GPU.
    #[arg(long, default_value = "0")]
    gpu: String,
    /// Seed of arrivals, weights and prompts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Time between telemetry readings.
    #[arg(long, default_value = "250ms", value_parser = seconds)]
    telemetry_interval: Nanoseconds,
    /// How to print the figures.
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

fn arm(text: &str) -> Result<Arm, String> {
    text.parse().map_err(|error: cotenant_model::arm::ArmError| {
        format!("{error}; the arms are: {}", cotenant_model::arm::ArmError::KNOWN)
    })
}

fn seconds(text: &str) -> Result<Nanoseconds, String> {
    let quantity = if text.ends_with(|c: char| c.is_ascii_digit()) { format!("{text}s") } else { text.to_owned() };
    let span: Nanoseconds = quantity
        .parse()
        .map_err(|_quantity| format!("`{text}` is not a number of seconds or a duration such as 500ms"))?;
    if (1_000_000..=3_600_000_000_000).contains(&span.0) {
        Ok(span)
    } else {
        Err("it must be from 1ms to 1h".to_owned())
    }
}

fn price(text: &str) -> Result<MicroUsd, String> {
    text.parse().map_err(|error: cotenant_model::unit::QuantityError| error.to_string())
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let workload = match &arguments.workload {
        Some(path) => workload::read(path)?,
        None => workload::parse(STANDARD.0, STANDARD.1)?,
    };
    let prepared = match prepare::prepare(arguments, workload) {
        Ok(prepared) => prepared,
        Err(prepare::Unready::NoGpu { why, workload }) => return without_gpu(arguments, &why, &workload),
        Err(prepare::Unready::Failure(failure)) => return Err(failure),
    };
    measure(arguments, prepared)
}

/// What is true without a GPU: why there is none, and what a recorded run showed.
fn without_gpu(arguments: &Arguments, why: &Failure, workload: &Workload) -> Result<ExitCode, Failure> {
    let code = why.report();
    let wanted = arguments.workload.as_ref().map(|_| workload.name.as_str());
    let Some(run) = recorded::run(wanted) else {
        terminal::complain(&format!(
            "hint: no recorded run of `{}` comes with this program; `cotenant compare` alone shows one",
            workload.name
        ));
        return Ok(code);
    };
    let run = run.map_err(|error| Failure::from_error(Kind::Other, &error))?;
    terminal::complain(&format!(
        "Nothing was measured here. What follows was recorded on {} at {}:",
        run.host.gpu.name, run.started
    ));
    let summary = Summary::of(&run);
    let recorded = Report::new(&run, &summary).recorded();
    report::show(&recorded, arguments.output)?;
    let folder = arguments.out.clone().unwrap_or_else(|| PathBuf::from(format!("results/recorded/{}", run.name)));
    // The recording comes with the program: where it cannot be written nothing is lost, and nothing is left elsewhere.
    match prepare::writable(&folder).and_then(|()| save(&run, &recorded, &folder)) {
        Ok(()) => {}
        Err(failure) => drop(failure.report()),
    }
    // The demonstration is what was asked for; a workload of one's own was not measured, and a script must see that.
    Ok(if arguments.workload.is_none() { ExitCode::SUCCESS } else { code })
}

fn measure(arguments: &Arguments, prepared: Prepared) -> Result<ExitCode, Failure> {
    let mut progress = progress::Progress::new();
    let folder = prepared.folder.clone();
    let outcome =
        prepared.with_machine(|comparison, machine, started| compare(comparison, machine, &mut progress, started))?;
    progress.finish();
    let Outcome { run, interrupted } = outcome.map_err(|error| {
        Failure::from_error(Kind::Input, &error).hint("give the tenants smaller `weights` or `size`, or leave one out")
    })?;
    let summary = Summary::of(&run);
    let shown = Report::new(&run, &summary);
    report::show(&shown, arguments.output)?;
    save(&run, &shown, &folder)?;
    let failed: Vec<&str> =
        summary.arms.iter().flat_map(|arm| &arm.failures).map(|(tenant, _)| tenant.as_str()).collect();
    if interrupted {
        return Ok(Kind::Interrupted.into());
    }
    if failed.is_empty() { Ok(ExitCode::SUCCESS) } else { Ok(Kind::Tenant.into()) }
}

/// Writes the results; where that fails, into the folder for temporary files, so that nothing measured is lost.
fn save(run: &Run, shown: &Report<'_>, folder: &std::path::Path) -> Result<(), Failure> {
    let text = store::render(run).map_err(|error| Failure::from_error(Kind::Other, &error))?;
    let record = folder.join(report::RECORD);
    if let Err(error) = store::write(&record, &text) {
        let failure = Failure::from_error(Kind::Output, &error);
        let refuge = std::env::temp_dir().join(format!("cotenant-{}-{}.json", run.name, std::process::id()));
        return Err(match store::write(&refuge, &text) {
            Ok(()) => failure.hint(format!(
                "the record is at `{}` instead; `cotenant report` makes the rest from it",
                refuge.display()
            )),
            Err(_also_full) => failure.hint("the record could not be kept anywhere; the table above is all there is"),
        });
    }
    terminal::complain(&format!("wrote {}", record.display()));
    for path in report::write(shown, folder, report::RECORD)? {
        terminal::complain(&format!("wrote {}", path.display()));
    }
    Ok(())
}
