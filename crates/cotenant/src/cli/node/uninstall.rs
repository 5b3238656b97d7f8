//! `cotenant node uninstall`.

use std::process::ExitCode;
use std::time::Duration;

use cotenant_cluster::uninstall::NodeOutcome;
use cotenant_model::Nanoseconds;

use super::install::ReleaseArguments;
use crate::exit::{Failure, Kind};
use crate::terminal;

/// Have every agent clean up its node, then remove the installation.
///
/// Labels, sockets, CDI files, MPS daemons, mounts and compute modes go; pods on exclusive and time-sliced GPUs run on, MPS
/// clients end. What became of each node is said. Asking again after a failure goes on where it stopped.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    release: ReleaseArguments,
    /// Leave the objects: Helm removes them.
    #[arg(long)]
    keep_objects: bool,
    /// Label selector of the agents' pods; follows from the values when left out.
    #[arg(long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// How long to wait for the agents, such as 90s.
    #[arg(long, value_name = "TIME")]
    timeout: Option<Nanoseconds>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let installation = arguments.release.installation()?;
    let selector = arguments.selector.clone().unwrap_or_else(|| installation.agent_selector());
    let patience =
        arguments.timeout.map_or_else(|| Duration::from_secs(installation.uninstall_seconds()), Nanoseconds::duration);
    let failed = |error: &cotenant_cluster::ApiError| Failure::from_error(Kind::Other, error);
    let outcomes = super::block_on(async {
        let client = arguments.release.client().await?;
        let outcomes = client
            .uninstall_nodes(installation.namespace(), &selector, patience, terminal::complain)
            .await
            .map_err(|error| failed(&error))?;
        if !arguments.keep_objects {
            client.delete_objects(&installation.objects()).await.map_err(|error| failed(&error))?;
        }
        Ok::<_, Failure>(outcomes)
    })??;
    let left: Vec<String> = outcomes.iter().filter_map(|(node, outcome)| left_on(node, outcome)).collect();
    if left.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    // Helm takes a failure of its hook for a reason to keep the rest; what is left is said, and the rest still goes.
    let failure = Failure::new(Kind::Other, format!("something may be left:\n  {}", left.join("\n  ")))
        .hint("a restart of such a node ends daemons and mounts and puts compute modes back");
    if arguments.keep_objects {
        failure.report();
        return Ok(ExitCode::SUCCESS);
    }
    Err(failure)
}

fn left_on(node: &str, outcome: &NodeOutcome) -> Option<String> {
    match outcome {
        NodeOutcome::Clean => None,
        NodeOutcome::Failed(why) => Some(format!("node {node}: {why}")),
        NodeOutcome::Silent => Some(format!("node {node}: its agent has not answered")),
        NodeOutcome::NoAgent => Some(format!("node {node}: no agent runs there")),
    }
}
