//! A node: containerd, kubelet and kube-proxy in a machine of their own, and the simulated GPUs in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;

use super::control_plane::{API, keys_inside, kubernetes_part};
use super::keys::{self, Authority, Subject};
use super::network::{self, PODS, node_address, node_pods};
use super::{Programs, State, cgroup};
use crate::image::Image;
use crate::machine::{INSIDE, Machine, Part, Specification};
use crate::process;
use crate::wait;
use crate::world::World;

/// Time for containerd to listen.
const CONTAINERD: Duration = Duration::from_secs(60);
/// Time for an image to be unpacked.
const IMPORT: Duration = Duration::from_secs(120);
/// Time for a part to end by itself.
const GRACE: Duration = Duration::from_secs(20);

/// A node of the cluster.
#[derive(Debug, Clone)]
pub struct Node {
    name: String,
    number: u8,
    machine: Machine,
}

/// The name of a node, numbered from 1.
pub(super) fn name(number: u8) -> String {
    format!("n{number}")
}

impl Node {
    /// Starts the machine with containerd, and its simulated GPUs. The kubelet needs an API server that answers.
    pub(super) fn start(state: &State, programs: &Programs, authority: &Authority, number: u8) -> anyhow::Result<Self> {
        let name = name(number);
        let folder = state.machine(&name);
        write_files(&folder, &state.control_group(&name), authority, number)?;
        World::install(&folder.join("world"), programs)?;
        let runtime = folder.join("bin/nvidia-container-runtime");
        fs::create_dir_all(folder.join("bin"))?;
        fs::copy(programs.nvidia_runtime(), &runtime).with_context(|| format!("cannot make {}", runtime.display()))?;
        cgroup::make(&state.control_group(&name))?;
        let specification = Specification { hostname: name, binds: vec![programs.bind()], door: None };
        Machine::start(&folder, &programs.machine(), &specification, None)?;
        let node = Self::attach(state, number)?;
        node.machine.start_part(&containerd())?;
        Ok(node)
    }

    /// The node that runs.
    pub(super) fn attach(state: &State, number: u8) -> anyhow::Result<Self> {
        let name = name(number);
        let machine = Machine::attach(&state.machine(&name))?;
        Ok(Self { name, number, machine })
    }

    /// Joins the cluster.
    pub(super) fn join(&self) -> anyhow::Result<()> {
        self.machine.start_part(&kubelet(&self.name, self.number))?;
        self.machine.start_part(&proxy())
    }

    pub(super) fn connect(&self, control_plane: &Machine) -> anyhow::Result<()> {
        network::connect(control_plane, &self.machine, self.number)
    }

    /// Its name, the node object's too.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its machine.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Its simulated GPUs and driver.
    #[must_use]
    pub fn world(&self) -> World {
        World::at(self.machine.folder().join("world"))
    }

    /// Gives it an image. What is there already under this name is replaced.
    ///
    /// # Errors
    /// When containerd does not listen in time or cannot read the image.
    pub fn import(&self, image: &Image) -> anyhow::Result<()> {
        wait::until("containerd", CONTAINERD, || self.containerd(&["version"], Stdio::null()))?;
        let archive = fs::File::open(image.archive())?;
        self.containerd(&["images", "import", "-"], Stdio::from(archive))
            .with_context(|| format!("cannot import {}", image.name()))?;
        Ok(())
    }

    fn containerd(&self, arguments: &[&str], stdin: Stdio) -> anyhow::Result<String> {
        let mut ctr = self.machine.command("ctr");
        process::run(ctr.args(["--namespace", "k8s.io"]).args(arguments).stdin(stdin), IMPORT)
    }

    /// Runs a command in the node's machine, as an operator at its shell would, and gives back what it prints.
    ///
    /// # Errors
    /// When it fails or does not end in time.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        process::run(self.machine.command(program).args(arguments), Duration::from_secs(60))
    }

    /// Ends the kubelet; pods run on.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn stop_kubelet(&self) -> anyhow::Result<()> {
        self.machine.stop_part("kubelet", GRACE)
    }

    /// Starts the kubelet again.
    ///
    /// # Errors
    /// When it runs.
    pub fn start_kubelet(&self) -> anyhow::Result<()> {
        self.machine.start_again("kubelet")
    }

    /// Ends the kubelet and starts it again.
    ///
    /// # Errors
    /// As the two.
    pub fn restart_kubelet(&self) -> anyhow::Result<()> {
        self.stop_kubelet()?;
        self.start_kubelet()
    }
}

fn write_files(folder: &Path, control_group: &str, authority: &Authority, number: u8) -> anyhow::Result<()> {
    let (keys, files) = (folder.join("keys"), folder.join("files"));
    for made in [&keys, &files, &files.join("cni")] {
        fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
    }
    authority.write(&keys)?;
    let user = format!("system:node:{}", name(number));
    authority.client(&keys, &Subject { file: "kubelet", user: &user, group: Some("system:nodes") })?;
    authority.client(&keys, &Subject { file: "kube-proxy", user: "system:kube-proxy", group: None })?;
    for part in ["kubelet", "kube-proxy"] {
        let path = keys.join(format!("{part}.conf"));
        keys::write_kubeconfig(&path, &format!("https://{API}"), &keys_inside(), part)?;
    }
    fs::write(files.join("containerd.toml"), containerd_file())?;
    fs::write(files.join("cni/10-e2e.conflist"), cni_file(number))?;
    fs::write(files.join("kubelet.yaml"), kubelet_file(control_group))?;
    fs::write(files.join("kube-proxy.yaml"), proxy_file(&name(number)))?;
    Ok(())
}

fn file(name: &str) -> String {
    PathBuf::from(INSIDE).join("files").join(name).display().to_string()
}

fn containerd() -> Part {
    let arguments = vec!["--config".to_owned(), file("containerd.toml")];
    Part { name: "containerd".to_owned(), program: "containerd".to_owned(), arguments }
}

fn kubelet(name: &str, number: u8) -> Part {
    let arguments = [
        format!("--config={}", file("kubelet.yaml")),
        format!("--kubeconfig={}", keys_inside().join("kubelet.conf").display()),
        format!("--hostname-override={name}"),
        format!("--node-ip={}", node_address(number)),
    ];
    kubernetes_part("kubelet", &arguments)
}

fn proxy() -> Part {
    kubernetes_part("kube-proxy", &[format!("--config={}", file("kube-proxy.yaml"))])
}

/// As on a GPU node: NVIDIA's runtime, here the simulated one, is the one that pods get who name none.
fn containerd_file() -> String {
    let (cni, runtime) = (file("cni"), format!("{INSIDE}/bin/nvidia-container-runtime"));
    format!(
        r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{}"
# Without CAP_SYS_RESOURCE, as in a container, runc may not lower a score and dies.
restrict_oom_score_adj = true
# A profile would be loaded for the whole host.
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{cni}"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "nvidia"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
BinaryName = "{runtime}"
"#,
        crate::image::PAUSE
    )
}

/// One cable a pod: no bridge, so that traffic between pods passes the node's packet rules on every kernel.
fn cni_file(number: u8) -> String {
    format!(
        r#"{{"cniVersion": "0.4.0", "name": "e2e", "plugins": [
  {{"type": "ptp", "ipMasq": false, "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
]}}
"#,
        node_pods(number)
    )
}

fn kubelet_file(control_group: &str) -> String {
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {}/ca.crt}}}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
cgroupRoot: /{control_group}
failCgroupV1: false
failSwapOn: false
resolvConf: ""
volumePluginDir: /var/lib/kubelet/volume-plugins
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
enforceNodeAllocatable: []
evictionHard: {{nodefs.available: "1%", imagefs.available: "1%", memory.available: "100Mi"}}
nodeStatusUpdateFrequency: 2s
syncFrequency: 10s
"#,
        keys_inside().display()
    )
}

fn proxy_file(name: &str) -> String {
    format!(
        r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{kubeconfig: {}}}
clusterCIDR: {PODS}
hostnameOverride: {name}
mode: iptables
# The table of connections is the whole host's, and is left as it is.
conntrack: {{maxPerCore: 0, min: 0}}
"#,
        keys_inside().join("kube-proxy.conf").display()
    )
}
