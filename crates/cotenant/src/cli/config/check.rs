//! `cotenant config check`.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use cotenant_model::document::{Problem, Problems};
use cotenant_model::sharing::layout::{Configs, Layout, Named};
use serde::Serialize;

use crate::cli::Format;
use crate::exit::{Failure, Kind};
use crate::terminal;

/// Problems of one configuration that are shown to people; programs get all.
const SHOWN: usize = 50;

/// Check configurations: every problem at once, each with its line and the fix.
///
/// Ends with 2 when a file has a problem. Notes are no problems: they say what is ignored, as NVIDIA's plugin ignores it, or
/// may not do what was meant.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Configurations, values files, manifests; `-` reads standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How to print what was found.
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut checked = Vec::new();
    for path in &arguments.files {
        checked.push(Checked::of(super::name(path), &super::text(path)?));
    }
    let text = match arguments.output {
        Format::Table => checked.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        Format::Json => {
            serde_json::to_string_pretty(&checked).map_err(|error| Failure::from_error(Kind::Other, &error))?
        }
    };
    terminal::show(&text).map_err(|error| Failure::from_error(Kind::Output, &error))?;
    let sound = checked.iter().all(|file| file.count(|findings| findings.problems.len()) == 0);
    Ok(if sound { ExitCode::SUCCESS } else { Kind::Input.into() })
}

/// What was found in a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    file: String,
    /// What the file is; `None` where it could not be read.
    layout: Option<Layout>,
    /// The configuration of a node without the label, or why there is none; `Ok(None)` is the empty one.
    #[serde(skip)]
    unlabelled: Result<Option<String>, String>,
    /// Of the file around the configurations.
    around: Findings,
    configurations: Vec<Configuration>,
    #[serde(skip)]
    names: String,
}

/// What was found in a configuration.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    name: String,
    #[serde(flatten)]
    findings: Findings,
}

#[derive(Debug, Default, Serialize)]
struct Findings {
    problems: Vec<Problem>,
    notes: Vec<Problem>,
}

impl Findings {
    fn of<T>(result: Result<T, Problems>, notes: impl FnOnce(T) -> Vec<Problem>) -> Self {
        match result {
            Ok(checked) => Self { problems: Vec::new(), notes: notes(checked) },
            Err(problems) => Self { problems: problems.iter().cloned().collect(), notes: problems.notes().to_vec() },
        }
    }

    fn of_named(named: &Named) -> Self {
        if named.is_mig_parted() {
            Self::of(named.mig_configs(), |_layouts| Vec::new())
        } else {
            Self::of(named.sharing(), |sharing| sharing.notes)
        }
    }
}

impl Checked {
    fn of(file: String, text: &str) -> Self {
        let configs = match Configs::read(&file, text) {
            Ok(configs) => configs,
            Err(problems) => {
                let around = Findings::of(Err::<(), _>(problems), |()| Vec::new());
                return Self {
                    file,
                    layout: None,
                    unlabelled: Ok(None),
                    around,
                    configurations: Vec::new(),
                    names: String::new(),
                };
            }
        };
        let configurations = configs
            .named
            .iter()
            .map(|named| Configuration { name: named.name.clone(), findings: Findings::of_named(named) })
            .collect();
        let unlabelled = configs.select(None).map(|named| named.map(|named| named.name.clone()));
        let unlabelled = unlabelled.map_err(|error| error.to_string());
        let names = super::names(&configs);
        let around = Findings { problems: Vec::new(), notes: configs.notes };
        Self { file, layout: Some(configs.layout), unlabelled, around, configurations, names }
    }

    fn findings(&self) -> impl Iterator<Item = &Findings> {
        std::iter::once(&self.around).chain(self.configurations.iter().map(|configuration| &configuration.findings))
    }

    /// One finding, at its place.
    fn line(&self, f: &mut fmt::Formatter<'_>, is_note: bool, found: &Problem) -> fmt::Result {
        let Problem { position, path, message, fix } = found;
        write!(f, "{}:{}:{}: ", self.file, position.line, position.column)?;
        f.write_str(if is_note { "note: " } else { "" })?;
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        writeln!(f, "{message}")?;
        fix.as_ref().map_or(Ok(()), |fix| writeln!(f, "  fix: {fix}"))
    }

    fn count(&self, of: impl Fn(&Findings) -> usize) -> usize {
        self.findings().map(of).sum()
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for findings in self.findings() {
            let mut lines: Vec<(bool, &Problem)> =
                findings.problems.iter().take(SHOWN).map(|problem| (false, problem)).collect();
            lines.extend(findings.notes.iter().map(|note| (true, note)));
            lines.sort_by_key(|(_, problem)| problem.position);
            for (is_note, problem) in lines {
                self.line(f, is_note, problem)?;
            }
        }
        write!(f, "{}: ", self.file)?;
        if let Some(layout) = self.layout {
            write!(f, "{}", layout.words())?;
            if !self.names.is_empty() {
                write!(f, ", {}", self.names)?;
            }
            match &self.unlabelled {
                Ok(Some(name)) if self.configurations.len() > 1 => write!(f, " ({name} for a node without a label)")?,
                Ok(_) => {}
                Err(reason) => write!(f, " (for a node without a label: {reason})")?,
            }
            f.write_str(": ")?;
        }
        let problems = counted(self.count(|findings| findings.problems.len()), "problem");
        write!(f, "{problems}, {}", counted(self.count(|findings| findings.notes.len()), "note"))
    }
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}
