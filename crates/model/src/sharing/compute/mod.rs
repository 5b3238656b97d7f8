//! From a configuration and the GPUs at hand to what the node offers.
//!
//! ```text
//! for each GPU:  first rule of cotenant.gpus that selects it ── rules ─▶ exclusive | time slicing | MPS | MIG
//!                none                                        ── base ──▶ flags.migStrategy, then sharing
//! ```
//!
//! NVIDIA's keys mean what they mean in its plugin (0.20), with `devices` and `rename`, which it reads and does not use.

mod base;
mod draft;
mod mig;
mod mps;
mod problem;
mod rules;
mod select;

pub use mps::{DRIVER_RESERVE, SERVER_RESERVE, default_reserve, maximum_clients};
pub use problem::{OfferProblem, OfferProblems};

use std::collections::BTreeMap;

use super::config::{GpuSharing, Sharing};
use super::mig::{Layout, is_part_of_instance, normalized};
use super::offer::{Device, DeviceId, Offer, ResourceName, Strategy};
use crate::GpuUuid;
use crate::gpu::{ComputeMode, Driver, Gpu, MigDevice};

/// The name of whole GPUs, and of MIG devices under `migStrategy: single`.
const GPU: &str = "nvidia.com/gpu";

impl Offer {
    /// The MIG layouts that rules of the configuration want, by GPU.
    #[must_use]
    pub fn mig_layouts(sharing: &Sharing, gpus: &[Gpu], driver: &Driver) -> BTreeMap<GpuUuid, Layout> {
        let assigned = rules::assign(&mut draft::Draft::new(sharing, gpus, driver), gpus);
        let layout = |(gpu, rule): (&Gpu, Option<usize>)| match &sharing.rules.get(rule?)?.sharing {
            GpuSharing::Mig { layout: Some(layout), .. } => Some((gpu.uuid.clone(), Layout::Enabled(layout.clone()))),
            GpuSharing::Mig { layout: None, .. }
            | GpuSharing::Exclusive { .. }
            | GpuSharing::TimeSlicing { .. }
            | GpuSharing::Mps { .. }
            | GpuSharing::MpsClasses { .. } => None,
        };
        gpus.iter().zip(assigned).filter_map(layout).collect()
    }

    /// What a node with these GPUs offers under a configuration; the same arguments give the same offer in the same order.
    ///
    /// Shares of MPS on a GPU with `total` memory of which `reserve` is kept back ([`default_reserve`] unless the file says):
    /// each of `n` gets `(total − reserve) ÷ n` in whole MiB and `min(100, 100 × oversubscription ÷ n)` in whole percent.
    ///
    /// # Errors
    /// Everything that these GPUs cannot do, all at once.
    pub fn compute(sharing: &Sharing, gpus: &[Gpu], driver: &Driver) -> Result<Self, OfferProblems> {
        let mut draft = draft::Draft::new(sharing, gpus, driver);
        let assigned = rules::assign(&mut draft, gpus);
        let (mut ruled, mut rest) = (Vec::new(), Vec::new());
        for (gpu, rule) in gpus.iter().zip(assigned) {
            if gpu.compute_mode == Some(ComputeMode::Prohibited) {
                let index = gpu.index;
                draft.note(format!("No process can use GPU {index}: its compute mode is prohibited (`nvidia-smi -i {index} -c 0` ends that)."));
            }
            match rule {
                Some(number) => {
                    rules::apply(&mut draft, gpu, number);
                    ruled.push(gpu);
                }
                None => rest.push(gpu),
            }
        }
        base::apply(&mut draft, &rest, &ruled);
        draft.finish()
    }
}

/// A GPU as a device that is not shared.
fn device(gpu: &Gpu, strategy: Strategy) -> Device {
    Device {
        id: DeviceId::whole(&gpu.uuid),
        uuid: gpu.uuid.clone(),
        gpu: gpu.uuid.clone(),
        index: gpu.index.to_string(),
        strategy,
        share: None,
        class: None,
        numa_node: gpu.numa_node,
    }
}

/// A MIG device of a GPU as a device that is not shared.
fn mig_device(gpu: &Gpu, mig: &MigDevice, strategy: Strategy) -> Device {
    let position = gpu.mig_devices.iter().position(|known| known.uuid == mig.uuid).unwrap_or(0);
    let number = mig.index.map_or_else(|| position.to_string(), |index| index.to_string());
    Device {
        id: DeviceId::whole(&mig.uuid),
        uuid: mig.uuid.clone(),
        index: format!("{}:{number}", gpu.index),
        ..device(gpu, strategy)
    }
}

/// The resource of MIG devices of a profile under `migStrategy: mixed`; `None` for a part of a GPU instance, which has none.
fn profile_resource(profile: &str) -> Option<ResourceName> {
    (!is_part_of_instance(profile)).then(|| ResourceName(format!("nvidia.com/mig-{}", normalized(profile))))
}

#[cfg(test)]
mod tests;
