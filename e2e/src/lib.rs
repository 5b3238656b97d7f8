//! A real Kubernetes on one machine, for tests: no container engine, no registry, no GPU.
//!
//! This room owns the programs of a cluster (built from Go modules or installed from Debian), the machines they run in,
//! container images made of this repository's programs, and what tests need to use them. It refuses to simulate any of
//! Kubernetes: API server, scheduler, kubelet, containerd and pods are the real ones. **The GPUs, their driver and their MPS
//! are simulated**, by the library and the programs of `cotenant-testkit`, and so is NVIDIA's container runtime, which puts
//! them into containers; every report of a test says so.
//!
//! ```text
//!  host ── 127.0.0.1:PORT ─┐ (a socket of the host's in the hands of the machine's first process)
//!                          ▼
//!  ┌ machine control-plane ─────────┐      ┌ machine n1 ────────────────────────────┐
//!  │ etcd, kube-apiserver,          │ veth │ containerd, kubelet, kube-proxy, pods  │
//!  │ controller manager, scheduler  ├──────┤ /run/e2e/world: simulated GPUs and MPS │
//!  └────────────────────────────────┘      └────────────────────────────────────────┘
//! ```
//!
//! A machine is a set of namespaces ([`machine`]): it writes to no disk of the host, sees none of its devices, and has no
//! way to a network but the one above. Nothing is left when its first process is killed but control groups and the folder
//! of the cluster, which `State::clear` removes.

pub mod cluster;
pub mod image;
pub mod kubernetes;
pub mod machine;
pub mod place;
pub mod process;
pub mod tools;
pub mod wait;
pub mod world;

use std::path::PathBuf;

use anyhow::Context as _;

pub use self::cluster::Cluster;
pub use self::place::Place;

/// The folder where cargo puts the programs of this repository: the one that this program or test was built into.
///
/// # Errors
/// When this program lies in no folder of cargo's.
pub fn own_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("this program has no path")?;
    let folder = program.ancestors().find(|folder| folder.join("deps").is_dir());
    folder.map(PathBuf::from).with_context(|| format!("{} was not built by cargo", program.display()))
}
