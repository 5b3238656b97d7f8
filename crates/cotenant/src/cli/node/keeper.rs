//! `cotenant node keeper`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cotenant_model::Bytes;
use cotenant_node::keeper::client::KeeperClient;
use cotenant_node::keeper::protocol::{Answer, Ask};
use cotenant_node::keeper::{Config, Keeper, KeeperError};

use super::places::MpsRoot;
use crate::exit::{Failure, Kind};
use crate::terminal;

/// How long a keeper may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(3);

/// Keep the MPS control daemons of this node, so that they outlive the agent.
///
/// Started once a node, apart from `cotenant node`, which tells it over `<mps root>/keeper.sock` what to keep. Killed, it leaves
/// its daemons running and the next keeper takes them over. On SIGTERM it ends them, puts compute modes back and unmounts:
/// MPS clients lose their server.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    root: MpsRoot,
    /// Size of the shared memory that containers get as /dev/shm, such as 8GiB; half of the host's memory when left out.
    #[arg(long, value_name = "SIZE")]
    shared_memory: Option<Bytes>,
    /// The driver's library, found by the linker when left out.
    #[arg(long, env = "COTENANT_NVML", value_name = "FILE")]
    nvml: Option<PathBuf>,
    /// Only say whether a keeper answers.
    #[arg(long)]
    check: bool,
    /// Leave the session of the process that starts it.
    #[arg(long, hide = true)]
    detach: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let root = &arguments.root.mps_root;
    if !root.is_absolute() {
        return Err(Failure::new(Kind::Input, format!("the MPS root `{}` is not an absolute path", root.display())));
    }
    if arguments.check {
        return check(arguments);
    }
    if arguments.detach {
        // It fails for the leader of a process group only, which is detached enough.
        rustix::process::setsid().ok();
    }
    let config = Config {
        root: root.clone(),
        shared_memory: arguments.shared_memory.map(|size| size.0),
        library: arguments.nvml.clone().filter(|path| !path.as_os_str().is_empty()),
    };
    let served = super::serve(|stop| async { Keeper::new(&config)?.run(stop).await })?;
    served.map(|()| ExitCode::SUCCESS).map_err(|error| failure(&error))
}

fn failure(error: &KeeperError) -> Failure {
    match error {
        KeeperError::Running { .. } => Failure::from_error(Kind::Busy, error)
            .hint("one keeper serves a node; `cotenant node keeper --check` says whether it answers"),
        KeeperError::Root { .. } | KeeperError::Socket { .. } => Failure::from_error(Kind::Other, error)
            .hint("the keeper takes root, and a folder that others can pass through"),
    }
}

fn check(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let client = KeeperClient::new(&arguments.root.mps_root);
    let answer = super::block_on(client.ask(Ask::List, PATIENCE))?;
    let answer = answer.map_err(|error| {
        Failure::from_error(Kind::Other, &error)
            .hint("start one with `cotenant node keeper`, or install the keeper's DaemonSet")
    })?;
    let daemons = match answer {
        Answer::All(all) => all.len(),
        Answer::Runs(_) | Answer::Done | Answer::Refused(_) | Answer::Happened(_) => 0,
    };
    terminal::show(&format!("a keeper answers; it keeps {daemons} MPS control daemons"))
        .map_err(|error| Failure::from_error(Kind::Output, &error))?;
    Ok(ExitCode::SUCCESS)
}
