//! The `cotenant` program: several AI models on one GPU, measured.
//!
//! This crate owns the command line: one file a subcommand in `cli`, and what a failure looks like in `exit`. It holds no
//! behaviour of its own: measuring and reporting are the business of `cotenant-bench` and the rooms below it.

mod cli;
mod exit;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
