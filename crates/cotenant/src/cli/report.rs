//! `cotenant report`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cotenant_bench::report::{Report, TableStyle};
use cotenant_bench::store;
use cotenant_bench::summary::Summary;
use cotenant_model::run::Run;

use super::Format;
use crate::exit::{Failure, Kind};
use crate::terminal;

/// The record's file name, and so its link from a page beside it.
pub(crate) const RECORD: &str = "run.json";

/// Rebuild the table, report.html and timeline.gif of a run from its run.json.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The record.
    run: PathBuf,
    /// Folder for report.html and timeline.gif; beside the record when left out.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the table only, write nothing.
    #[arg(long, conflicts_with = "out")]
    table_only: bool,
    /// How to print the figures.
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let record = read(&arguments.run)?;
    let summary = Summary::of(&record);
    let report = Report::new(&record, &summary);
    show(&report, arguments.output)?;
    if !arguments.table_only {
        let beside = arguments.run.parent().unwrap_or_else(|| Path::new("."));
        let raw = if arguments.out.is_some() { arguments.run.display().to_string() } else { RECORD.to_owned() };
        for path in write(&report, arguments.out.as_deref().unwrap_or(beside), &raw)? {
            terminal::complain(&format!("wrote {}", path.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a record.
pub(crate) fn read(path: &Path) -> Result<Run, Failure> {
    store::read(path).map_err(|error| {
        Failure::from_error(Kind::Input, &error).hint("a record is the run.json that `cotenant compare` writes")
    })
}

/// Prints a report's figures.
pub(crate) fn show(report: &Report<'_>, format: Format) -> Result<(), Failure> {
    let text = match format {
        Format::Table => report.table(style()),
        Format::Json => report.json().map_err(|error| Failure::from_error(Kind::Other, &error))?,
    };
    terminal::show(&text).map_err(|error| Failure::from_error(Kind::Output, &error))
}

/// As wide and as colourful as the terminal.
pub(crate) fn style() -> TableStyle {
    TableStyle { width: usize::from(terminal::columns()), color: terminal::colourful() }
}

/// Writes the page and the animated timeline into a folder; `raw` is the page's link to the record.
pub(crate) fn write(report: &Report<'_>, folder: &Path, raw: &str) -> Result<Vec<PathBuf>, Failure> {
    let unwritten =
        |error: store::StoreError| Failure::from_error(Kind::Output, &error).hint("choose another folder with --out");
    let page = folder.join("report.html");
    store::write(&page, report.html(raw).as_bytes()).map_err(unwritten)?;
    let mut written = vec![page];
    if let Some(animation) = report.timeline().map_err(|error| Failure::from_error(Kind::Other, &error))? {
        let path = folder.join("timeline.gif");
        store::write(&path, &animation).map_err(unwritten)?;
        written.push(path);
    }
    Ok(written)
}
