//! `cotenant completions`.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::exit::{Failure, Kind};
use crate::terminal;

/// Print completions for a shell.
///
/// For bash: `cotenant completions bash > /etc/bash_completion.d/cotenant`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell.
    shell: clap_complete::Shell,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Cli::command(), "cotenant", &mut script);
    terminal::show(&String::from_utf8_lossy(&script)).map_err(|error| Failure::from_error(Kind::Output, &error))?;
    Ok(ExitCode::SUCCESS)
}
