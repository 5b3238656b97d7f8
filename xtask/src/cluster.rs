//! A real Kubernetes on this machine: for people, and for the tests of `e2e`.
//!
//! The work is done by the program `e2e-cluster`, which is built first: this chore stays small to compile.

use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::test::{cargo, system};

/// What the cluster and its images are made of.
const PACKAGES: [&str; 6] = ["--package", "e2e", "--package", "cotenant", "--package", "cotenant-testkit"];

/// Arguments of `cluster`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    order: Order,
}

#[derive(Debug, clap::Subcommand)]
enum Order {
    /// Bring a cluster up and say how to use it; one that is up stays as it is.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = 1)]
        nodes: u8,
        /// Replace one that is up, with new images of the program.
        #[arg(long)]
        anew: bool,
    },
    /// End it and remove all that is left of it.
    Down,
    /// Say what runs.
    Status,
}

/// Arguments of `e2e`.
#[derive(Debug, clap::Args)]
pub(crate) struct TestArguments {
    /// Run only tests whose name contains this.
    filter: Option<String>,
    /// Install nothing.
    #[arg(long)]
    no_install: bool,
}

/// Brings the cluster for people up or down.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (nodes, anew) = match &arguments.order {
        Order::Up { nodes, anew } => (nodes.to_string(), *anew),
        Order::Down => return end_as(&mut program(&["down"])),
        Order::Status => return end_as(&mut program(&["status"])),
    };
    prepare(true)?;
    succeed(cargo(&["build", "--quiet", "--lib", "--bins"]).args(PACKAGES))?;
    end_as(program(&["up", "--nodes", &nodes]).args(anew.then_some("--anew")))
}

/// Brings a cluster up, runs the tests of `e2e` on it, and brings it down.
pub(crate) fn test(arguments: &TestArguments) -> anyhow::Result<ExitCode> {
    prepare(!arguments.no_install)?;
    println!("== the GPUs of this run, their driver and their MPS are simulated; Kubernetes is real");
    succeed(cargo(&["build", "--quiet", "--lib", "--bins"]).args(PACKAGES))?;
    // What takes long is done before the cluster stands and waits.
    succeed(&mut cargo(&["test", "--quiet", "--package", "e2e", "--no-run"]))?;
    let mut tests = program(&["--name", "tests", "run", "--", "cargo", "test", "--package", "e2e", "--tests", "--"]);
    tests.args(["--ignored", "--test-threads=1"]).args(&arguments.filter);
    end_as(&mut tests)
}

/// Sees to the system's programs.
fn prepare(install: bool) -> anyhow::Result<()> {
    let missing = system::prepare(install, &system::cluster_programs());
    let names: Vec<&str> = missing.iter().map(|missing| missing.program).collect();
    anyhow::ensure!(names.is_empty(), "not installed: {}", names.join(", "));
    anyhow::ensure!(system::is_root(), "only root may make the namespaces of a cluster's machines");
    Ok(())
}

/// `e2e-cluster` with these arguments.
fn program(arguments: &[&str]) -> Command {
    let mut program = cargo(&["run", "--quiet", "--package", "e2e", "--bin", "e2e-cluster", "--"]);
    program.args(arguments);
    program
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{} did not start", command.get_program().display()))?;
    anyhow::ensure!(status.success(), "cargo failed ({status})");
    Ok(())
}

fn end_as(command: &mut Command) -> anyhow::Result<ExitCode> {
    let status = command.status().with_context(|| format!("{} did not start", command.get_program().display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
