//! Where a node's daemon has its sockets, for the commands that speak to it.

use std::path::PathBuf;

/// The MPS root where nothing else is said.
pub(super) const MPS_ROOT: &str = "/run/nvidia/mps";
/// The agent's socket where nothing else is said.
pub(super) const SOCKET: &str = "/run/cotenant/node.sock";

/// Where keeper and agent meet.
#[derive(Debug, clap::Args)]
pub(super) struct MpsRoot {
    /// Folder of the MPS control daemons on the host.
    #[arg(long, env = "MPS_ROOT", default_value = MPS_ROOT, value_name = "DIR")]
    pub(super) mps_root: PathBuf,
}
