//! `cotenant diff`.

use std::path::PathBuf;
use std::process::ExitCode;

use cotenant_bench::report::{self, Report};
use cotenant_bench::summary::Summary;

use crate::exit::{Failure, Kind};
use crate::terminal;

/// Compare two runs: what got faster or slower beyond the spread of their repeats.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The run.json to compare with.
    before: PathBuf,
    /// The run.json to judge.
    after: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (before, after) = (super::report::read(&arguments.before)?, super::report::read(&arguments.after)?);
    let (old, new) = (Summary::of(&before), Summary::of(&after));
    let text = report::diff(&Report::new(&before, &old), &Report::new(&after, &new), super::report::style());
    terminal::show(&text).map_err(|error| Failure::from_error(Kind::Output, &error))?;
    Ok(ExitCode::SUCCESS)
}
