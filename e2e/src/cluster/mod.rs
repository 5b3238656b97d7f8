//! A cluster: a control plane and nodes, each in a machine of its own on this host.
//!
//! ```text
//!  absent ──up──▶ coming up ──every node Ready──▶ up ──down──▶ absent
//!    ▲                │ failure, kill -9          │ kill -9 of whoever brought it up: it stays up
//!    └────── down ────┴───────────────────────────┘
//! ```

mod cgroup;
mod control_plane;
mod keys;
mod network;
mod node;
mod state;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use self::keys::Authority;
use crate::image::Image;
use crate::kubernetes::Kubernetes;
use crate::machine::Machine;
use crate::process::{command, tail};

pub use self::node::Node;
pub use self::state::{Record, State};

/// Nodes have numbers in their addresses.
const MOST_NODES: u8 = 9;
/// Time for a node to be Ready; it takes 2 s on two idle cores.
const NODE_READY: Duration = Duration::from_secs(90);
/// Time for the API server to answer after it was started again.
const API_AGAIN: Duration = Duration::from_secs(90);

/// What a cluster is to be.
#[derive(Debug)]
pub struct Options {
    /// How many nodes.
    pub nodes: u8,
    /// Images that every node gets, besides the one that holds a pod's namespaces.
    pub images: Vec<Image>,
}

/// Programs that a cluster is made of.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Folder of the programs of Kubernetes.
    pub kubernetes: PathBuf,
    /// Folder where cargo puts programs of this repository.
    pub own: PathBuf,
}

impl Programs {
    fn machine(&self) -> PathBuf {
        self.own.join("e2e-machine")
    }

    fn nvidia_runtime(&self) -> PathBuf {
        self.own.join("e2e-nvidia-runtime")
    }
}

/// A cluster that is up.
#[derive(Debug)]
pub struct Cluster {
    state: State,
    control_plane: Machine,
    nodes: Vec<Node>,
    kubernetes: Kubernetes,
}

impl Cluster {
    /// Brings a cluster up in `state`, which was made and holds none. The caller holds the lock of `state`.
    ///
    /// # Errors
    /// When a part does not come up in time, with its last words. What came up stays, for a look; `State::clear` ends it.
    pub fn up(state: &State, programs: &Programs, options: &Options) -> anyhow::Result<Self> {
        anyhow::ensure!((1..=MOST_NODES).contains(&options.nodes), "a cluster has 1 to {MOST_NODES} nodes");
        let authority = Authority::new()?;
        let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
        let port = door.local_addr()?.port();
        let control_plane = control_plane::start(state, programs, &authority, door)?;
        // The nodes get their images while the API server comes up.
        let nodes: Vec<Node> = (1..=options.nodes)
            .map(|number| {
                let node = Node::start(state, programs, &authority, number)?;
                node.connect(&control_plane)?;
                options.images.iter().try_for_each(|image| node.import(image))?;
                Ok(node)
            })
            .collect::<anyhow::Result<_>>()?;
        let mut kubectl = || kubectl(&programs.kubernetes, state);
        control_plane::wait_until_ready(&control_plane, &mut kubectl)?;
        control_plane::start_controllers(&control_plane)?;
        nodes.iter().try_for_each(Node::join)?;
        let record = Record { port, kubernetes: programs.kubernetes.clone(), nodes: options.nodes };
        let kubernetes = Kubernetes::connect(state, &record)?;
        for node in &nodes {
            let ready = kubernetes.wait_until_node_ready(node.name(), NODE_READY);
            ready.with_context(|| last_words(node.machine(), &["containerd", "kubelet"]))?;
        }
        kubernetes.wait_for_account("default", NODE_READY)?;
        state.write_record(&record)?;
        Ok(Self { state: state.clone(), control_plane, nodes, kubernetes })
    }

    /// The cluster that is up in `state`.
    ///
    /// # Errors
    /// When there is none, or a machine of it has ended.
    pub fn attach(state: &State) -> anyhow::Result<Self> {
        let record = state.record()?.with_context(|| format!("no cluster is up in {}", state.folder().display()))?;
        let control_plane = Machine::attach(&state.machine(control_plane::NAME))?;
        let nodes = (1..=record.nodes).map(|number| Node::attach(state, number)).collect::<anyhow::Result<_>>()?;
        let kubernetes = Kubernetes::connect(state, &record)?;
        Ok(Self { state: state.clone(), control_plane, nodes, kubernetes })
    }

    /// Where it is kept.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Its nodes; there is at least one.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Its API.
    #[must_use]
    pub const fn kubernetes(&self) -> &Kubernetes {
        &self.kubernetes
    }

    /// Machines by name.
    pub fn machines(&self) -> impl Iterator<Item = (&str, &Machine)> {
        let nodes = self.nodes.iter().map(|node| (node.name(), node.machine()));
        std::iter::once((control_plane::NAME, &self.control_plane)).chain(nodes)
    }

    /// Takes the API server away, at once: on SIGTERM it would take up to a minute.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop_api(&self) -> anyhow::Result<()> {
        self.control_plane.kill_part("kube-apiserver")
    }

    /// Brings the API server back and waits until it answers.
    ///
    /// # Errors
    /// When it runs, or does not answer in time.
    pub fn start_api(&self) -> anyhow::Result<()> {
        self.control_plane.start_again("kube-apiserver")?;
        crate::wait::until("the API server", API_AGAIN, || self.kubernetes.ready())
    }

    /// Starts every part that has ended and waits until all is as it was when the cluster came up.
    ///
    /// # Errors
    /// When something does not come back.
    pub fn repair(&self) -> anyhow::Result<()> {
        for (_name, machine) in self.machines() {
            for part in machine.parts()?.iter().filter(|part| part.ended.is_some()) {
                machine.start_again(&part.name)?;
            }
        }
        crate::wait::until("the API server", API_AGAIN, || self.kubernetes.ready())?;
        self.nodes.iter().try_for_each(|node| self.kubernetes.wait_until_node_ready(node.name(), NODE_READY))
    }

    /// Copies everything that a reader of a failure wants into `folder`: logs of all parts and pods, and the objects.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn collect_logs(&self, folder: &Path) -> anyhow::Result<()> {
        collect_logs(&self.state, folder)?;
        for (file, arguments) in [
            ("objects.txt", &["get", "nodes,pods,daemonsets,configmaps", "--all-namespaces", "--output=wide"][..]),
            ("events.txt", &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]),
            ("nodes.yaml", &["get", "nodes", "--output=yaml"]),
            ("pods.yaml", &["get", "pods", "--all-namespaces", "--output=yaml"]),
        ] {
            // An API server that does not answer is a reason to read the rest.
            let text = self.kubernetes.kubectl(arguments).unwrap_or_else(|error| format!("{error:#}\n"));
            fs::write(folder.join(file), text)?;
        }
        Ok(())
    }
}

/// Copies the logs of a cluster, which may be up in part, into `folder`.
///
/// # Errors
/// When the folder cannot be written.
pub fn collect_logs(state: &State, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let Ok(machines) = fs::read_dir(state.folder().join("machines")) else { return Ok(()) };
    for machine in machines {
        let machine = machine?;
        let target = folder.join(machine.file_name());
        let mut copy = command("cp");
        // Logs of pods are links from one folder to another.
        copy.args(["--recursive", "--no-dereference"]).arg(machine.path().join("log")).arg(&target);
        drop(crate::process::run(&mut copy, Duration::from_secs(60)));
    }
    Ok(())
}

/// `kubectl` for a cluster.
#[must_use]
pub fn kubectl(programs: &Path, state: &State) -> Command {
    let mut kubectl = command(programs.join("kubectl"));
    kubectl.arg("--kubeconfig").arg(state.kubeconfig()).env_remove("KUBECONFIG");
    kubectl
}

/// The end of the logs of a machine's parts.
fn last_words(machine: &Machine, parts: &[&str]) -> String {
    let end_of = |part: &&str| {
        let log = fs::read_to_string(machine.folder().join("log").join(format!("{part}.log"))).unwrap_or_default();
        format!("--- the end of {part}'s log\n{}\n", tail(&log, 12))
    };
    parts.iter().map(end_of).collect()
}
