//! The command line: one file a subcommand.

mod compare;
mod completions;
mod config;
mod diff;
mod exec_with_parent;
mod manual;
mod node;
mod recorded;
mod report;
mod results;
mod tenant;
mod workload;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::{CODES, Failure};

/// Several AI models on one GPU, at a fraction of the cost, without breaking anyone's latency.
///
/// `cotenant compare` measures what happens to each model when they share a GPU: alone, under time slicing, under CUDA MPS
/// with and without limits. Without an NVIDIA GPU it shows a recorded run.
#[derive(Debug, Parser)]
#[command(name = "cotenant", version, after_help = CODES, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Compare(compare::Arguments),
    Report(report::Arguments),
    Diff(diff::Arguments),
    Results(results::Arguments),
    Config(config::Arguments),
    Node(Box<node::Arguments>),
    Completions(completions::Arguments),
    /// Print the reference of the command line as Markdown (`cargo xtask schema` keeps it in docs/cli.md).
    #[command(hide = true)]
    Manual,
    /// Run one tenant of a comparison (started by `compare`).
    #[command(hide = true)]
    Tenant,
    /// Run a command that ends when its parent does (started by `tenant`).
    #[command(hide = true)]
    ExecWithParent(exec_with_parent::Arguments),
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Runs the command line.
pub(crate) fn run() -> Result<ExitCode, Failure> {
    let cli = Cli::parse();
    logging(if matches!(&cli.verb, Verb::Node(arguments) if arguments.is_daemon()) { "info" } else { "warn" });
    match cli.verb {
        Verb::Compare(arguments) => compare::run(&arguments),
        Verb::Report(arguments) => report::run(&arguments),
        Verb::Diff(arguments) => diff::run(&arguments),
        Verb::Results(arguments) => results::run(&arguments),
        Verb::Config(arguments) => config::run(&arguments),
        Verb::Node(arguments) => node::run(&arguments),
        Verb::Completions(arguments) => completions::run(&arguments),
        Verb::Manual => manual::run(),
        Verb::Tenant => tenant::run(),
        Verb::ExecWithParent(_) => exec_with_parent::run(),
    }
}

/// Diagnostics go to standard error; `COTENANT_LOG=debug` shows more.
fn logging(usual: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("COTENANT_LOG")
        // The API client tells of an absent server once; the library below it at every attempt.
        .unwrap_or_else(|_unset| tracing_subscriber::EnvFilter::new(format!("{usual},kube_client=off,hyper_util=off")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
}
