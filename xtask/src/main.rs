//! Chores of the repository: `cargo xtask CHORE`.
//!
//! This room owns what the repository needs besides the program: its checks, the files that are generated and checked
//! in, real programs for tests, and the one command that runs every test. It refuses to be a part of the program: no
//! crate depends on it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what a chore has to say is its result")]

mod check;
mod cluster;
mod ollama;
mod ptx;
mod schema;
mod test;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Chores of the repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Chore {
    /// Check the rules of the house: layers of the crates, sizes of functions and files, lints, words and links.
    Check,
    /// Compile the load kernels to the PTX that is checked in.
    Ptx(ptx::Arguments),
    /// Write the JSON schemas and the page of the command line that are checked in.
    Schema(schema::Arguments),
    /// Write the code of the kubelet's gRPC interfaces that is checked in.
    Wire(wire::Arguments),
    /// Build a real Ollama and its small model into the cache.
    Ollama(ollama::Arguments),
    /// Bring a real Kubernetes with simulated GPUs up on this machine, or down.
    Cluster(cluster::Arguments),
    /// Run the tests that need a real Kubernetes, on one of their own.
    E2e(cluster::TestArguments),
    /// Run every check and every test, as CI does.
    Test(test::Arguments),
}

fn main() -> ExitCode {
    match run(Chore::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<ExitCode> {
    match chore {
        Chore::Check => check::run()?,
        Chore::Ptx(arguments) => ptx::run(&arguments)?,
        Chore::Schema(arguments) => schema::run(&arguments)?,
        Chore::Wire(arguments) => wire::run(&arguments)?,
        Chore::Ollama(arguments) => ollama::run(&arguments)?,
        Chore::Cluster(arguments) => return cluster::run(&arguments),
        Chore::E2e(arguments) => return cluster::test(&arguments),
        Chore::Test(arguments) => return Ok(test::run(&arguments)),
    }
    Ok(ExitCode::SUCCESS)
}

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, PathBuf::from)
}
