//! The options of `cotenant node`: those of NVIDIA's plugin with its environment variables, and ours.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use cotenant_cluster::Source as ApiSource;
use cotenant_model::sharing::config::{DeviceIdStrategy, DeviceListStrategy, MigStrategy};
use cotenant_model::sharing::layout::Fallback;
use cotenant_node::agent::options::{KeeperChoice, Options, Overrides, Paths};
use cotenant_node::agent::source::Source;

use super::places::SOCKET;
use crate::exit::{Failure, Kind};
use crate::terminal;

/// Port of metrics and probes.
const PORT: u16 = 9408;

/// See [`super::Arguments`]. Values stay as they were written until all are known: an empty one counts as none.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// Configuration: a file, or a folder with a file a configuration.
    #[arg(long, env = "CONFIG_FILE", value_name = "FILE")]
    config_file: Option<String>,
    /// Folder with a file a configuration, as a ConfigMap is mounted; goes before --config-file.
    #[arg(long, env = "CONFIG_FILE_SRCDIR", value_name = "DIR")]
    config_directory: Option<String>,
    /// Configuration of a node without the label nvidia.com/device-plugin.config.
    #[arg(long, env = "DEFAULT_CONFIG", value_name = "NAME")]
    default_config: Option<String>,
    /// What is tried without label and default, in order: named, single, empty.
    #[arg(long, env = "FALLBACK_STRATEGIES", value_name = "LIST")]
    fallback_strategies: Option<String>,
    /// Name of this node; the host's name when left out.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    /// none, single or mixed.
    #[arg(long, env = "MIG_STRATEGY", value_name = "STRATEGY")]
    mig_strategy: Option<String>,
    /// End when no driver is there, rather than wait for one.
    #[arg(long, env = "FAIL_ON_INIT_ERROR", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    fail_on_init_error: Option<String>,
    /// Where the driver is installed on the host.
    #[arg(long, alias = "driver-root", env = "NVIDIA_DRIVER_ROOT", value_name = "DIR")]
    nvidia_driver_root: Option<String>,
    /// Where the device files are on the host; the driver's root when left out.
    #[arg(long, alias = "nvidia-dev-root", env = "NVIDIA_DEV_ROOT", value_name = "DIR")]
    dev_root: Option<String>,
    /// Folder of the MPS control daemons on the host.
    #[arg(long, env = "MPS_ROOT", value_name = "DIR")]
    mps_root: Option<String>,
    /// Give containers the device files as well.
    #[arg(long, env = "PASS_DEVICE_SPECS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pass_device_specs: Option<String>,
    /// How containers are told their devices: envvar, volume-mounts, cdi-annotations, cdi-cri; several with commas.
    #[arg(long, env = "DEVICE_LIST_STRATEGY", value_name = "LIST")]
    device_list_strategy: Vec<String>,
    /// What names a device to them: uuid or index.
    #[arg(long, env = "DEVICE_ID_STRATEGY", value_name = "STRATEGY")]
    device_id_strategy: Option<String>,
    /// Prefix of the annotations of cdi-annotations.
    #[arg(long, env = "CDI_ANNOTATION_PREFIX", value_name = "PREFIX")]
    cdi_annotation_prefix: Option<String>,
    /// The program for hooks in CDI specifications, on the host.
    #[arg(long, alias = "nvidia-ctk-path", env = "NVIDIA_CDI_HOOK_PATH", value_name = "FILE")]
    nvidia_cdi_hook_path: Option<String>,
    /// Where the host's driver root is mounted here.
    #[arg(long, alias = "container-driver-root", env = "DRIVER_ROOT_CTR_PATH", value_name = "DIR")]
    driver_root_ctr_path: Option<String>,
    /// Give containers GDRCopy's device.
    #[arg(long, env = "GDRCOPY_ENABLED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    gdrcopy_enabled: Option<String>,
    /// Give containers the devices of GPUDirect Storage.
    #[arg(long, env = "GDS_ENABLED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    gds_enabled: Option<String>,
    /// Give containers the devices of Mellanox OFED.
    #[arg(long, env = "MOFED_ENABLED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    mofed_enabled: Option<String>,
    /// IMEX channels for containers: 0, or nothing.
    #[arg(long, env = "IMEX_CHANNEL_IDS", value_name = "LIST")]
    imex_channel_ids: Option<String>,
    /// Whether a node without the IMEX channels must not serve.
    #[arg(long, env = "IMEX_REQUIRED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    imex_required: Option<String>,
    #[command(flatten)]
    passed_over: PassedOver,
    #[command(flatten)]
    own: Own,
}

/// Options of NVIDIA's plugin that have nothing to do here.
#[derive(Debug, clap::Args)]
struct PassedOver {
    #[arg(long, env = "DEVICE_DISCOVERY_STRATEGY", hide = true)]
    device_discovery_strategy: Option<String>,
    #[arg(long, env = "CDI_FEATURE_FLAGS", hide = true)]
    cdi_feature_flags: Vec<String>,
    #[arg(long, env = "CDI_DISABLE_HOOKS", hide = true)]
    cdi_disable_hooks: Vec<String>,
    #[arg(long, env = "USE_NODE_FEATURE_API", hide = true)]
    use_node_feature_api: Option<String>,
}

/// Options of this program's own.
#[derive(Debug, clap::Args)]
struct Own {
    /// The kubelet's registration socket; empty does not register.
    #[arg(
        long,
        env = "KUBELET_SOCKET",
        default_value = "/var/lib/kubelet/device-plugins/kubelet.sock",
        value_name = "FILE"
    )]
    kubelet_socket: String,
    /// The kubelet's socket that says who holds which device.
    #[arg(
        long,
        env = "POD_RESOURCES_SOCKET",
        default_value = "/var/lib/kubelet/pod-resources/kubelet.sock",
        value_name = "FILE"
    )]
    pod_resources_socket: PathBuf,
    /// Folder of CDI specifications.
    #[arg(long, env = "CDI_ROOT", default_value = "/var/run/cdi", value_name = "DIR")]
    cdi_root: PathBuf,
    /// Folder of what outlives the agent: what is offered, and who broke GPUs.
    #[arg(long, env = "COTENANT_STATE", default_value = "/var/lib/cotenant", value_name = "DIR")]
    state_directory: PathBuf,
    /// Socket for `cotenant node status`.
    #[arg(long, env = "COTENANT_SOCKET", default_value = SOCKET, value_name = "FILE")]
    socket: PathBuf,
    /// The host's /proc.
    #[arg(long, env = "COTENANT_PROC", default_value = "/proc", value_name = "DIR")]
    proc_root: PathBuf,
    /// The host's /sys.
    #[arg(long, env = "COTENANT_SYS", default_value = "/sys", value_name = "DIR")]
    sys_root: PathBuf,
    /// Address of /metrics, /healthz and /readyz; empty for none. 127.0.0.1:9408 when left out, every address of a pod.
    #[arg(long, env = "COTENANT_LISTEN", value_name = "ADDRESS")]
    listen: Option<String>,
    /// Port of the same in a pod.
    #[arg(long, env = "COTENANT_PORT", value_name = "PORT")]
    port: Option<String>,
    /// Who keeps MPS control daemons: a keeper that runs (connect), one that is started here (spawn), nobody (none).
    #[arg(long, env = "COTENANT_KEEPER", default_value = "connect", value_name = "WHO")]
    keeper: String,
    /// Whether the node's labels are set.
    #[arg(long, env = "COTENANT_LABELS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    labels: Option<String>,
    /// Whether the API server is spoken to: labels, Events, evictions, the node's own configuration label.
    #[arg(long, env = "COTENANT_API", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    api: Option<String>,
    /// Kubeconfig; the usual places, or the pod's service account, when left out.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Name of this agent's own DaemonSet, by which an uninstallation is told from an upgrade.
    #[arg(long, env = "COTENANT_DAEMONSET", value_name = "NAME")]
    daemon_set: Option<String>,
    /// Namespace of the same.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pod_namespace: Option<String>,
    /// XIDs that do not make a GPU unhealthy: all, xids, or numbers with commas.
    #[arg(long, env = "DP_DISABLE_HEALTHCHECKS", value_name = "LIST")]
    disable_health_checks: Option<String>,
    /// XIDs that do all the same, likewise.
    #[arg(long, env = "DP_ENABLE_HEALTHCHECKS", value_name = "LIST")]
    enable_health_checks: Option<String>,
}

impl Arguments {
    /// What the agent is started with.
    pub(super) fn options(&self) -> Result<Options, Failure> {
        self.passed_over.complain();
        let own = &self.own;
        Ok(Options {
            node: self.node()?,
            source: self.source()?,
            overrides: self.overrides()?,
            paths: own.paths()?,
            listen: own.listen()?,
            api: boolean("--api", own.api.as_ref())?
                .unwrap_or(true)
                .then(|| own.kubeconfig.clone().map_or(ApiSource::Inferred, ApiSource::File)),
            daemon_set: filled(own.pod_namespace.as_ref()).zip(filled(own.daemon_set.as_ref())),
            labels: boolean("--labels", own.labels.as_ref())?.unwrap_or(true),
            keeper: own.keeper()?,
            register: !own.kubelet_socket.is_empty(),
            health_checks: (own.disable_health_checks.clone(), own.enable_health_checks.clone()),
        })
    }

    fn node(&self) -> Result<String, Failure> {
        if let Some(name) = filled(self.node_name.as_ref()) {
            return Ok(name);
        }
        let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        if host.is_empty() {
            return Err(Failure::new(Kind::Input, "the node has no name").hint("give it with --node-name or NODE_NAME"));
        }
        Ok(host)
    }

    fn source(&self) -> Result<Source, Failure> {
        let path = filled(self.config_directory.as_ref()).or_else(|| filled(self.config_file.as_ref()));
        let words = filled(self.fallback_strategies.as_ref());
        let fallbacks = words.map(|words| list(&words).map(|word| fallback(&word)).collect()).transpose()?;
        Ok(Source { path: path.map(PathBuf::from), default: filled(self.default_config.as_ref()), fallbacks })
    }

    fn overrides(&self) -> Result<Overrides, Failure> {
        let device_list: Vec<String> = self.device_list_strategy.iter().flat_map(|words| list(words)).collect();
        let device_list = device_list.iter().map(|word| device_list_strategy(word)).collect::<Result<Vec<_>, _>>()?;
        Ok(Overrides {
            mig_strategy: filled(self.mig_strategy.as_ref()).map(|word| mig_strategy(&word)).transpose()?,
            fail_on_init_error: boolean("--fail-on-init-error", self.fail_on_init_error.as_ref())?,
            driver_root: root("--nvidia-driver-root", self.nvidia_driver_root.as_ref())?,
            dev_root: root("--dev-root", self.dev_root.as_ref())?,
            mps_root: root("--mps-root", self.mps_root.as_ref())?,
            pass_device_specs: boolean("--pass-device-specs", self.pass_device_specs.as_ref())?,
            device_list: Some(device_list).filter(|list| !list.is_empty()),
            device_id: filled(self.device_id_strategy.as_ref()).map(|word| device_id_strategy(&word)).transpose()?,
            cdi_annotation_prefix: filled(self.cdi_annotation_prefix.as_ref()),
            nvidia_ctk_path: filled(self.nvidia_cdi_hook_path.as_ref())
                .or_else(|| filled(std::env::var("NVIDIA_CTK_PATH").ok().as_ref())),
            container_driver_root: filled(self.driver_root_ctr_path.as_ref())
                .or_else(|| filled(std::env::var("CONTAINER_DRIVER_ROOT").ok().as_ref())),
            gdrcopy: boolean("--gdrcopy-enabled", self.gdrcopy_enabled.as_ref())?,
            gds: boolean("--gds-enabled", self.gds_enabled.as_ref())?,
            mofed: boolean("--mofed-enabled", self.mofed_enabled.as_ref())?,
            imex: filled(self.imex_channel_ids.as_ref()).map(|words| channels(&words)).transpose()?,
            imex_required: boolean("--imex-required", self.imex_required.as_ref())?,
        })
    }
}

impl PassedOver {
    /// Says what has no effect, once.
    fn complain(&self) {
        let given = |values: &[String]| values.iter().any(|value| !value.is_empty());
        if self.device_discovery_strategy.as_deref() == Some("tegra") {
            terminal::complain("note: GPUs are found through NVML, which Tegra systems do not have");
        }
        if given(&self.cdi_feature_flags) || given(&self.cdi_disable_hooks) {
            terminal::complain("note: --cdi-feature-flags and --cdi-disable-hooks have no effect");
        }
        if self.use_node_feature_api.as_deref().is_some_and(|value| !value.is_empty()) {
            terminal::complain("note: labels are written to the node itself, without node feature discovery");
        }
    }
}

impl Own {
    fn paths(&self) -> Result<Paths, Failure> {
        let kubelet = Path::new(&self.kubelet_socket);
        let device_plugins = kubelet.parent().filter(|folder| folder.is_absolute());
        if !self.kubelet_socket.is_empty() && device_plugins.is_none() {
            let problem = format!("`{}` is not the absolute path of a socket (--kubelet-socket)", self.kubelet_socket);
            return Err(Failure::new(Kind::Input, problem));
        }
        Ok(Paths {
            device_plugins: device_plugins.map_or_else(|| Paths::default().device_plugins, Path::to_owned),
            pod_resources: self.pod_resources_socket.clone(),
            cdi: self.cdi_root.clone(),
            state: self.state_directory.clone(),
            socket: self.socket.clone(),
            proc: self.proc_root.clone(),
            sys: self.sys_root.clone(),
        })
    }

    /// In a pod the kubelet's probes come to the pod's address.
    fn listen(&self) -> Result<Option<SocketAddr>, Failure> {
        match &self.listen {
            Some(address) if address.is_empty() => Ok(None),
            Some(address) => address.parse().map(Some).map_err(|_address| {
                Failure::new(Kind::Input, format!("`{address}` is not an address such as 127.0.0.1:{PORT} (--listen)"))
            }),
            None => match filled(self.port.as_ref()) {
                Some(port) => port
                    .parse()
                    .map(|port| Some(at(Ipv4Addr::UNSPECIFIED, port)))
                    .map_err(|_port| Failure::new(Kind::Input, format!("`{port}` is not a port (--port)"))),
                None => Ok(Some(at(Ipv4Addr::LOCALHOST, PORT))),
            },
        }
    }

    fn keeper(&self) -> Result<KeeperChoice, Failure> {
        match self.keeper.as_str() {
            "connect" | "true" | "" => Ok(KeeperChoice::Connect),
            "spawn" => Ok(KeeperChoice::Spawn),
            "none" | "false" => Ok(KeeperChoice::None),
            other => Err(unknown("--keeper", other, "connect, spawn or none")),
        }
    }
}

fn at(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(address), port)
}

/// An empty value, as charts give, is none.
fn filled(value: Option<&String>) -> Option<String> {
    value.filter(|value| !value.is_empty()).cloned()
}

fn list(words: &str) -> impl Iterator<Item = String> {
    words.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn unknown(option: &str, word: &str, known: &str) -> Failure {
    Failure::new(Kind::Input, format!("`{word}` is not a value of {option}")).hint(format!("it can be {known}"))
}

/// Go's words for truth, which NVIDIA's plugin takes.
fn boolean(option: &str, value: Option<&String>) -> Result<Option<bool>, Failure> {
    match value.map(String::as_str) {
        None | Some("") => Ok(None),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
        Some(other) => Err(unknown(option, other, "true or false")),
    }
}

fn root(option: &str, value: Option<&String>) -> Result<Option<String>, Failure> {
    match filled(value) {
        Some(path) if !path.starts_with('/') => Err(unknown(option, &path, "an absolute path")),
        path => Ok(path),
    }
}

fn mig_strategy(word: &str) -> Result<MigStrategy, Failure> {
    match word {
        "none" => Ok(MigStrategy::None),
        "single" => Ok(MigStrategy::Single),
        "mixed" => Ok(MigStrategy::Mixed),
        other => Err(unknown("--mig-strategy", other, "none, single or mixed")),
    }
}

fn device_list_strategy(word: &str) -> Result<DeviceListStrategy, Failure> {
    match word {
        "envvar" => Ok(DeviceListStrategy::Envvar),
        "volume-mounts" => Ok(DeviceListStrategy::VolumeMounts),
        "cdi-annotations" => Ok(DeviceListStrategy::CdiAnnotations),
        "cdi-cri" => Ok(DeviceListStrategy::CdiCri),
        other => Err(unknown("--device-list-strategy", other, "envvar, volume-mounts, cdi-annotations or cdi-cri")),
    }
}

fn device_id_strategy(word: &str) -> Result<DeviceIdStrategy, Failure> {
    match word {
        "uuid" => Ok(DeviceIdStrategy::Uuid),
        "index" => Ok(DeviceIdStrategy::Index),
        other => Err(unknown("--device-id-strategy", other, "uuid or index")),
    }
}

fn fallback(word: &str) -> Result<Fallback, Failure> {
    match word {
        "named" => Ok(Fallback::Named),
        "single" => Ok(Fallback::Single),
        "empty" => Ok(Fallback::Empty),
        other => Err(unknown("--fallback-strategies", other, "named, single and empty")),
    }
}

/// As NVIDIA's plugin: channel 0 is the only one.
fn channels(words: &str) -> Result<bool, Failure> {
    match list(words).collect::<Vec<_>>().as_slice() {
        [] => Ok(false),
        [only] if only == "0" => Ok(true),
        _ => Err(unknown("--imex-channel-ids", words, "0, or nothing")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn options(words: &[&str]) -> Result<Options, Failure> {
        Cli::parse_from([&["node"], words].concat()).arguments.options()
    }

    #[test]
    fn nvidias_options_are_taken_in_all_their_spellings() {
        let words = [
            "--mig-strategy=mixed",
            "--driver-root=/d",
            "--nvidia-ctk-path=/ctk",
            "--container-driver-root=/c",
            "--device-list-strategy=envvar,cdi-cri",
            "--device-list-strategy=volume-mounts",
            "--pass-device-specs",
            "--fail-on-init-error=False",
            "--imex-channel-ids=0",
        ];
        let overrides = options(&words).unwrap().overrides;
        assert_eq!(overrides.mig_strategy, Some(MigStrategy::Mixed));
        assert_eq!(overrides.driver_root.as_deref(), Some("/d"));
        assert_eq!(overrides.nvidia_ctk_path.as_deref(), Some("/ctk"));
        assert_eq!(overrides.container_driver_root.as_deref(), Some("/c"));
        assert_eq!(overrides.device_list.map(|list| list.len()), Some(3));
        assert_eq!((overrides.pass_device_specs, overrides.fail_on_init_error), (Some(true), Some(false)));
        assert_eq!(overrides.imex, Some(true));
    }

    #[test]
    fn what_is_left_out_or_empty_leaves_the_file_its_say() {
        let options = options(&["--mig-strategy=", "--nvidia-driver-root=", "--config-file="]).unwrap();
        assert_eq!((options.overrides, options.source), (Overrides::default(), Source::default()));
        assert_eq!(options.listen, Some(at(Ipv4Addr::LOCALHOST, 9408)));
    }

    #[test]
    fn an_empty_kubelet_socket_does_not_register_and_another_moves_the_folder() {
        assert!(!options(&["--kubelet-socket="]).unwrap().register);
        let options = options(&["--kubelet-socket=/k/device-plugins/kubelet.sock"]).unwrap();
        assert!(options.register);
        assert_eq!(options.paths.device_plugins, Path::new("/k/device-plugins"));
    }

    #[test]
    fn a_pod_listens_on_every_address_and_an_empty_address_is_none() {
        assert_eq!(options(&["--port=1"]).unwrap().listen, Some(at(Ipv4Addr::UNSPECIFIED, 1)));
        assert_eq!(options(&["--listen=127.0.0.1:7", "--port=1"]).unwrap().listen, Some(at(Ipv4Addr::LOCALHOST, 7)));
        assert_eq!(options(&["--listen="]).unwrap().listen, None);
    }

    #[test]
    fn words_that_mean_nothing_are_refused_with_those_that_do() {
        for wrong in [
            "--mig-strategy=some",
            "--device-list-strategy=envvar,tape",
            "--device-id-strategy=name",
            "--fail-on-init-error=maybe",
            "--imex-channel-ids=0,1",
            "--fallback-strategies=first",
            "--keeper=me",
            "--listen=here",
            "--port=high",
            "--kubelet-socket=kubelet.sock",
            "--mps-root=mps",
        ] {
            assert!(options(&[wrong]).is_err(), "{wrong}");
        }
    }
}
