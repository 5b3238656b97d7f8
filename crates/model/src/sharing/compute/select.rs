//! Which devices a selector means on this node.

use crate::GpuUuid;
use crate::sharing::config::{DeviceReference, Selector};

/// What a selector chooses from.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    /// `0`, or `0:1` for a MIG device.
    pub(super) index: String,
    pub(super) uuid: &'a GpuUuid,
    pub(super) product: &'a str,
}

/// What a selector chose.
#[derive(Debug, Default)]
pub(super) struct Chosen<'a> {
    /// Positions among the candidates, rising.
    pub(super) positions: Vec<usize>,
    /// References that no candidate answers to.
    pub(super) missing: Vec<&'a DeviceReference>,
}

/// Chooses; a count takes the first so many, as many as there are.
pub(super) fn choose<'a>(selector: &'a Selector, candidates: &[Candidate<'_>]) -> Chosen<'a> {
    match selector {
        Selector::All => Chosen { positions: (0..candidates.len()).collect(), missing: Vec::new() },
        Selector::Count(count) => {
            let count = usize::try_from(*count).unwrap_or(usize::MAX).min(candidates.len());
            Chosen { positions: (0..count).collect(), missing: Vec::new() }
        }
        Selector::List(references) => {
            let mut chosen = Chosen::default();
            for reference in references {
                let found: Vec<usize> = positions(reference, candidates).collect();
                if found.is_empty() {
                    chosen.missing.push(reference);
                }
                chosen.positions.extend(found);
            }
            chosen.positions.sort_unstable();
            chosen.positions.dedup();
            chosen
        }
    }
}

fn positions(reference: &DeviceReference, candidates: &[Candidate<'_>]) -> impl Iterator<Item = usize> {
    let is_meant = |candidate: &Candidate<'_>| match reference {
        DeviceReference::Uuid(uuid) => uuid == candidate.uuid,
        DeviceReference::Product(text) => candidate.product.to_lowercase().contains(&text.to_lowercase()),
        DeviceReference::Index(_) | DeviceReference::MigIndex(..) => spelled(reference) == candidate.index,
    };
    candidates.iter().enumerate().filter(move |(_, candidate)| is_meant(candidate)).map(|(position, _)| position)
}

/// A reference as a file has it.
pub(super) fn spelled(reference: &DeviceReference) -> String {
    match reference {
        DeviceReference::Index(index) => index.to_string(),
        DeviceReference::MigIndex(gpu, device) => format!("{gpu}:{device}"),
        DeviceReference::Uuid(uuid) => uuid.to_string(),
        DeviceReference::Product(text) => text.clone(),
    }
}

/// Whether a selector names single devices, rather than as many or as alike as there are.
pub(super) fn names(selector: &Selector, gpu: &Candidate<'_>) -> bool {
    let Selector::List(references) = selector else { return false };
    references.iter().any(|reference| match reference {
        DeviceReference::Index(_) | DeviceReference::MigIndex(..) => spelled(reference) == gpu.index,
        DeviceReference::Uuid(uuid) => uuid == gpu.uuid,
        DeviceReference::Product(_) => false,
    })
}
