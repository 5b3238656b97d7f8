//! The values of an installation, as the chart's `values.yaml` has them.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DaemonSetUpdateStrategy;
use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, LocalObjectReference, PodSecurityContext, ResourceRequirements, SecurityContext, Toleration,
    Volume, VolumeMount,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ignored;
use super::tree;

/// The chart's own values: the only place where defaults stand.
const DEFAULTS: &str = include_str!("../../../../charts/cotenant/values.yaml");

/// Annotations, labels or selectors.
type Strings = BTreeMap<String, String>;

/// Why values cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ValuesError {
    /// A file is no YAML mapping.
    #[error("cannot read the values file {file}: {problem}")]
    Unreadable {
        /// The file.
        file: String,
        /// What is wrong, with its line.
        problem: String,
    },
    /// Values of the wrong type, or that contradict each other, all of them.
    #[error("the values cannot be used:\n  {}", .0.join("\n  "))]
    Unusable(Vec<String>),
}

/// Checked values.
#[derive(Debug, Clone)]
pub struct Values {
    pub(super) config: Config,
    pub(super) names: Names,
    pub(super) flags: Vec<(&'static str, Value)>,
    pub(super) image: Image,
    pub(super) pod: PodValues,
    pub(super) agent: AgentValues,
    pub(super) keeper: Keeper,
    pub(super) metrics: Metrics,
    pub(super) places: Places,
    pub(super) mps: Mps,
    pub(super) uninstall: Uninstall,
    pub(super) own_node_only: bool,
    ignored: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Config {
    pub(super) name: String,
    pub(super) map: BTreeMap<String, String>,
    #[serde(rename = "default")]
    pub(super) chosen: String,
    pub(super) fallback_strategies: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Names {
    pub(super) name_override: String,
    pub(super) fullname_override: String,
    pub(super) namespace_override: String,
    pub(super) selector_labels_override: Strings,
    pub(super) allow_default_namespace: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Image {
    pub(super) repository: String,
    pub(super) pull_policy: Option<String>,
    pub(super) tag: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodValues {
    pub(super) image_pull_secrets: Vec<LocalObjectReference>,
    pub(super) pod_security_context: PodSecurityContext,
    pub(super) node_selector: Strings,
    pub(super) affinity: Affinity,
    pub(super) tolerations: Vec<Toleration>,
    pub(super) priority_class_name: Option<String>,
    pub(super) runtime_class_name: Option<String>,
    pub(super) extra_env: Vec<EnvVar>,
    pub(super) extra_volumes: Vec<Volume>,
    pub(super) extra_volume_mounts: Vec<VolumeMount>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct AgentValues {
    pub(super) update_strategy: DaemonSetUpdateStrategy,
    pub(super) annotations: Strings,
    pub(super) security_context: Option<SecurityContext>,
    pub(super) resources: ResourceRequirements,
    pub(super) plugin: DevicePlugin,
    pub(super) labels: Switch,
    pub(super) mig_strategy: String,
    pub(super) device_list: String,
    pub(super) driver_root: Option<String>,
    pub(super) every_device: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DevicePlugin {
    pub(super) enabled: bool,
    pub(super) enable_host_network: bool,
    /// The operator's layout.
    config: OperatorConfig,
    mps: OperatorMps,
    pub(super) env: Vec<EnvVar>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct OperatorConfig {
    create: bool,
    name: String,
    #[serde(rename = "default")]
    chosen: String,
    data: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct OperatorMps {
    root: String,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Switch {
    pub(super) enabled: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Keeper {
    pub(super) enabled: bool,
    pub(super) image: Image,
    pub(super) pod_annotations: Strings,
    pub(super) resources: ResourceRequirements,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metrics {
    pub(super) port: u16,
    pub(super) service: MetricsService,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct MetricsService {
    pub(super) enabled: bool,
    pub(super) annotations: Strings,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Mps {
    pub(super) root: String,
    pub(super) enable_host_network: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    pub(super) kubelet: String,
    pub(super) state: String,
    pub(super) cdi: String,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Uninstall {
    pub(super) timeout_seconds: u64,
}

impl Values {
    /// The chart's defaults with `files` (name and text) laid over them in order, as with `helm -f`.
    ///
    /// # Errors
    /// Files that are no YAML, values of the wrong type, and values that contradict each other: all of these at once.
    pub fn new(files: &[(String, String)]) -> Result<Self, ValuesError> {
        let unreadable = |file: &str, problem: String| ValuesError::Unreadable { file: file.to_owned(), problem };
        let defaults = tree::read(DEFAULTS).map_err(|problem| unreadable("values.yaml", problem))?;
        let mut merged = defaults.clone();
        for (file, text) in files {
            tree::merge(&mut merged, tree::read(text).map_err(|problem| unreadable(file, problem))?);
        }
        tree::without_nulls(&mut merged);
        let mut reader = Reader { tree: merged, problems: Vec::new() };
        let mut values = reader.values();
        values.image.adopt(&defaults);
        values.ignored = ignored::keys(&reader.tree, &defaults, &values.image.reference());
        if reader.problems.is_empty() { Ok(values) } else { Err(ValuesError::Unusable(reader.problems)) }
    }

    /// Keys that were given and have no effect, each with the reason.
    #[must_use]
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// How long uninstalling waits for the agents, in seconds.
    #[must_use]
    pub const fn uninstall_seconds(&self) -> u64 {
        self.uninstall.timeout_seconds
    }
}

impl Image {
    /// Puts the chart's own image in the place of NVIDIA's, and the chart's tag where none is given.
    fn adopt(&mut self, defaults: &Map<String, Value>) {
        if ignored::is_nvidias(&self.repository) {
            let own = defaults.get("image").and_then(|image| image["repository"].as_str());
            own.unwrap_or_default().clone_into(&mut self.repository);
            self.tag.clear();
        }
        if self.tag.is_empty() {
            env!("CARGO_PKG_VERSION").clone_into(&mut self.tag);
        }
    }

    pub(super) fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// Takes typed sections out of the tree and collects what does not fit.
#[derive(Debug)]
struct Reader {
    tree: Map<String, Value>,
    problems: Vec<String>,
}

impl Reader {
    fn values(&mut self) -> Values {
        let plugin: DevicePlugin = self.section("devicePlugin");
        let config = self.config(&plugin);
        let mut mps: Mps = self.section("mps");
        if !plugin.mps.root.is_empty() {
            mps.root.clone_from(&plugin.mps.root);
        }
        let agent = self.agent(plugin);
        let cdi = self.tree.get("cdi").and_then(|cdi| cdi["directory"].as_str()).unwrap_or_default().to_owned();
        Values {
            flags: self.flags(&agent),
            names: self.root(),
            image: self.section("image"),
            pod: self.root(),
            keeper: self.section("keeper"),
            metrics: self.section("metrics"),
            places: Places { kubelet: self.section("kubeletDirectory"), state: self.section("stateDirectory"), cdi },
            uninstall: self.section("uninstall"),
            own_node_only: self.section::<Switch>("nodePolicy").enabled,
            ignored: Vec::new(),
            config,
            agent,
            mps,
        }
    }

    /// One key, or its default when it is not there or does not fit.
    fn section<T: DeserializeOwned + Default>(&mut self, key: &str) -> T {
        let Some(value) = self.tree.get(key) else { return T::default() };
        serde_json::from_value(value.clone()).unwrap_or_else(|error| {
            self.problems.push(format!("`{key}`: {error}"));
            T::default()
        })
    }

    /// The keys of the root that `T` has.
    fn root<T: DeserializeOwned + Default>(&mut self) -> T {
        serde_json::from_value(Value::Object(self.tree.clone())).unwrap_or_else(|error| {
            self.problems.push(error.to_string());
            T::default()
        })
    }

    fn agent(&mut self, plugin: DevicePlugin) -> AgentValues {
        let operators = self.tree.get("mig").and_then(|mig| mig["strategy"].as_str()).unwrap_or_default().to_owned();
        let mig_strategy = Some(self.section::<String>("migStrategy")).filter(|strategy| !strategy.is_empty());
        let security_context = self.tree.get("securityContext").filter(|context| !tree::is_empty(context)).cloned();
        AgentValues {
            update_strategy: self.section("updateStrategy"),
            annotations: self.section("podAnnotations"),
            security_context: security_context.map(|_given| self.section("securityContext")),
            resources: self.section("resources"),
            labels: self.section("labels"),
            mig_strategy: mig_strategy.unwrap_or(operators),
            device_list: joined(self.tree.get("deviceListStrategy")),
            driver_root: self.section("nvidiaDriverRoot"),
            every_device: self.section("compatWithCPUManager"),
            plugin,
        }
    }

    /// The variables that values set, in the chart's order.
    fn flags(&self, agent: &AgentValues) -> Vec<(&'static str, Value)> {
        let root = |key: &str| self.tree.get(key).cloned().unwrap_or_default();
        let cdi = |key: &str| self.tree.get("cdi").map(|cdi| cdi[key].clone()).unwrap_or_default();
        let flags = [
            ("PASS_DEVICE_SPECS", root("compatWithCPUManager")),
            ("MIG_STRATEGY", Value::from(agent.mig_strategy.clone())),
            ("FAIL_ON_INIT_ERROR", root("failOnInitError")),
            ("DEVICE_LIST_STRATEGY", Value::from(agent.device_list.clone())),
            ("DEVICE_ID_STRATEGY", root("deviceIDStrategy")),
            ("NVIDIA_DRIVER_ROOT", root("nvidiaDriverRoot")),
            ("NVIDIA_DEV_ROOT", root("nvidiaDevRoot")),
            ("GDRCOPY_ENABLED", root("gdrcopyEnabled")),
            ("GDS_ENABLED", root("gdsEnabled")),
            ("MOFED_ENABLED", root("mofedEnabled")),
            ("DEVICE_DISCOVERY_STRATEGY", root("deviceDiscoveryStrategy")),
            ("GFD_NO_TIMESTAMP", root("noTimestamp")),
            ("GFD_SLEEP_INTERVAL", root("sleepInterval")),
            ("NVIDIA_CDI_HOOK_PATH", cdi("nvidiaHookPath")),
            ("CDI_FEATURE_FLAGS", cdi("featureFlags")),
        ];
        let is_set = |(_, value): &(&str, Value)| !value.is_null() && value.as_str() != Some("");
        flags.into_iter().filter(is_set).collect()
    }

    /// The configurations, from the chart's layout or the operator's, checked.
    fn config(&mut self, plugin: &DevicePlugin) -> Config {
        let own: Config = self.section("config");
        let operators = &plugin.config;
        if self.tree.get("namespace").is_some_and(|namespace| !tree::is_empty(namespace)) {
            self.problems.push("`namespace` is not a value: use --namespace, or set namespaceOverride".to_owned());
        }
        if (operators.create || !operators.name.is_empty()) && (!own.name.is_empty() || !own.map.is_empty()) {
            let both = "`config` and `devicePlugin.config` both name configurations: leave one of them out";
            self.problems.push(both.to_owned());
        }
        let fallback_strategies = own.fallback_strategies.clone();
        let config = if operators.create {
            Config {
                map: operators.data.clone(),
                chosen: operators.chosen.clone(),
                fallback_strategies,
                ..Config::default()
            }
        } else if operators.name.is_empty() {
            own
        } else {
            let (name, chosen) = (operators.name.clone(), operators.chosen.clone());
            Config { name, chosen, fallback_strategies, ..Config::default() }
        };
        self.problems.extend(config.problems());
        config
    }
}

impl Config {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.name.is_empty() && !self.map.is_empty() {
            problems.push(
                "`config.name` and `config.map` exclude each other: a ConfigMap of yours, or one that is made"
                    .to_owned(),
            );
        }
        let known = ["named", "single", "empty"];
        for strategy in self.fallback_strategies.iter().filter(|strategy| !known.contains(&strategy.as_str())) {
            problems.push(format!("`config.fallbackStrategies`: `{strategy}` is none of named, single, empty"));
        }
        if self.map.is_empty() {
            return problems;
        }
        if !self.chosen.is_empty() && !self.map.contains_key(&self.chosen) {
            problems.push(format!("`config.default` names `{}`, which `config.map` does not have", self.chosen));
        }
        let may_be_none = self.fallback_strategies.iter().any(|strategy| strategy == "empty");
        if self.map.len() > 1 && self.chosen.is_empty() && !self.map.contains_key("default") && !may_be_none {
            let which = "`config.map` has several configurations: set config.default, or call one of them `default`";
            problems.push(which.to_owned());
        }
        problems
    }
}

/// A list as one text; a text as it is.
fn joined(value: Option<&Value>) -> String {
    match value {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        Some(Value::String(text)) => text.clone(),
        _ => String::new(),
    }
}
