//! The network between the machines of a cluster: a bridge in the control plane's machine, and a cable to each node.
//!
//! Nothing of it touches the host's own network: every device lies in a machine's namespace.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;

use crate::machine::Machine;
use crate::process;

/// The control plane's address on the bridge.
pub(super) const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// The API server's address among services.
pub(super) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Addresses of services.
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// Addresses of all pods.
pub(super) const PODS: &str = "10.244.0.0/16";

/// The address of a node, numbered from 1.
pub(super) const fn node_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, 10 + number)
}

/// The addresses of a node's pods.
pub(super) fn node_pods(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

/// Lays the bridge.
pub(super) fn lay_bridge(control_plane: &Machine) -> anyhow::Result<()> {
    let commands = format!(
        "link set lo up\n\
         link add nodes type bridge\n\
         address add {CONTROL_PLANE}/24 dev nodes\n\
         link set nodes up\n\
         route add default dev nodes\n"
    );
    ip(control_plane, &commands)
}

/// Lays the cable of a node and the routes to and from its pods.
pub(super) fn connect(control_plane: &Machine, node: &Machine, number: u8) -> anyhow::Result<()> {
    let (address, pods, end) = (node_address(number), node_pods(number), format!("node{number}"));
    let at_node = format!(
        "link set lo up\n\
         link add eth0 type veth peer name {end} netns {}\n\
         address add {address}/24 dev eth0\n\
         link set eth0 up\n\
         route add default via {CONTROL_PLANE}\n",
        control_plane.init()
    );
    ip(node, &at_node)?;
    ip(control_plane, &format!("link set {end} master nodes up\nroute add {pods} via {address}\n"))
}

/// Runs lines of `ip` in a machine's network.
fn ip(machine: &Machine, commands: &str) -> anyhow::Result<()> {
    let mut script = tempfile::tempfile()?;
    script.write_all(commands.as_bytes())?;
    std::io::Seek::rewind(&mut script)?;
    let mut ip = machine.network_command("ip");
    ip.args(["-batch", "-"]).stdin(Stdio::from(script));
    process::run(&mut ip, Duration::from_secs(20)).context("cannot lay the network").map(|_said| ())
}
