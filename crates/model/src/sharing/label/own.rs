//! Labels of our own: what NVIDIA's cannot say of a node.

use std::collections::BTreeMap;

use super::{LONGEST, Labels, fitted, put, sanitized};
use crate::gpu::Gpu;
use crate::sharing::offer::{Device, Offer};

/// Their domain.
pub(super) const DOMAIN: &str = "cotenant.dev/";

/// Labels of our own.
pub(super) fn own(labels: &mut Labels, offer: &Offer, gpus: &[Gpu]) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for gpu in &offer.gpus {
        *counts.entry(format!("gpus.{}", gpu.strategy)).or_default() += 1;
    }
    for gpu in gpus {
        let product = fitted(&sanitized(&gpu.name));
        if !product.is_empty() {
            *counts.entry(fitted(&format!("product.{product}"))).or_default() += 1;
        }
    }
    for (name, count) in counts {
        put(labels, &format!("{DOMAIN}{name}"), &count);
    }
    for resource in &offer.resources {
        let shares: Vec<&Device> = resource.devices.iter().filter(|device| device.id.is_share()).collect();
        let Some(first) = shares.first() else { continue };
        let name = resource.name.0.strip_prefix("nvidia.com/").unwrap_or(&resource.name.0).replace('/', ".");
        let mut say = |what: &str, value: String| {
            let room = LONGEST - "share..".len() - what.len();
            let name: String = name.chars().take(room).collect();
            put(labels, &format!("{DOMAIN}share.{name}.{what}"), &value);
        };
        say("count", shares.len().to_string());
        say("strategy", first.strategy.to_string());
        if let Some(memory) = shares.iter().filter_map(|device| device.share).map(|share| share.memory).min() {
            say("memory", (memory.0 >> 20).to_string());
        }
        if let Some(percent) = shares.iter().filter_map(|device| device.share).map(|share| share.percent).min() {
            say("percent", percent.to_string());
        }
    }
}
