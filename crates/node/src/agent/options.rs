//! What the agent is started with: its name, its places, and the flags that go before the configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;

use cotenant_cluster::Source as ApiSource;
use cotenant_model::sharing::config::{DeviceIdStrategy, DeviceListStrategy, Flags, Imex, MigStrategy};

use super::source::Source;

/// What the agent is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the node.
    pub node: String,
    /// Where the configuration comes from.
    pub source: Source,
    /// What the command line and the environment say instead of the file.
    pub overrides: Overrides,
    /// Where things are.
    pub paths: Paths,
    /// Where metrics and probes are served; `None` nowhere.
    pub listen: Option<SocketAddr>,
    /// The API server; `None` leaves labels, Events, evictions and the node's own label alone.
    pub api: Option<ApiSource>,
    /// The agent's own `DaemonSet`, namespace and name, by which an uninstallation is told from an upgrade.
    pub daemon_set: Option<(String, String)>,
    /// Whether labels are written.
    pub labels: bool,
    /// Who keeps MPS control daemons.
    pub keeper: KeeperChoice,
    /// Whether to register with the kubelet (an empty `KUBELET_SOCKET` says no, as with NVIDIA's plugin).
    pub register: bool,
    /// `DP_DISABLE_HEALTHCHECKS` and `DP_ENABLE_HEALTHCHECKS`, as they are.
    pub health_checks: (Option<String>, Option<String>),
}

/// Who keeps MPS control daemons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeeperChoice {
    /// A keeper that runs already, or will.
    #[default]
    Connect,
    /// One that this agent starts, and that outlives it.
    Spawn,
    /// Nobody: no GPU can be shared by MPS.
    None,
}

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The kubelet's folder of device plugins.
    pub device_plugins: PathBuf,
    /// The kubelet's pod-resources socket.
    pub pod_resources: PathBuf,
    /// The folder of CDI specifications.
    pub cdi: PathBuf,
    /// What must outlive the agent.
    pub state: PathBuf,
    /// The socket of the other commands.
    pub socket: PathBuf,
    /// `/proc`, of the host's process ids.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            device_plugins: "/var/lib/kubelet/device-plugins".into(),
            pod_resources: "/var/lib/kubelet/pod-resources/kubelet.sock".into(),
            cdi: "/var/run/cdi".into(),
            state: "/var/lib/cotenant".into(),
            socket: "/run/cotenant/node.sock".into(),
            proc: "/proc".into(),
            sys: "/sys".into(),
        }
    }
}

/// Flags that go before those of the file; `None` leaves the file's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `MIG_STRATEGY`.
    pub mig_strategy: Option<MigStrategy>,
    /// `FAIL_ON_INIT_ERROR`.
    pub fail_on_init_error: Option<bool>,
    /// `NVIDIA_DRIVER_ROOT`.
    pub driver_root: Option<String>,
    /// `NVIDIA_DEV_ROOT`.
    pub dev_root: Option<String>,
    /// `MPS_ROOT`.
    pub mps_root: Option<String>,
    /// `PASS_DEVICE_SPECS`.
    pub pass_device_specs: Option<bool>,
    /// `DEVICE_LIST_STRATEGY`.
    pub device_list: Option<Vec<DeviceListStrategy>>,
    /// `DEVICE_ID_STRATEGY`.
    pub device_id: Option<DeviceIdStrategy>,
    /// `CDI_ANNOTATION_PREFIX`.
    pub cdi_annotation_prefix: Option<String>,
    /// `NVIDIA_CTK_PATH` or `NVIDIA_CDI_HOOK_PATH`.
    pub nvidia_ctk_path: Option<String>,
    /// `CONTAINER_DRIVER_ROOT`.
    pub container_driver_root: Option<String>,
    /// `GDRCOPY_ENABLED`.
    pub gdrcopy: Option<bool>,
    /// `GDS_ENABLED`.
    pub gds: Option<bool>,
    /// `MOFED_ENABLED`.
    pub mofed: Option<bool>,
    /// `IMEX_CHANNEL_IDS` is `0` rather than empty.
    pub imex: Option<bool>,
    /// `IMEX_REQUIRED`.
    pub imex_required: Option<bool>,
}

impl Overrides {
    /// The file's flags with these over them.
    #[must_use]
    pub fn over(&self, file: &Flags) -> Flags {
        let mut flags = file.clone();
        replace(&mut flags.mig_strategy, self.mig_strategy.as_ref());
        replace(&mut flags.fail_on_init_error, self.fail_on_init_error.as_ref());
        replace(&mut flags.driver_root, self.driver_root.as_ref());
        // The device root follows the driver root unless it is named itself.
        let dev_root =
            self.dev_root.as_ref().or_else(|| self.driver_root.as_ref().filter(|_| file.dev_root == file.driver_root));
        replace(&mut flags.dev_root, dev_root);
        replace(&mut flags.mps_root, self.mps_root.as_ref());
        replace(&mut flags.pass_device_specs, self.pass_device_specs.as_ref());
        replace(&mut flags.device_list, self.device_list.as_ref());
        replace(&mut flags.device_id, self.device_id.as_ref());
        replace(&mut flags.cdi_annotation_prefix, self.cdi_annotation_prefix.as_ref());
        replace(&mut flags.nvidia_ctk_path, self.nvidia_ctk_path.as_ref());
        replace(&mut flags.container_driver_root, self.container_driver_root.as_ref());
        replace(&mut flags.extras.gdrcopy, self.gdrcopy.as_ref());
        replace(&mut flags.extras.gds, self.gds.as_ref());
        replace(&mut flags.extras.mofed, self.mofed.as_ref());
        let required = self.imex_required.unwrap_or_else(|| file.imex.is_some_and(|imex| imex.required));
        if self.imex.unwrap_or_else(|| flags.imex.is_some()) {
            flags.imex = Some(Imex { required });
        } else {
            flags.imex = None;
        }
        flags
    }
}

fn replace<T: Clone>(value: &mut T, other: Option<&T>) {
    if let Some(other) = other {
        value.clone_from(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_overrides_the_file_stands() {
        let file = Flags { mps_root: "/mps".to_owned(), imex: Some(Imex { required: true }), ..Flags::default() };
        assert_eq!(Overrides::default().over(&file), file);
    }

    #[test]
    fn the_command_line_goes_before_the_file() {
        let file = Flags { mig_strategy: MigStrategy::Single, ..Flags::default() };
        let overrides = Overrides { mig_strategy: Some(MigStrategy::Mixed), imex: Some(true), ..Overrides::default() };
        let flags = overrides.over(&file);
        assert_eq!(flags.mig_strategy, MigStrategy::Mixed);
        assert_eq!(flags.imex, Some(Imex { required: false }));
    }

    #[test]
    fn the_device_root_follows_the_driver_root_unless_it_is_named() {
        let moved = Overrides { driver_root: Some("/d".to_owned()), ..Overrides::default() };
        assert_eq!(moved.over(&Flags::default()).dev_root, "/d");
        let file = Flags { dev_root: "/other".to_owned(), ..Flags::default() };
        assert_eq!(moved.over(&file).dev_root, "/other");
    }
}
