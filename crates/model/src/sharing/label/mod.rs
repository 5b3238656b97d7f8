//! What a node says of its GPUs: the labels of NVIDIA's GPU feature discovery (0.20), and our own for what those cannot say.
//!
//! NVIDIA's set describes one kind of GPU and one way of sharing. On a node with several it describes the GPUs of the lowest
//! index that are not cut by MIG; ours tell the rest:
//!
//! | label | value |
//! |---|---|
//! | `cotenant.dev/gpus.<strategy>` | GPUs under the strategy |
//! | `cotenant.dev/product.<product>` | GPUs of the product |
//! | `cotenant.dev/share.<resource>.{count,strategy}` | shares of the resource after `nvidia.com/`, and how they are shared |
//! | `cotenant.dev/share.<resource>.{memory,percent}` | the least that a share of it has, MiB and percent of multiprocessors |

mod own;
mod resource;

use std::collections::{BTreeMap, BTreeSet};

use super::config::MigStrategy;
use super::offer::{Offer, Strategy};
use crate::gpu::{Driver, Gpu};

const GPU: &str = "nvidia.com/gpu";

/// What labels need to know beside GPUs and their offer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Surroundings<'a> {
    /// `flags.migStrategy`.
    pub mig_strategy: MigStrategy,
    /// The machine's product name, as `/sys/class/dmi/id/product_name` has it.
    pub machine: Option<&'a str>,
    /// Seconds since 1970; `None` under `noTimestamp`.
    pub timestamp: Option<u64>,
}

/// A node's labels.
pub type Labels = BTreeMap<String, String>;

/// Every label of a node. Values hold what Kubernetes takes: 63 letters, digits, `-`, `_` and `.`.
#[must_use]
pub fn labels(offer: &Offer, gpus: &[Gpu], driver: &Driver, around: Surroundings<'_>) -> Labels {
    let mut labels = Labels::new();
    if let Some(timestamp) = around.timestamp {
        put(&mut labels, "nvidia.com/gfd.timestamp", &timestamp);
    }
    virtual_gpus(&mut labels, gpus);
    if gpus.is_empty() {
        return labels;
    }
    put(&mut labels, "nvidia.com/gpu.machine", &sanitized(around.machine.unwrap_or("unknown")));
    versions(&mut labels, driver);
    put(&mut labels, "nvidia.com/mig.capable", &gpus.iter().any(|gpu| gpu.mig.is_some()));
    put(&mut labels, "nvidia.com/mps.capable", &offer.gpus.iter().any(|gpu| gpu.strategy == Strategy::Mps));
    put(&mut labels, "nvidia.com/gpu.mode", &mode(gpus));
    fabric(&mut labels, gpus);
    resource::whole(&mut labels, offer, gpus);
    resource::mig(&mut labels, offer, gpus, around.mig_strategy);
    own::own(&mut labels, offer, gpus);
    labels
}

/// Parts of the names of NVIDIA's labels that end a name beginning with `nvidia.com/gpu.` or `nvidia.com/mig-PROFILE.`.
const OF_RESOURCE: [&str; 14] = [
    "product",
    "count",
    "replicas",
    "sharing-strategy",
    "memory",
    "multiprocessors",
    "slices.gi",
    "slices.ci",
    "engines.copy",
    "engines.decoder",
    "engines.encoder",
    "engines.jpeg",
    "engines.ofa",
    "family",
];

/// NVIDIA's labels that are not of a resource.
const OF_NODE: [&str; 23] = [
    "gfd.timestamp",
    "gpu.machine",
    "gpu.mode",
    "gpu.clique",
    "gpu.compute.major",
    "gpu.compute.minor",
    "mig.capable",
    "mig.strategy",
    "mps.capable",
    "vgpu.present",
    "vgpu.host-driver-version",
    "vgpu.host-driver-branch",
    "cuda.driver.major",
    "cuda.driver.minor",
    "cuda.driver.rev",
    "cuda.runtime.major",
    "cuda.runtime.minor",
    "cuda.driver-version.major",
    "cuda.driver-version.minor",
    "cuda.driver-version.revision",
    "cuda.driver-version.full",
    "cuda.runtime-version.major",
    "cuda.runtime-version.minor",
];

/// Whether [`labels`] writes a label, so that it is removed when it is no longer true and when the program is uninstalled.
/// Labels that people and other programs write (`nvidia.com/device-plugin.config`, `mig.config`, `gpu.present`,
/// `gpu.deploy.…`) are not among them.
#[must_use]
pub fn is_written(key: &str) -> bool {
    let Some(name) = key.strip_prefix("nvidia.com/") else {
        let own = key.strip_prefix(own::DOMAIN);
        return own.is_some_and(|name| ["gpus.", "product.", "share."].iter().any(|start| name.starts_with(start)));
    };
    if OF_NODE.contains(&name) || name == "cuda.runtime-version.full" {
        return true;
    }
    if let Some(rest) = name.strip_prefix("gpu.") {
        return OF_RESOURCE.contains(&rest);
    }
    let is_of_profile = |rest: &str| OF_RESOURCE.iter().any(|end| rest.ends_with(&format!(".{end}")));
    name.strip_prefix("mig-").is_some_and(is_of_profile)
}

fn put(labels: &mut Labels, key: &str, value: &impl ToString) {
    labels.insert(key.to_owned(), fitted(&value.to_string()));
}

/// Longest value of a label.
const LONGEST: usize = 63;

/// A value that Kubernetes takes: cut to 63 characters, with a letter or digit at both ends.
fn fitted(value: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let kept: String = value.chars().filter(|c| allowed(*c)).take(LONGEST).collect();
    kept.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// A name as GPU feature discovery writes it: without brackets and the like, `-` for blanks.
fn sanitized(text: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
    let kept: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(allowed).collect();
    kept.split_whitespace().collect::<Vec<_>>().join("-")
}

/// A product with what is said after it; of both the product is cut when they are too long.
fn product(name: &str, suffix: &str) -> String {
    let name: String = sanitized(name).chars().take(LONGEST.saturating_sub(suffix.len())).collect();
    format!("{name}{suffix}")
}

fn virtual_gpus(labels: &mut Labels, gpus: &[Gpu]) {
    let host = gpus.iter().find_map(|gpu| gpu.vgpu_host.as_ref());
    put(labels, "nvidia.com/vgpu.present", &host.is_some());
    if let Some(host) = host {
        put(labels, "nvidia.com/vgpu.host-driver-version", &host.version);
        put(labels, "nvidia.com/vgpu.host-driver-branch", &host.branch);
    }
}

fn versions(labels: &mut Labels, driver: &Driver) {
    let parts: Vec<&str> = driver.version.split('.').collect();
    if let [major, minor, rest @ ..] = parts.as_slice()
        && rest.len() <= 1
    {
        let revision = rest.first().copied().unwrap_or_default();
        for (old, new, part) in [("major", "major", *major), ("minor", "minor", *minor), ("rev", "revision", revision)]
        {
            put(labels, &format!("nvidia.com/cuda.driver.{old}"), &part);
            put(labels, &format!("nvidia.com/cuda.driver-version.{new}"), &part);
        }
        put(labels, "nvidia.com/cuda.driver-version.full", &driver.version);
    }
    if let Some((major, minor)) = driver.cuda {
        for name in ["runtime", "runtime-version"] {
            put(labels, &format!("nvidia.com/cuda.{name}.major"), &major);
            put(labels, &format!("nvidia.com/cuda.{name}.minor"), &minor);
        }
        put(labels, "nvidia.com/cuda.runtime-version.full", &format!("{major}.{minor}"));
    }
}

/// What the GPUs are on the PCI bus, where all are the same.
fn mode(gpus: &[Gpu]) -> &'static str {
    let classes: BTreeSet<Option<u16>> = gpus.iter().map(|gpu| gpu.pci.as_ref().and_then(|pci| pci.class)).collect();
    match (classes.len(), classes.first()) {
        (1, Some(Some(0x0300))) => "graphics",
        (1, Some(Some(0x0302))) => "compute",
        _ => "unknown",
    }
}

fn fabric(labels: &mut Labels, gpus: &[Gpu]) {
    let cliques: BTreeSet<&str> = gpus.iter().filter_map(|gpu| gpu.fabric_clique.as_deref()).collect();
    if let (1, Some(clique)) = (cliques.len(), cliques.first()) {
        put(labels, "nvidia.com/gpu.clique", &clique);
    }
}

#[cfg(test)]
mod tests;
