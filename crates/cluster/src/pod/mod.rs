//! The pods of this node, trimmed to what attribution, events and eviction need.

mod evict;
mod watch;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod as ApiPod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;

pub use evict::Eviction;
pub use watch::{PodWatch, Pods};

use crate::{ApiError, Client};

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Identity: it stands in the paths of its cgroups, and another pod of the same name has another.
    pub uid: String,
    /// Node it is bound to.
    pub node: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The object that controls it.
    pub owner: Option<Owner>,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// Whether it has been asked to end.
    pub terminating: bool,
    /// Names of its containers by runtime id, without the runtime's prefix (`containerd://`).
    pub containers: BTreeMap<String, String>,
}

/// The controller of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Such as `ReplicaSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Pod {
    /// What users deployed: the Deployment behind a `ReplicaSet` of its, else the controller, else the pod itself; such as
    /// `Deployment/default/chat`. The same across restarts and rollouts, so offences can be counted by it.
    #[must_use]
    pub fn workload(&self) -> String {
        let namespace = &self.namespace;
        let Some(Owner { kind, name }) = &self.owner else { return format!("Pod/{namespace}/{}", self.name) };
        let hash = self.labels.get("pod-template-hash").filter(|_hash| kind == "ReplicaSet");
        let deployment = hash.and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
        match deployment {
            Some(deployment) => format!("Deployment/{namespace}/{deployment}"),
            None => format!("{kind}/{namespace}/{name}"),
        }
    }

    /// Whether none of its containers runs any more, for good.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }
}

impl From<ApiPod> for Pod {
    fn from(pod: ApiPod) -> Self {
        let ApiPod { metadata, spec, status } = pod;
        let status = status.unwrap_or_default();
        let controls = |owner: &OwnerReference| owner.controller == Some(true);
        let owner = metadata.owner_references.unwrap_or_default().into_iter().find(controls);
        Self {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            node: spec.and_then(|spec| spec.node_name),
            labels: metadata.labels.unwrap_or_default(),
            owner: owner.map(|OwnerReference { kind, name, .. }| Owner { kind, name }),
            terminating: metadata.deletion_timestamp.is_some(),
            containers: containers(&status),
            phase: status.phase.unwrap_or_default(),
        }
    }
}

/// Containers by runtime id, those of the last start too: a process is often asked about just after it died.
fn containers(status: &PodStatus) -> BTreeMap<String, String> {
    let kinds = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let statuses = kinds.into_iter().flatten().flatten();
    let ids = |status: &ContainerStatus| {
        let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref()?.container_id.clone());
        [last, status.container_id.clone()].into_iter().flatten().collect::<Vec<_>>()
    };
    let bare = |id: String| id.split_once("://").map_or_else(|| id.clone(), |(_runtime, bare)| bare.to_owned());
    statuses.flat_map(|status| ids(status).into_iter().map(|id| (bare(id), status.name.clone()))).collect()
}

impl Client {
    /// A pod by name, asked of the API server; `None` when there is none.
    ///
    /// # Errors
    /// When the API server refuses or cannot be asked.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, ApiError> {
        let pods: Api<ApiPod> = Api::namespaced(self.kube(), namespace);
        let pod = self.call(format!("look up pod {namespace}/{name}"), pods.get_opt(name)).await?;
        Ok(pod.map(Pod::from))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(owner: &serde_json::Value, labels: &serde_json::Value) -> Pod {
        let metadata = json!({"namespace": "ai", "name": "chat-7d9-x2", "uid": "u", "labels": labels,
            "ownerReferences": owner});
        let status = json!({"phase": "Running", "containerStatuses": [{"name": "server", "image": "", "imageID": "",
            "ready": true, "restartCount": 1, "containerID": "containerd://new",
            "lastState": {"terminated": {"exitCode": 1, "containerID": "containerd://old"}}}]});
        let pod: ApiPod = serde_json::from_value(json!({"metadata": metadata, "status": status})).expect("a pod");
        Pod::from(pod)
    }

    #[test]
    fn the_workload_of_a_deployment_s_pod_is_the_deployment_whatever_the_rollout() {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "chat-7d9", "uid": "r", "controller": true}]);
        let pod = pod(&owner, &json!({"pod-template-hash": "7d9"}));
        assert_eq!(pod.workload(), "Deployment/ai/chat");
        assert_eq!(self::pod(&owner, &json!({})).workload(), "ReplicaSet/ai/chat-7d9");
        assert_eq!(self::pod(&json!([]), &json!({})).workload(), "Pod/ai/chat-7d9-x2");
    }

    #[test]
    fn containers_of_the_last_start_are_known_too() {
        let pod = pod(&json!([]), &json!({}));
        let names: Vec<(&str, &str)> = pod.containers.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
        assert_eq!(names, [("new", "server"), ("old", "server")]);
    }
}
