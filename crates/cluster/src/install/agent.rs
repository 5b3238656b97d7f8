//! The `DaemonSet` of the agent.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, HTTPGetAction, PodSpec, PodTemplateSpec,
    Probe, ResourceRequirements, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::Installation;
use super::containers::{Folder, driver_root, field, flag, placed, runtime, variable};

/// Where configurations stand in the container, one file each.
const CONFIGS: &str = "/available-configs";

pub(super) fn daemon_set(installation: &Installation) -> DaemonSet {
    let agent = &installation.values.agent;
    let selector = installation.component_selector("agent");
    let annotations = Some(agent.annotations.clone()).filter(|annotations| !annotations.is_empty());
    let metadata = ObjectMeta { labels: Some(selector.clone()), annotations, ..ObjectMeta::default() };
    let strategy =
        Some(agent.update_strategy.clone()).filter(|strategy| *strategy != DaemonSetUpdateStrategy::default());
    let spec = DaemonSetSpec {
        selector: LabelSelector { match_labels: Some(selector), ..LabelSelector::default() },
        update_strategy: strategy,
        template: PodTemplateSpec { metadata: Some(metadata), spec: Some(pod(installation)) },
        ..DaemonSetSpec::default()
    };
    DaemonSet { metadata: installation.metadata("", Some("agent")), spec: Some(spec), status: None }
}

fn pod(installation: &Installation) -> PodSpec {
    let folders = folders(installation);
    let configs = installation.configs_name().map(|name| Volume {
        name: "available-configs".to_owned(),
        config_map: Some(ConfigMapVolumeSource { name, ..ConfigMapVolumeSource::default() }),
        ..Volume::default()
    });
    let extra = installation.values.pod.extra_volumes.iter().cloned();
    PodSpec {
        containers: vec![container(installation, &folders)],
        volumes: Some(folders.iter().map(Folder::volume).chain(configs).chain(extra).collect()),
        termination_grace_period_seconds: Some(30),
        ..placed(installation, installation.values.agent.plugin.enable_host_network)
    }
}

fn container(installation: &Installation, folders: &[Folder]) -> Container {
    let values = &installation.values;
    let configs = installation.configs_name().map(|_name| VolumeMount {
        name: "available-configs".to_owned(),
        mount_path: CONFIGS.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    let extra = values.pod.extra_volume_mounts.iter().cloned();
    let port = i32::from(values.metrics.port);
    Container {
        name: "agent".to_owned(),
        image: Some(values.image.reference()),
        image_pull_policy: values.image.pull_policy.clone(),
        command: Some(["cotenant", "node"].map(str::to_owned).into()),
        env: Some(environment(installation)),
        ports: Some(vec![ContainerPort {
            name: Some("metrics".to_owned()),
            container_port: port,
            ..ContainerPort::default()
        }]),
        liveness_probe: Some(Probe {
            initial_delay_seconds: Some(10),
            period_seconds: Some(20),
            failure_threshold: Some(6),
            ..probe("/healthz")
        }),
        readiness_probe: Some(Probe { period_seconds: Some(5), ..probe("/readyz") }),
        resources: Some(values.agent.resources.clone()).filter(|needs| *needs != ResourceRequirements::default()),
        security_context: Some(security_context(installation)),
        volume_mounts: Some(folders.iter().map(Folder::mount).chain(configs).chain(extra).collect()),
        ..Container::default()
    }
}

fn probe(path: &str) -> Probe {
    let port = IntOrString::String("metrics".to_owned());
    let get = HTTPGetAction { path: Some(path.to_owned()), port, ..HTTPGetAction::default() };
    Probe { http_get: Some(get), timeout_seconds: Some(5), ..Probe::default() }
}

fn environment(installation: &Installation) -> Vec<EnvVar> {
    let values = &installation.values;
    let mut environment = vec![
        field("NODE_NAME", "spec.nodeName"),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        variable("COTENANT_DAEMONSET", &installation.name()),
        variable("COTENANT_PORT", &values.metrics.port.to_string()),
    ];
    environment.extend((!values.agent.labels.enabled).then(|| variable("COTENANT_LABELS", "false")));
    environment.extend((!installation.has_keeper()).then(|| variable("COTENANT_KEEPER", "false")));
    environment.extend((!values.agent.plugin.enabled).then(|| variable("KUBELET_SOCKET", "")));
    environment.push(variable("MPS_ROOT", &values.mps.root));
    environment.extend(values.flags.iter().map(|(name, value)| flag(name, value)));
    if installation.configs_name().is_some() {
        environment.push(variable("CONFIG_FILE_SRCDIR", CONFIGS));
        environment.push(variable("DEFAULT_CONFIG", &values.config.chosen));
        environment.push(variable("FALLBACK_STRATEGIES", &values.config.fallback_strategies.join(",")));
    }
    environment.extend(runtime());
    if installation.may_use_mig() {
        environment.push(variable("NVIDIA_MIG_MONITOR_DEVICES", "all"));
        environment.push(variable("NVIDIA_MIG_CONFIG_DEVICES", "all"));
    }
    environment.extend(values.agent.plugin.env.iter().chain(&values.pod.extra_env).cloned());
    environment
}

fn folders(installation: &Installation) -> Vec<Folder> {
    let values = &installation.values;
    let kubelet = |name: &'static str, made: bool, read_only: bool| Folder {
        name,
        on_host: format!("{}/{name}", values.places.kubelet),
        made,
        inside: format!("/var/lib/kubelet/{name}"),
        read_only,
        propagation: None,
    };
    let own = |name: &'static str, on_host: &str, inside: &str, propagation: Option<&'static str>| Folder {
        name,
        on_host: on_host.to_owned(),
        made: true,
        inside: inside.to_owned(),
        read_only: false,
        propagation,
    };
    let mut folders = vec![
        kubelet("device-plugins", false, false),
        kubelet("pod-resources", false, true),
        own("mps-root", &values.mps.root, &values.mps.root, Some("HostToContainer")),
        own("cdi", &values.places.cdi, "/var/run/cdi", None),
        own("state", &values.places.state, "/var/lib/cotenant", None),
    ];
    folders.extend(driver_root(installation));
    folders
}

/// The values' own, or the least that the configurations can need.
fn security_context(installation: &Installation) -> SecurityContext {
    let agent = &installation.values.agent;
    if let Some(given) = &agent.security_context {
        return given.clone();
    }
    if agent.every_device {
        return SecurityContext { privileged: Some(true), ..SecurityContext::default() };
    }
    let administers = installation.may_use_mig() || installation.may_use_volume_mounts();
    let mut add = vec!["KILL".to_owned(), "SYS_PTRACE".to_owned()];
    add.extend(administers.then(|| "SYS_ADMIN".to_owned()));
    SecurityContext {
        // The API server refuses `false` beside SYS_ADMIN.
        allow_privilege_escalation: (!administers).then_some(false),
        capabilities: Some(Capabilities { add: Some(add), drop: Some(vec!["ALL".to_owned()]) }),
        ..SecurityContext::default()
    }
}

impl Installation {
    /// The `ConfigMap` with the configurations, made here or not.
    fn configs_name(&self) -> Option<String> {
        let config = &self.values.config;
        if !config.name.is_empty() {
            return Some(config.name.clone());
        }
        (!config.map.is_empty()).then(|| format!("{}-configs", self.name()))
    }

    /// Whether any configuration may use MIG: one that is not seen here may.
    fn may_use_mig(&self) -> bool {
        let (config, strategy) = (&self.values.config, self.values.agent.mig_strategy.as_str());
        let file_may = |file: Value| {
            let named = file["flags"]["migStrategy"].as_str().unwrap_or("none");
            strategy.is_empty() && !matches!(named, "" | "none") || file["cotenant"].to_string().contains("mig")
        };
        !config.name.is_empty() || !matches!(strategy, "" | "none") || self.files().any(file_may)
    }

    /// Whether devices may be named by mounts, which the NVIDIA runtime takes from administrators only.
    fn may_use_volume_mounts(&self) -> bool {
        let names = |text: &str| text.contains("volume-mounts");
        let file_may = |file: Value| names(&file["flags"]["plugin"]["deviceListStrategy"].to_string());
        names(&self.values.agent.device_list) || self.files().any(file_may)
    }

    fn files(&self) -> impl Iterator<Item = Value> {
        self.values.config.map.values().map(|file| serde_saphyr::from_str(file).unwrap_or_default())
    }
}
