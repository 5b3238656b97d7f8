//! `cotenant results`.

use std::path::PathBuf;
use std::process::ExitCode;

use cotenant_bench::report::{self, Report};
use cotenant_bench::store;
use cotenant_bench::summary::Summary;

use crate::exit::{Failure, Kind};
use crate::terminal;

/// What makes this repository's page.
const COMMAND: &str = "cotenant results results/*/*/run.json --notes results/notes.md --out docs/results.md";

/// Print a page of results (Markdown) from recorded runs.
///
/// The page of this repository: `cotenant results results/*/*/run.json --notes results/notes.md --out docs/results.md`, run in
/// its root.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The records, by paths from the parent of the page's folder.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Markdown put after the tables, such as what explains a difference.
    #[arg(long, value_name = "FILE")]
    notes: Option<PathBuf>,
    /// Write to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut runs = Vec::new();
    for path in &arguments.runs {
        let run = super::report::read(path)?;
        let summary = Summary::of(&run);
        runs.push((format!("../{}", path.display()), run, summary));
    }
    let entries: Vec<(&str, Report<'_>)> =
        runs.iter().map(|(path, run, summary)| (path.as_str(), Report::new(run, summary))).collect();
    let mut page = report::markdown(&entries, COMMAND);
    if let Some(path) = &arguments.notes {
        let notes = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(Kind::Input, format!("cannot read notes `{}`: {error}", path.display())))?;
        page.push('\n');
        page.push_str(&notes);
    }
    match &arguments.out {
        Some(path) => {
            store::write(path, page.as_bytes()).map_err(|error| Failure::from_error(Kind::Output, &error))?;
            terminal::complain(&format!("wrote {}", path.display()));
        }
        None => terminal::show(&page).map_err(|error| Failure::from_error(Kind::Output, &error))?,
    }
    Ok(ExitCode::SUCCESS)
}
