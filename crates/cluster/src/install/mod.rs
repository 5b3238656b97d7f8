//! The objects of an installation, the same that the chart `charts/cotenant` makes of the same values.
//!
//! `docs/design/0004-install.md` has the contract between these objects and the processes they start; a test renders the
//! chart and compares.

mod access;
mod agent;
mod containers;
mod ignored;
mod keeper;
mod object;
mod tree;
mod values;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub use object::{Object, to_yaml};
pub use values::{Values, ValuesError};

use crate::{ApiError, Client};

/// The name of the chart, and of what it installs unless a release is called otherwise.
const CHART: &str = "cotenant";

/// Where an installation goes and what it is called, as `helm install NAME --namespace NAMESPACE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Name.
    pub name: String,
    /// Namespace, unless the values name another.
    pub namespace: String,
}

/// Values with the names that follow from a release.
#[derive(Debug, Clone)]
pub struct Installation {
    values: Values,
    release: Release,
}

impl Installation {
    /// An installation of `values` as `release`.
    ///
    /// # Errors
    /// When the namespace is `default` and the values do not allow it.
    pub fn new(values: Values, release: Release) -> Result<Self, ValuesError> {
        let installation = Self { values, release };
        if installation.namespace() == "default" && !installation.values.names.allow_default_namespace {
            let problem =
                "the namespace `default` is refused: give another one with --namespace, or set allowDefaultNamespace";
            return Err(ValuesError::Unusable(vec![problem.to_owned()]));
        }
        Ok(installation)
    }

    /// What every object's name begins with.
    #[must_use]
    pub fn name(&self) -> String {
        let names = &self.values.names;
        let chart = if names.name_override.is_empty() { CHART } else { &names.name_override };
        let full = match names.fullname_override.as_str() {
            "" if self.release.name.contains(chart) => self.release.name.clone(),
            "" => format!("{}-{chart}", self.release.name),
            full => full.to_owned(),
        };
        shortened(&full)
    }

    /// The namespace of every object that has one.
    #[must_use]
    pub fn namespace(&self) -> &str {
        let over = &self.values.names.namespace_override;
        if over.is_empty() { &self.release.namespace } else { over }
    }

    /// How long uninstalling waits for the nodes, in seconds.
    #[must_use]
    pub const fn uninstall_seconds(&self) -> u64 {
        self.values.uninstall_seconds()
    }

    /// The label selector of the agents' pods.
    #[must_use]
    pub fn agent_selector(&self) -> String {
        let labels = self.component_selector("agent");
        labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }

    /// The objects, in the order in which they are best made.
    #[must_use]
    pub fn objects(&self) -> Vec<Object> {
        let mut objects = access::objects(self);
        objects.extend(self.configs().map(|configs| Object::new(&configs)));
        objects.extend(self.service().map(|service| Object::new(&service)));
        objects.extend(keeper::daemon_set(self).map(|set| Object::new(&set)));
        objects.push(Object::new(&agent::daemon_set(self)));
        objects
    }

    /// The namespace as an object, which admits privileged pods. The chart leaves it to `helm --create-namespace`.
    #[must_use]
    pub fn namespace_object(&self) -> Object {
        let admits = [("pod-security.kubernetes.io/enforce", "privileged")];
        let labels = admits.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Object::new(&Namespace {
            metadata: ObjectMeta {
                name: Some(self.namespace().to_owned()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        })
    }

    fn configs(&self) -> Option<ConfigMap> {
        let data = self.values.config.map.clone();
        let metadata = self.metadata("-configs", None);
        (!data.is_empty()).then(|| ConfigMap { metadata, data: Some(data), ..ConfigMap::default() })
    }

    fn service(&self) -> Option<Service> {
        let metrics = &self.values.metrics;
        let port = i32::from(metrics.port);
        let target = IntOrString::String("metrics".to_owned());
        let port =
            ServicePort { name: Some("metrics".to_owned()), port, target_port: Some(target), ..ServicePort::default() };
        let annotations = Some(metrics.service.annotations.clone()).filter(|annotations| !annotations.is_empty());
        metrics.service.enabled.then(|| Service {
            metadata: ObjectMeta { annotations, ..self.metadata("-metrics", None) },
            // Every agent has its own figures: there is no one address to balance over.
            spec: Some(ServiceSpec {
                cluster_ip: Some("None".to_owned()),
                selector: Some(self.component_selector("agent")),
                ports: Some(vec![port]),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        })
    }

    fn account(&self) -> String {
        format!("{}-service-account", self.name())
    }

    fn metadata(&self, suffix: &str, component: Option<&str>) -> ObjectMeta {
        let mut labels = self.selector();
        labels.insert("app.kubernetes.io/version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        labels.insert("app.kubernetes.io/managed-by".to_owned(), CHART.to_owned());
        labels.extend(component.map(|component| ("app.kubernetes.io/component".to_owned(), component.to_owned())));
        ObjectMeta {
            name: Some(format!("{}{suffix}", self.name())),
            namespace: Some(self.namespace().to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        }
    }

    fn selector(&self) -> BTreeMap<String, String> {
        let names = &self.values.names;
        if !names.selector_labels_override.is_empty() {
            return names.selector_labels_override.clone();
        }
        let name = if names.name_override.is_empty() { CHART.to_owned() } else { shortened(&names.name_override) };
        BTreeMap::from([
            ("app.kubernetes.io/name".to_owned(), name),
            ("app.kubernetes.io/instance".to_owned(), self.release.name.clone()),
        ])
    }

    fn component_selector(&self, component: &str) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert("app.kubernetes.io/component".to_owned(), component.to_owned());
        labels
    }
}

/// At most 63 characters, the longest that a label takes.
fn shortened(name: &str) -> String {
    name.chars().take(63).collect::<String>().trim_end_matches('-').to_owned()
}

impl Client {
    /// Makes `objects` what the cluster has, or makes them, in order.
    ///
    /// # Errors
    /// The first that the API server refuses, or that it cannot be asked for.
    pub async fn apply_objects(&self, objects: &[Object]) -> Result<(), ApiError> {
        for object in objects {
            self.call(format!("apply {object}"), object.apply(self.kube())).await?;
        }
        Ok(())
    }

    /// Deletes `objects` in the reverse order; those that are gone are passed over.
    ///
    /// # Errors
    /// The first that the API server refuses, or that it cannot be asked for.
    pub async fn delete_objects(&self, objects: &[Object]) -> Result<(), ApiError> {
        for object in objects.iter().rev() {
            match self.call(format!("delete {object}"), object.delete(self.kube())).await {
                Err(error) if error.is_not_found() => {}
                answer => answer?,
            }
        }
        Ok(())
    }
}
