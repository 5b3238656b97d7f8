//! `cotenant diff`.

use std::path::PathBuf;
use std::process::ExitCode;

use cotenant_bench::report::{self, Report};
use cotenant_bench::summary::Summary;

use super::Format;
use crate::exit::{Failure, Kind};
use crate::terminal;

/// Compare two runs: what got faster or slower beyond the spread of their repeats.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The run.json to compare with.
    before: PathBuf,
    /// The run.json to judge.
    after: PathBuf,
    /// How to print the figures.
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (before, after) = (super::report::read(&arguments.before)?, super::report::read(&arguments.after)?);
    let (old, new) = (Summary::of(&before), Summary::of(&after));
    let (old, new) = (Report::new(&before, &old), Report::new(&after, &new));
    let text = match arguments.output {
        Format::Table => report::diff(&old, &new, super::report::style()),
        Format::Json => report::diff_json(&old, &new).map_err(|error| Failure::from_error(Kind::Other, &error))?,
    };
    terminal::show(&text).map_err(|error| Failure::from_error(Kind::Output, &error))?;
    Ok(ExitCode::SUCCESS)
}
