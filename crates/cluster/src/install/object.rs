//! One object of an installation, whatever its type.

use std::fmt;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, Resource};
use kube::{Api, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};

/// Who writes objects, in the API server's record.
const FIELD_MANAGER: &str = "cotenant-install";

/// An object with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    value: Value,
    resource: ApiResource,
    namespace: Option<String>,
    name: String,
}

impl Object {
    /// `object`, with its type written into it.
    #[must_use]
    pub(super) fn new<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Self {
        let mut value = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&())});
        let body = serde_json::to_value(object).unwrap_or_default();
        if let (Value::Object(value), Value::Object(body)) = (&mut value, body) {
            value.extend(body);
        }
        let resource = ApiResource::erase::<K>(&());
        Self { value, resource, namespace: object.meta().namespace.clone(), name: object.name_any() }
    }

    /// The object as JSON.
    #[must_use]
    pub const fn value(&self) -> &Value {
        &self.value
    }

    /// Its kind, such as `DaemonSet`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.resource.kind
    }

    pub(super) async fn apply(&self, client: kube::Client) -> kube::Result<()> {
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.api(client).patch(&self.name, &parameters, &Patch::Apply(&self.value)).await?;
        Ok(())
    }

    pub(super) async fn delete(&self, client: kube::Client) -> kube::Result<()> {
        self.api(client).delete(&self.name, &DeleteParams::background()).await?;
        Ok(())
    }

    fn api(&self, client: kube::Client) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &self.resource),
            None => Api::all_with(client, &self.resource),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        write!(f, "{} {namespace}{}", self.kind(), self.name)
    }
}

/// Objects as one YAML text, as `kubectl apply -f -` reads it.
///
/// # Errors
/// When an object cannot be written as YAML.
pub fn to_yaml(objects: &[Object]) -> Result<String, YamlError> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        let yaml = serde_saphyr::to_string(&object.value)
            .map_err(|source| YamlError { object: object.to_string(), source: Box::new(source) })?;
        text.push_str(yaml.trim_end());
        text.push('\n');
    }
    Ok(text)
}

/// An object that cannot be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {object} as YAML")]
pub struct YamlError {
    object: String,
    #[source]
    source: Box<serde_saphyr::SerializeError>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_older_yaml_takes_for_something_else_are_quoted() {
        for text in
            ["on", "off", "yes", "no", "y", "0x1f", "1e3", "null", "~", "012", "0o17", "1_000", "12:30:45", "true", ""]
        {
            let yaml = serde_saphyr::to_string(&json!({"value": text})).expect("YAML");
            assert!(yaml.contains(['"', '\'']), "{yaml}");
        }
    }
}
