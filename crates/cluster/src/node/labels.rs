//! Labels of a node that are ours, set by server-side apply, so that the API server itself keeps the record of them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::ObjectMeta;
use serde_json::json;

use crate::{ApiError, Client};

/// The name under which the API server records what is ours.
pub const FIELD_MANAGER: &str = "cotenant-node";
/// How often a write that met another one is tried at once.
const TRIES: u32 = 4;

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// What setting labels changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelChange {
    /// Keys that were added or got another value.
    pub set: BTreeSet<String>,
    /// Keys that went.
    pub removed: BTreeSet<String>,
}

impl LabelChange {
    /// Whether everything was as wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }
}

impl Client {
    /// Makes the labels of `node` that are ours be `wanted`, and no other label anything else. Ours are those that this
    /// function set before, by the API server's record, and those whose key `owned` accepts, whoever set them. Nothing is
    /// written when everything is as wanted.
    ///
    /// A key that is also another manager's stays when we give it up.
    ///
    /// # Errors
    /// When the API server refuses or cannot be asked; a node that is not registered is `is_not_found()`.
    pub async fn set_labels(
        &self,
        node: &str,
        wanted: &Labels,
        owned: impl Fn(&str) -> bool,
    ) -> Result<LabelChange, ApiError> {
        let mut tries = 1;
        loop {
            match self.try_set_labels(node, wanted, &owned).await {
                Err(error) if error.is_conflict() && tries < TRIES => tries += 1,
                outcome => return outcome,
            }
        }
    }

    /// Takes every label of ours off `node`; a node that is gone has none.
    ///
    /// # Errors
    /// When the API server refuses or cannot be asked.
    pub async fn remove_labels(&self, node: &str, owned: impl Fn(&str) -> bool) -> Result<LabelChange, ApiError> {
        match self.set_labels(node, &Labels::new(), owned).await {
            Err(error) if error.is_not_found() => Ok(LabelChange::default()),
            outcome => outcome,
        }
    }

    async fn try_set_labels(
        &self,
        node: &str,
        wanted: &Labels,
        owned: &impl Fn(&str) -> bool,
    ) -> Result<LabelChange, ApiError> {
        let action = || format!("set the labels of node {node}");
        let nodes: Api<Node> = Api::all(self.kube());
        let before = self.call(action(), nodes.get_metadata(node)).await?.metadata;
        let ours = recorded(&before);
        let had = before.labels.clone().unwrap_or_default();
        let mut now = had.clone();
        if wanted.iter().any(|(key, value)| had.get(key) != Some(value)) || ours != keys(wanted) {
            now = self.apply_to_node(action(), node, json!({"labels": wanted})).await?.labels.unwrap_or_default();
        }
        let stale: Vec<&String> = now.keys().filter(|key| owned(key) && !wanted.contains_key(*key)).collect();
        if !stale.is_empty() {
            let nulls: BTreeMap<&String, ()> = stale.into_iter().map(|key| (key, ())).collect();
            now = self.merge_into_node(action(), node, json!({"labels": nulls})).await?.labels.unwrap_or_default();
        }
        Ok(difference(&had, &now))
    }

    /// Makes `metadata` all that the API server records of ours on `node`, taking over what others set.
    pub(crate) async fn apply_to_node(
        &self,
        action: String,
        node: &str,
        mut metadata: serde_json::Value,
    ) -> Result<ObjectMeta, ApiError> {
        metadata["name"] = json!(node);
        let body = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata});
        self.patch_node(action, node, PatchParams::apply(FIELD_MANAGER).force(), Patch::Apply(body)).await
    }

    /// Writes `metadata` over that of `node`; null removes.
    pub(crate) async fn merge_into_node(
        &self,
        action: String,
        node: &str,
        metadata: serde_json::Value,
    ) -> Result<ObjectMeta, ApiError> {
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.patch_node(action, node, parameters, Patch::Merge(json!({"metadata": metadata}))).await
    }

    async fn patch_node(
        &self,
        action: String,
        node: &str,
        parameters: PatchParams,
        patch: Patch<serde_json::Value>,
    ) -> Result<ObjectMeta, ApiError> {
        let nodes: Api<Node> = Api::all(self.kube());
        Ok(self.call(action, nodes.patch_metadata(node, &parameters, &patch)).await?.metadata)
    }
}

/// The label keys that the API server records as applied by us.
fn recorded(metadata: &ObjectMeta) -> BTreeSet<String> {
    let ours = |entry: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply")
    };
    let fields = metadata.managed_fields.iter().flatten().filter(ours).filter_map(|entry| entry.fields_v1.as_ref());
    let mut keys = BTreeSet::new();
    for fields in fields.filter_map(|fields| serde_json::to_value(fields).ok()) {
        let labels = fields.pointer("/f:metadata/f:labels").and_then(serde_json::Value::as_object);
        let names = labels.into_iter().flatten().filter_map(|(field, _)| field.strip_prefix("f:"));
        keys.extend(names.map(str::to_owned));
    }
    keys
}

fn keys(labels: &Labels) -> BTreeSet<String> {
    labels.keys().cloned().collect()
}

fn difference(before: &Labels, after: &Labels) -> LabelChange {
    LabelChange {
        set: after.iter().filter(|(key, value)| before.get(*key) != Some(value)).map(|(key, _)| key.clone()).collect(),
        removed: before.keys().filter(|key| !after.contains_key(*key)).cloned().collect(),
    }
}
