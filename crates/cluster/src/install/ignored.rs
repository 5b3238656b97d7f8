//! Keys that are accepted and have no effect: those of NVIDIA's charts that have no counterpart here, and unknown ones.

use serde_json::{Map, Value};

/// Keys that are known beyond those of `values.yaml`.
const ELSEWHERE: [(&str, &[&str]); 4] = [
    ("", &["mig", "global"]),
    ("devicePlugin", &["config", "mps", "env"]),
    ("mps", &["enableHostPID"]),
    ("mig", &["strategy"]),
];
/// Sections whose keys are looked at; in any other every key may be right.
const SECTIONS: [&str; 6] = ["config", "image", "devicePlugin", "mps", "mig", "cdi"];

/// Whether an image is that of NVIDIA's device plugin, from whichever registry.
pub(super) fn is_nvidias(repository: &str) -> bool {
    repository.ends_with("k8s-device-plugin")
}

/// What to say of `given`; `image` is the image that is used.
pub(super) fn keys(given: &Map<String, Value>, defaults: &Map<String, Value>, image: &str) -> Vec<String> {
    let repository = given.get("image").and_then(|image| image["repository"].as_str()).unwrap_or_default();
    let mut lines = Vec::new();
    if is_nvidias(repository) {
        lines.push(format!("image: {repository} is NVIDIA's image; {image} is used instead"));
    }
    for (key, value) in given {
        match (key.as_str(), value) {
            ("gfd", _) => {
                lines.push(
                    "gfd: the agent labels its node itself; labels.enabled=false leaves that to others".to_owned(),
                );
            }
            ("nfd", _) => lines.push(
                "nfd: Node Feature Discovery is not installed; without it label GPU nodes nvidia.com/gpu.present=true"
                    .to_owned(),
            ),
            _ if !is_known("", key, defaults) => lines.push(format!("{key}: not known here")),
            (section, Value::Object(inner)) if SECTIONS.contains(&section) => {
                let empty = Map::new();
                let known = defaults.get(section).and_then(Value::as_object).unwrap_or(&empty);
                let unknown = inner.keys().filter(|key| !is_known(section, key, known));
                lines.extend(unknown.map(|key| format!("{section}.{key}: not known here")));
            }
            _ => {}
        }
    }
    if given.get("mps").is_some_and(|mps| mps["enableHostPID"] == Value::Bool(false)) {
        lines.push("mps.enableHostPID: the keeper always sees the host's processes".to_owned());
    }
    lines
}

fn is_known(section: &str, key: &str, defaults: &Map<String, Value>) -> bool {
    let elsewhere = ELSEWHERE.iter().find(|(name, _)| *name == section);
    defaults.contains_key(key) || elsewhere.is_some_and(|(_, keys)| keys.contains(&key))
}
