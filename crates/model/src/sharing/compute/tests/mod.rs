mod mig;
mod property;
mod refused;
mod share;
mod sharing;

use super::*;
use crate::sharing::explain::Explanation;
use crate::sharing::fixture::{driver, h100, t4, uuid, with_mig};
use crate::sharing::{Share, Strategy};
use crate::{Bytes, Percent};

fn sharing(text: &str) -> Sharing {
    Sharing::parse("config.yaml", text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn compute(text: &str, gpus: &[Gpu]) -> Result<Offer, OfferProblems> {
    Offer::compute(&sharing(text), gpus, &driver())
}

fn offer(text: &str, gpus: &[Gpu]) -> Offer {
    compute(text, gpus).unwrap_or_else(|problems| panic!("{problems}"))
}

fn explained(text: &str, gpus: &[Gpu]) -> String {
    compute(text, gpus).map_or_else(|problems| problems.to_string(), |offer| Explanation::of(&offer).to_string())
}

/// Resources with the ids of their devices.
fn ids(offer: &Offer) -> Vec<(String, Vec<String>)> {
    let ids = |devices: &[Device]| devices.iter().map(|device| device.id.0.clone()).collect();
    offer.resources.iter().map(|resource| (resource.name.0.clone(), ids(&resource.devices))).collect()
}

const CLASSES: &str = "
cotenant:
  classes:
    small: {memory: 8GiB, percent: 10}
    large: {memory: 30GiB, percent: 40}
  gpus:
  - {devices: [0], strategy: mps, classes: {small: 2, large: 2}}
  - {devices: [1], strategy: time-slicing, replicas: 3}
  - {devices: [H100], strategy: exclusive}
";
