//! What each GPU offers and why, for people (text) and programs (JSON).

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::offer::{GpuOffer, Offer, ResourceName, Share, Strategy};
use crate::{Bytes, GpuUuid};

/// What each GPU offers and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Every GPU in NVML's order.
    pub gpus: Vec<GpuExplanation>,
    /// What works but may not be what was meant, a sentence a line.
    pub notes: Vec<String>,
}

/// What one GPU offers and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuExplanation {
    /// Index in NVML's order.
    pub index: u32,
    /// The GPU.
    pub uuid: GpuUuid,
    /// Product name.
    pub name: String,
    /// How it is shared.
    pub strategy: Strategy,
    /// What pods can ask for.
    pub offers: Vec<Offered>,
    /// Memory that no share gets, in bytes.
    pub reserve: Bytes,
    /// Why it is so, a sentence a line.
    pub reasons: Vec<String>,
}

/// Devices of one GPU that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Offered {
    /// The name that pods ask for.
    pub resource: ResourceName,
    /// How many.
    pub count: u32,
    /// How each is shared.
    pub strategy: Strategy,
    /// What each may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// Whether a container may ask for one at most.
    pub one_per_container: bool,
}

impl Explanation {
    /// Explains an offer.
    #[must_use]
    pub fn of(offer: &Offer) -> Self {
        let gpus = offer.gpus.iter().map(|gpu| explained(offer, gpu)).collect();
        Self { gpus, notes: offer.notes.clone() }
    }
}

fn explained(offer: &Offer, gpu: &GpuOffer) -> GpuExplanation {
    let mut offers: Vec<Offered> = Vec::new();
    for (resource, device) in offer.devices_of(&gpu.gpu) {
        let is_alike = |known: &&mut Offered| {
            known.resource == resource.name && known.strategy == device.strategy && known.share == device.share
        };
        match offers.iter_mut().find(is_alike) {
            Some(known) => known.count += 1,
            None => offers.push(Offered {
                resource: resource.name.clone(),
                count: 1,
                strategy: device.strategy,
                share: device.share,
                one_per_container: resource.one_per_container,
            }),
        }
    }
    GpuExplanation {
        index: gpu.index,
        uuid: gpu.gpu.clone(),
        name: gpu.name.clone(),
        strategy: gpu.strategy,
        offers,
        reserve: gpu.reserve,
        reasons: gpu.reasons.clone(),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.gpus.is_empty() {
            return f.write_str("This node has no GPU, and offers nothing.");
        }
        for (number, gpu) in self.gpus.iter().enumerate() {
            if number > 0 {
                f.write_str("\n\n")?;
            }
            gpu.fmt(f)?;
        }
        for (number, note) in self.notes.iter().enumerate() {
            write!(f, "{}note: {note}", if number == 0 { "\n\n" } else { "\n" })?;
        }
        Ok(())
    }
}

impl fmt::Display for GpuExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GPU {}: {} ({}): {}", self.index, self.name, self.uuid, self.strategy)?;
        if self.offers.is_empty() {
            f.write_str("\n  offers nothing")?;
        }
        for offered in &self.offers {
            write!(f, "\n  {offered}")?;
        }
        for reason in &self.reasons {
            write!(f, "\n  - {reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", self.count, self.resource)?;
        if let Some(share) = self.share {
            write!(f, ", {}{share}", if self.count > 1 { "each " } else { "" })?;
        }
        f.write_str(if self.one_per_container { ", one at most for a container" } else { "" })
    }
}
