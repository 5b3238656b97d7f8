//! What the pods of agent and keeper have in common.

use k8s_openapi::api::core::v1::{
    EnvVar, EnvVarSource, HostPathVolumeSource, ObjectFieldSelector, PodSpec, Volume, VolumeMount,
};
use serde_json::Value;

use super::Installation;

/// A variable with a value.
pub(super) fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() }
}

/// A variable with the value of a flag.
pub(super) fn flag(name: &str, value: &Value) -> EnvVar {
    variable(name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// A variable with the value of a field of the pod.
pub(super) fn field(name: &str, path: &str) -> EnvVar {
    let field = ObjectFieldSelector { field_path: path.to_owned(), api_version: None };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value_from: Some(source), ..EnvVar::default() }
}

/// What the node's container runtime is asked for: every GPU, the driver's libraries and its MPS programs.
pub(super) fn runtime() -> [EnvVar; 2] {
    [variable("NVIDIA_VISIBLE_DEVICES", "all"), variable("NVIDIA_DRIVER_CAPABILITIES", "compute,utility")]
}

/// A folder of the host: how it is mounted and where it comes from.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) name: &'static str,
    pub(super) on_host: String,
    /// Whether it is made when it is missing.
    pub(super) made: bool,
    pub(super) inside: String,
    pub(super) read_only: bool,
    /// `HostToContainer` or `Bidirectional`.
    pub(super) propagation: Option<&'static str>,
}

impl Folder {
    pub(super) fn mount(&self) -> VolumeMount {
        VolumeMount {
            name: self.name.to_owned(),
            mount_path: self.inside.clone(),
            read_only: self.read_only.then_some(true),
            mount_propagation: self.propagation.map(str::to_owned),
            ..VolumeMount::default()
        }
    }

    pub(super) fn volume(&self) -> Volume {
        let kind = if self.made { "DirectoryOrCreate" } else { "Directory" };
        let source = HostPathVolumeSource { path: self.on_host.clone(), type_: Some(kind.to_owned()) };
        Volume { name: self.name.to_owned(), host_path: Some(source), ..Volume::default() }
    }
}

/// The driver's files, where values say that they are not at the host's root.
pub(super) fn driver_root(installation: &Installation) -> Option<Folder> {
    let on_host = installation.values.agent.driver_root.clone()?;
    let inside = "/driver-root".to_owned();
    let propagation = Some("HostToContainer");
    Some(Folder { name: "driver-root", on_host, made: false, inside, read_only: true, propagation })
}

/// A pod's placement and identity; containers and volumes are the caller's.
pub(super) fn placed(installation: &Installation, host_network: bool) -> PodSpec {
    let pod = &installation.values.pod;
    PodSpec {
        image_pull_secrets: filled(&pod.image_pull_secrets),
        security_context: Some(pod.pod_security_context.clone()).filter(|context| *context != Default::default()),
        priority_class_name: pod.priority_class_name.clone().filter(|name| !name.is_empty()),
        runtime_class_name: pod.runtime_class_name.clone().filter(|name| !name.is_empty()),
        node_selector: Some(pod.node_selector.clone()).filter(|selector| !selector.is_empty()),
        affinity: Some(pod.affinity.clone()).filter(|affinity| *affinity != Default::default()),
        tolerations: filled(&pod.tolerations),
        service_account_name: Some(installation.account()),
        host_pid: Some(true),
        host_network: host_network.then_some(true),
        dns_policy: host_network.then(|| "ClusterFirstWithHostNet".to_owned()),
        ..PodSpec::default()
    }
}

fn filled<T: Clone>(items: &[T]) -> Option<Vec<T>> {
    (!items.is_empty()).then(|| items.to_vec())
}
