//! The `DaemonSet` of the keeper.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, ExecAction, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::Installation;
use super::containers::{Folder, driver_root, flag, placed, runtime, variable};

/// The `DaemonSet`, where there shall be one: without a device plugin nothing is shared.
pub(super) fn daemon_set(installation: &Installation) -> Option<DaemonSet> {
    if !installation.has_keeper() {
        return None;
    }
    let keeper = &installation.values.keeper;
    let selector = installation.component_selector("keeper");
    let annotations = Some(keeper.pod_annotations.clone()).filter(|annotations| !annotations.is_empty());
    let metadata = ObjectMeta { labels: Some(selector.clone()), annotations, ..ObjectMeta::default() };
    let spec = DaemonSetSpec {
        selector: LabelSelector { match_labels: Some(selector), ..LabelSelector::default() },
        // An upgrade must not end the MPS clients of a node.
        update_strategy: Some(DaemonSetUpdateStrategy { type_: Some("OnDelete".to_owned()), rolling_update: None }),
        template: PodTemplateSpec { metadata: Some(metadata), spec: Some(pod(installation)) },
        ..DaemonSetSpec::default()
    };
    Some(DaemonSet { metadata: installation.metadata("-keeper", Some("keeper")), spec: Some(spec), status: None })
}

impl Installation {
    pub(super) const fn has_keeper(&self) -> bool {
        self.values.keeper.enabled && self.values.agent.plugin.enabled
    }

    fn keeper_image(&self) -> String {
        let (keepers, image) = (&self.values.keeper.image, &self.values.image);
        let or = |own: &String, common: &String| if own.is_empty() { common.clone() } else { own.clone() };
        format!("{}:{}", or(&keepers.repository, &image.repository), or(&keepers.tag, &image.tag))
    }
}

fn pod(installation: &Installation) -> PodSpec {
    let folders = folders(installation);
    let extra = &installation.values.pod.extra_volumes;
    PodSpec {
        containers: vec![container(installation, &folders)],
        volumes: Some(folders.iter().map(Folder::volume).chain(extra.iter().cloned()).collect()),
        automount_service_account_token: Some(false),
        // Clients are asked to leave before their server goes.
        termination_grace_period_seconds: Some(60),
        ..placed(installation, installation.values.mps.enable_host_network)
    }
}

/// No liveness probe: a restart would end every MPS client of the node.
fn container(installation: &Installation, folders: &[Folder]) -> Container {
    let values = &installation.values;
    let check = ["cotenant", "node", "keeper", "--check"].map(str::to_owned);
    let mounts = folders.iter().map(Folder::mount).chain(values.pod.extra_volume_mounts.iter().cloned());
    Container {
        name: "keeper".to_owned(),
        image: Some(installation.keeper_image()),
        image_pull_policy: values.image.pull_policy.clone(),
        command: Some(["cotenant", "node", "keeper"].map(str::to_owned).into()),
        env: Some(environment(installation)),
        readiness_probe: Some(Probe {
            exec: Some(ExecAction { command: Some(check.into()) }),
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            ..Probe::default()
        }),
        resources: Some(values.keeper.resources.clone()).filter(|needs| *needs != ResourceRequirements::default()),
        security_context: Some(SecurityContext { privileged: Some(true), ..SecurityContext::default() }),
        volume_mounts: Some(mounts.collect()),
        ..Container::default()
    }
}

fn environment(installation: &Installation) -> Vec<EnvVar> {
    let values = &installation.values;
    let mut environment = vec![variable("MPS_ROOT", &values.mps.root)];
    environment.extend(values.agent.driver_root.as_ref().map(|root| flag("NVIDIA_DRIVER_ROOT", &root.as_str().into())));
    environment.extend(runtime());
    environment.extend(values.pod.extra_env.iter().cloned());
    environment
}

fn folders(installation: &Installation) -> Vec<Folder> {
    let root = &installation.values.mps.root;
    let mps = Folder {
        name: "mps-root",
        on_host: root.clone(),
        made: true,
        inside: root.clone(),
        read_only: false,
        // What it mounts at `shm` must be seen by the host, for that is what the kubelet mounts into pods.
        propagation: Some("Bidirectional"),
    };
    [mps].into_iter().chain(driver_root(installation)).collect()
}
