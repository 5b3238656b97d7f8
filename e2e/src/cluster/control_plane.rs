//! The control plane: etcd, API server, controller manager and scheduler in a machine of their own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{self, Authority, Subject};
use super::network::{API_SERVICE, CONTROL_PLANE, SERVICES};
use super::{Programs, State, network};
use crate::machine::{Bind, INSIDE, Machine, Part, Specification};
use crate::{process, wait};

/// Name of the machine.
pub(super) const NAME: &str = "control-plane";
/// Where the API server listens within its machine.
pub(super) const API: SocketAddr = SocketAddr::new(IpAddr::V4(CONTROL_PLANE), 6443);
/// Where a machine sees the programs of Kubernetes.
pub(super) const PROGRAMS: &str = "/opt/kubernetes";
const ETCD: &str = "http://127.0.0.1:2379";

/// Time for the API server to answer; it takes 3 s on two idle cores.
const API_LIMIT: Duration = Duration::from_secs(90);

/// Writes the keys and starts the machine with etcd and the API server. The others need that to answer.
pub(super) fn start(
    state: &State,
    programs: &Programs,
    authority: &Authority,
    outside: TcpListener,
) -> anyhow::Result<Machine> {
    let (folder, port) = (state.machine(NAME), outside.local_addr()?.port());
    write_keys(state, authority, &folder.join("keys"), port)?;
    let specification = Specification { hostname: NAME.to_owned(), binds: vec![programs.bind()], door: Some(API) };
    let machine = Machine::start(&folder, &programs.machine(), &specification, Some(outside))?;
    network::lay_bridge(&machine)?;
    machine.start_part(&etcd())?;
    machine.start_part(&api_server())?;
    Ok(machine)
}

/// Starts what works on the API server's objects.
pub(super) fn start_controllers(machine: &Machine) -> anyhow::Result<()> {
    machine.start_part(&controller_manager())?;
    machine.start_part(&scheduler())
}

/// Waits until the API server is ready.
pub(super) fn wait_until_ready(
    machine: &Machine,
    kubectl: &mut dyn FnMut() -> std::process::Command,
) -> anyhow::Result<()> {
    let ready = wait::until("the API server", API_LIMIT, || {
        let mut ask = kubectl();
        process::run(ask.args(["--request-timeout=5s", "get", "--raw", "/readyz"]), Duration::from_secs(10))
    });
    ready.map(|_ok| ()).map_err(|error| error.context(super::last_words(machine, &["etcd", "kube-apiserver"])))
}

fn write_keys(state: &State, authority: &Authority, folder: &Path, port: u16) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    authority.write(folder)?;
    keys::write_token_keys(folder)?;
    let addresses = [Ipv4Addr::LOCALHOST, CONTROL_PLANE, API_SERVICE].map(IpAddr::V4);
    authority.server(folder, "kube-apiserver", &["localhost", "kubernetes.default.svc"], &addresses)?;
    let administrator = Subject { file: "administrator", user: "administrator", group: Some("system:masters") };
    authority.client(folder, &administrator)?;
    let server = format!("https://127.0.0.1:{port}");
    keys::write_kubeconfig(&state.kubeconfig(), &server, folder, "administrator")?;
    for part in ["kube-controller-manager", "kube-scheduler"] {
        let user = format!("system:{part}");
        authority.client(folder, &Subject { file: part, user: &user, group: None })?;
        let path = folder.join(format!("{part}.conf"));
        keys::write_kubeconfig(&path, &format!("https://{API}"), &keys_inside(), part)?;
    }
    Ok(())
}

/// Where a machine sees its keys.
pub(super) fn keys_inside() -> PathBuf {
    Path::new(INSIDE).join("keys")
}

fn key(file: &str) -> String {
    keys_inside().join(file).display().to_string()
}

impl Programs {
    /// The programs of Kubernetes, where a machine sees them.
    pub(super) fn bind(&self) -> Bind {
        Bind { source: self.kubernetes.clone(), target: PathBuf::from(PROGRAMS) }
    }
}

/// A part that is a program of Kubernetes.
pub(super) fn kubernetes_part(name: &str, arguments: &[String]) -> Part {
    Part { name: name.to_owned(), program: format!("{PROGRAMS}/{name}"), arguments: arguments.to_vec() }
}

fn etcd() -> Part {
    let peers = "http://127.0.0.1:2380";
    let arguments = [
        "--data-dir=/var/lib/etcd".to_owned(),
        format!("--listen-client-urls={ETCD}"),
        format!("--advertise-client-urls={ETCD}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
    ];
    Part { name: "etcd".to_owned(), program: "etcd".to_owned(), arguments: arguments.to_vec() }
}

fn api_server() -> Part {
    let arguments = [
        format!("--etcd-servers={ETCD}"),
        format!("--advertise-address={CONTROL_PLANE}"),
        format!("--secure-port={}", API.port()),
        format!("--tls-cert-file={}", key("kube-apiserver.crt")),
        format!("--tls-private-key-file={}", key("kube-apiserver.key")),
        format!("--client-ca-file={}", key("ca.crt")),
        format!("--kubelet-client-certificate={}", key("administrator.crt")),
        format!("--kubelet-client-key={}", key("administrator.key")),
        // Otherwise logs and exec look the node's name up in DNS, which there is none of.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--service-account-key-file={}", key("sa.pub")),
        format!("--service-account-signing-key-file={}", key("sa.key")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
    ];
    kubernetes_part("kube-apiserver", &arguments)
}

fn controller_manager() -> Part {
    let arguments = [
        format!("--kubeconfig={}", key("kube-controller-manager.conf")),
        format!("--service-account-private-key-file={}", key("sa.key")),
        format!("--root-ca-file={}", key("ca.crt")),
        "--use-service-account-credentials=true".to_owned(),
        "--leader-elect=false".to_owned(),
    ];
    kubernetes_part("kube-controller-manager", &arguments)
}

fn scheduler() -> Part {
    let arguments = [format!("--kubeconfig={}", key("kube-scheduler.conf")), "--leader-elect=false".to_owned()];
    kubernetes_part("kube-scheduler", &arguments)
}
