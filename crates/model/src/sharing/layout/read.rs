//! Finding the configurations of a file.

use super::{Configs, Fallback, Layout, Named};
use crate::document::quantity::shown;
use crate::document::{self, Dialect, Node, Problem, Problems};

/// Keys at the root of the device-plugin chart's values that no configuration has. Others that are easily misplaced in a
/// configuration (`mps`, `migStrategy`, …) say nothing.
const CHART_KEYS: [&str; 9] = [
    "config",
    "devicePlugin",
    "gfd",
    "nfd",
    "image",
    "tolerations",
    "nodeSelector",
    "affinity",
    "compatWithCPUManager",
];

/// Keys at the root of a configuration that a chart's values do not have.
const CONFIG_KEYS: [&str; 5] = ["version", "flags", "sharing", "imex", "cotenant"];

/// Values of the chart that become environment variables and so win over every configuration.
const WINNING: [&str; 11] = [
    "migStrategy",
    "failOnInitError",
    "deviceListStrategy",
    "deviceIDStrategy",
    "nvidiaDriverRoot",
    "nvidiaDevRoot",
    "gdrcopyEnabled",
    "gdsEnabled",
    "mofedEnabled",
    "deviceDiscoveryStrategy",
    "compatWithCPUManager",
];

/// A file being read.
struct File<'a> {
    name: &'a str,
    text: &'a str,
    problems: Vec<Problem>,
    notes: Vec<Problem>,
}

pub(super) fn configs(name: &str, text: &str) -> Result<Configs, Problems> {
    let documents = document::documents(Dialect::Kubernetes, name, text)?;
    let mut file = File { name, text, problems: Vec::new(), notes: Vec::new() };
    let configs = file.configs(documents);
    if file.problems.is_empty() {
        Ok(Configs { notes: file.notes, ..configs })
    } else {
        Err(Problems::new(name, file.problems))
    }
}

/// Whether a document is a file of mig-parted.
pub(super) fn is_mig_parted(root: &Node) -> bool {
    root.at(&["mig-configs"]).is_some()
}

impl File<'_> {
    fn configs(&mut self, documents: Vec<Node>) -> Configs {
        let empty = Node::empty();
        let root = documents.first().unwrap_or(&empty);
        if documents.iter().any(|root| root.at(&["kind"]).is_some()) {
            return self.config_map(&documents);
        }
        if root.at(&["devicePlugin", "config"]).is_some() {
            return self.values(Layout::OperatorValues, root, &["devicePlugin", "config"], "data");
        }
        let has = |keys: &[&str]| keys.iter().any(|key| root.at(&[key]).is_some());
        let map = ["map", "name", "default", "fallbackStrategies"];
        let config = map.iter().any(|key| root.at(&["config", key]).is_some());
        if config || (has(&CHART_KEYS) && !has(&CONFIG_KEYS)) {
            return self.values(Layout::ChartValues, root, &["config"], "map");
        }
        let layout = if is_mig_parted(root) { Layout::MigParted } else { Layout::Plain };
        let named = Named { name: String::new(), file: self.name.to_owned(), documents: Ok(documents) };
        Configs { layout, named: vec![named], default: None, fallbacks: Vec::new(), external: None, notes: Vec::new() }
    }

    /// The configurations of a manifest, which may hold other objects too.
    fn config_map(&mut self, documents: &[Node]) -> Configs {
        let maps: Vec<&Node> = documents
            .iter()
            .flat_map(|root| std::iter::once(root).chain(root.at(&["items"]).into_iter().flat_map(Node::items)))
            .filter(|root| root.at(&["kind"]).and_then(Node::text).is_some_and(|kind| kind == "ConfigMap"))
            .collect();
        if maps.is_empty() {
            let place =
                documents.iter().find_map(|root| root.at(&["kind"])).map_or(Node::empty().position(), Node::position);
            let fix = "give a ConfigMap, the values of a chart, or a configuration".to_owned();
            self.problems.push(problem(place, "kind", "the manifest holds no ConfigMap".to_owned(), Some(fix)));
        }
        let named = maps.iter().filter_map(|map| map.at(&["data"])).flat_map(|data| self.named(data, "data")).collect();
        let fallbacks = vec![Fallback::Named, Fallback::Single, Fallback::Empty];
        Configs { layout: Layout::ConfigMap, named, default: None, fallbacks, external: None, notes: Vec::new() }
    }

    /// The configurations of a chart's values.
    fn values(&mut self, layout: Layout, root: &Node, at: &[&str], key: &str) -> Configs {
        let path = at.join(".");
        let empty = Node::empty();
        let config = root.at(at).unwrap_or(&empty);
        let map = config.at(&[key]).filter(|map| !map.is_null());
        let named = map.map(|map| self.named(map, &format!("{path}.{key}"))).unwrap_or_default();
        let default = self.default(config, &named, &path);
        let external = self.external(config, &named, &path);
        let fallbacks = if layout == Layout::ChartValues { self.fallbacks(config) } else { vec![Fallback::Empty] };
        self.winning(root, &named);
        Configs { layout, named, default, fallbacks, external, notes: Vec::new() }
    }

    /// The entries of a mapping, each a text or a mapping.
    fn named(&mut self, map: &Node, path: &str) -> Vec<Named> {
        if !map.is_mapping() {
            let message = format!("found {}, but configurations by name belong here", map.found());
            let fix = "write `NAME: |-` with the configuration below, indented".to_owned();
            self.problems.push(problem(map.position(), path, message, Some(fix)));
        }
        let mut all: Vec<Named> = Vec::new();
        for (name, value) in map.entries() {
            if let Some(at) = all.iter().position(|other| other.name == name) {
                let message = format!("the name `{}` stands here again, and only the last one counts", shown(name));
                self.notes.push(problem(value.position(), path, message, Some("keep one of them".to_owned())));
                all.remove(at);
            }
            all.push(self.entry(name, value));
        }
        all
    }

    fn entry(&self, name: &str, value: &Node) -> Named {
        let documents = if value.is_mapping() {
            Ok(vec![value.clone()])
        } else if value.is_null() {
            Ok(Vec::new())
        } else if value.text().is_some() {
            value.embedded(Dialect::Kubernetes, self.name, self.text)
        } else {
            let message = format!("found {}, but a configuration belongs here", value.found());
            let fix = format!("write `{}: |-` with the configuration below, indented", shown(name));
            Err(Problems::new(self.name, vec![problem(value.position(), &shown(name), message, Some(fix))]))
        };
        Named { name: name.to_owned(), file: self.name.to_owned(), documents }
    }

    fn default(&mut self, config: &Node, named: &[Named], path: &str) -> Option<String> {
        let node = config.at(&["default"])?;
        let name = node.text().filter(|name| !name.is_empty())?.to_owned();
        if !named.is_empty() && !named.iter().any(|one| one.name == name) {
            let known: Vec<&str> = named.iter().map(|one| one.name.as_str()).collect();
            let meant =
                document::closest(&name, known.iter().copied()).map(|meant| format!("did you mean `{meant}`? "));
            let fix = format!("{}there are: {}", meant.unwrap_or_default(), known.join(", "));
            let message = format!("there is no configuration `{}`", shown(&name));
            self.problems.push(problem(node.position(), &format!("{path}.default"), message, Some(fix)));
        }
        Some(name)
    }

    /// A `ConfigMap` elsewhere that holds the configurations.
    fn external(&mut self, config: &Node, named: &[Named], path: &str) -> Option<String> {
        let node = config.at(&["name"])?;
        let name = node.text().filter(|name| !name.is_empty())?;
        let path = format!("{path}.name");
        let name = shown(name);
        let operator = config.at(&["create"]).is_some();
        if named.is_empty() {
            let message = format!("the configurations are in the ConfigMap `{name}`, not in this file");
            let fix = format!("check it too: `kubectl get configmap {name} -o yaml | cotenant config check -`");
            self.notes.push(problem(node.position(), &path, message, Some(fix)));
            return Some(name);
        }
        if !operator && path == "config.name" {
            let message = format!("the chart takes either the ConfigMap `{name}` or the configurations here");
            let fix = "remove `name`, or `map`".to_owned();
            self.problems.push(problem(node.position(), &path, message, Some(fix)));
        }
        None
    }

    fn fallbacks(&mut self, config: &Node) -> Vec<Fallback> {
        let Some(list) = config.at(&["fallbackStrategies"]).filter(|list| !list.is_null()) else {
            return vec![Fallback::Named, Fallback::Single];
        };
        let mut fallbacks = Vec::new();
        for item in list.items() {
            match item.text() {
                Some("named") => fallbacks.push(Fallback::Named),
                Some("single") => fallbacks.push(Fallback::Single),
                Some("empty") => fallbacks.push(Fallback::Empty),
                Some(_) | None => {
                    let message = format!("{} is not one of named, single, empty", item.found());
                    let meant = item.text().and_then(|text| document::closest(text, ["named", "single", "empty"]));
                    let fix = meant.map(|meant| format!("did you mean `{meant}`?"));
                    self.problems.push(problem(item.position(), "config.fallbackStrategies", message, fix));
                }
            }
        }
        fallbacks
    }

    /// Notes values beside the configurations that win over them.
    fn winning(&mut self, root: &Node, named: &[Named]) {
        for key in WINNING {
            let Some(node) = root.at(&[key]).filter(|node| !node.is_null() && !named.is_empty()) else { continue };
            let message = "this value wins over the same key of every configuration, and is not looked at here";
            let fix = "set it in the configurations alone".to_owned();
            self.notes.push(problem(node.position(), key, message.to_owned(), Some(fix)));
        }
    }
}

fn problem(position: document::Position, path: &str, message: String, fix: Option<String>) -> Problem {
    Problem { position, path: path.to_owned(), message, fix }
}
