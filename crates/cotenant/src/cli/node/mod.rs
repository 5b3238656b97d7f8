//! `cotenant node`: the daemon of a node, its keeper, and what is asked of them.

mod flags;
mod install;
mod keeper;
mod places;
mod run;
mod status;
mod uninstall;

use std::process::ExitCode;

use clap::Subcommand;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Failure, Kind};

/// Serve the GPUs of this node to Kubernetes: device plugin, MPS, MIG, labels, health, recovery and metrics.
///
/// Takes the place of NVIDIA's device plugin, GPU feature discovery and MPS control daemon, with the same configuration file,
/// resource names, device ids and labels, and takes that plugin's options and environment. An option goes before its
/// environment variable, that before the file, that before the default; an empty variable counts as none. Runs until
/// SIGTERM or Ctrl-C; pods that hold a device run on.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = run::CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: run::Arguments,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The same as `cotenant node`.
    #[command(hide = true, after_help = run::CODES)]
    Run(Box<run::Arguments>),
    Keeper(keeper::Arguments),
    Status(status::Arguments),
    Install(install::Arguments),
    Uninstall(uninstall::Arguments),
}

impl Arguments {
    /// Whether it is a daemon, whose log tells what it does.
    pub(crate) const fn is_daemon(&self) -> bool {
        matches!(self.verb, None | Some(Verb::Run(_) | Verb::Keeper(_)))
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.verb {
        None => run::run(&arguments.run),
        Some(Verb::Run(arguments)) => run::run(arguments),
        Some(Verb::Keeper(arguments)) => keeper::run(arguments),
        Some(Verb::Status(arguments)) => status::run(arguments),
        Some(Verb::Install(arguments)) => install::run(arguments),
        Some(Verb::Uninstall(arguments)) => uninstall::run(arguments),
    }
}

/// Runs asynchronous work on this thread. One thread does: nothing here computes.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::from_error(Kind::Other, &error))?;
    let done = runtime.block_on(work);
    // A thread that waits for a driver that hangs must not keep the program.
    runtime.shutdown_background();
    Ok(done)
}

/// Runs a daemon until it ends by itself or has been told to by SIGTERM or Ctrl-C and has tidied up.
fn serve<T, F: Future<Output = T>>(daemon: impl FnOnce(CancellationToken) -> F) -> Result<T, Failure> {
    block_on(async {
        let stop = CancellationToken::new();
        let listen = |kind| signal(kind).map_err(|error| Failure::from_error(Kind::Other, &error));
        let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let told = stop.clone();
        let work = daemon(stop);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            told.cancel();
        }
    })?
}
