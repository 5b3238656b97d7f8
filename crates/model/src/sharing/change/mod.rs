//! What an edit changes, and whom it disturbs: two offers compared.
//!
//! A container is disturbed when a device that it holds is no longer offered under its name, gets other limits, or is shared in
//! another way; and when its GPU changes its strategy or the MPS daemon that serves it. What is only added disturbs nobody.

mod show;

use std::collections::BTreeMap;

use super::offer::{Device, DeviceId, GpuOffer, Offer, ResourceName, Share, Strategy};
use crate::GpuUuid;

/// A device that a container holds, as the kubelet says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name.
    pub container: String,
    /// The resource that it asked for.
    pub resource: ResourceName,
    /// The device that it got.
    pub device: DeviceId,
}

/// What an edit changes. Displayed as the plan that is printed before the edit is applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// GPUs of which something changes, in order of the new offer, then those that are gone.
    pub gpus: Vec<GpuChange>,
    /// Resources of which a container may now ask for one at most (`true`), or for several (`false`).
    pub one_per_container: Vec<(ResourceName, bool)>,
    /// Containers that are disturbed, with every device that is the cause.
    pub disturbed: Vec<Disturbed>,
}

/// What changes of one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuChange {
    /// The GPU.
    pub gpu: GpuUuid,
    /// Its index.
    pub index: u32,
    /// Its product name.
    pub name: String,
    /// How it was shared; `None` for a GPU that is new.
    pub from: Option<Strategy>,
    /// How it will be shared; `None` for a GPU that is gone.
    pub to: Option<Strategy>,
    /// What becomes of its MPS daemon.
    pub daemon: Option<DaemonChange>,
    /// What becomes of its devices, in the offers' order.
    pub devices: Vec<DeviceChange>,
}

/// What becomes of an MPS daemon that was there before and will be there after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonChange {
    /// Another one takes its place; its clients end.
    Replaced,
    /// It is told another limit for new clients.
    Limit(Share),
}

/// What becomes of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceChange {
    /// The name under which it is, or was, offered.
    pub resource: ResourceName,
    /// The device.
    pub device: DeviceId,
    /// What becomes of it.
    pub effect: Effect,
}

/// What becomes of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is new under this name.
    Appears {
        /// Its limits.
        share: Option<Share>,
    },
    /// It is no longer offered under this name.
    Vanishes,
    /// It is shared in another way.
    Strategy {
        /// As it was.
        from: Strategy,
        /// As it will be.
        to: Strategy,
    },
    /// It gets other limits.
    Share {
        /// As they were.
        from: Option<Share>,
        /// As they will be.
        to: Option<Share>,
    },
}

/// A container that is disturbed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disturbed {
    /// The device it holds.
    pub held: Held,
    /// What happens to it, a lower-case fragment.
    pub why: String,
}

impl Change {
    /// What changes from one offer to another, and which of the holders it disturbs; those of other vendors' devices may be
    /// among them and are left out. Where what was offered is not known, an empty offer stands for it: then holders of what is
    /// not offered (any more) are disturbed.
    #[must_use]
    pub fn between(old: &Offer, new: &Offer, held: &[Held]) -> Self {
        let (before, after) = (index(old), index(new));
        let mut effects: BTreeMap<&GpuUuid, Vec<DeviceChange>> = BTreeMap::new();
        for (key, device) in before.iter().chain(after.iter().filter(|(key, _)| !before.contains_key(*key))) {
            if let Some(effect) = effect(before.get(key).copied(), after.get(key).copied()) {
                let change = DeviceChange { resource: key.0.clone(), device: key.1.clone(), effect };
                effects.entry(&device.gpu).or_default().push(change);
            }
        }
        let gone = old.gpus.iter().filter(|gpu| new.gpu(&gpu.gpu).is_none());
        let gpus = new.gpus.iter().chain(gone).filter_map(|gpu| {
            let devices = effects.remove(&gpu.gpu).unwrap_or_default();
            gpu_change(gpu, (old.gpu(&gpu.gpu), new.gpu(&gpu.gpu)), devices)
        });
        let gpus: Vec<GpuChange> = gpus.collect();
        let why = |held: &Held| disturbance(held, (old, &before), (new, &after));
        let mut disturbed: Vec<Disturbed> =
            held.iter().filter_map(|held| Some(Disturbed { held: held.clone(), why: why(held)? })).collect();
        disturbed.sort_by(|one, other| one.held.cmp(&other.held));
        disturbed.dedup();
        Self { gpus, one_per_container: one_per_container(old, new), disturbed }
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gpus.is_empty() && self.one_per_container.is_empty() && self.disturbed.is_empty()
    }

    /// The pods that are disturbed, namespace and name, each once.
    #[must_use]
    pub fn pods(&self) -> Vec<(&str, &str)> {
        let mut pods: Vec<(&str, &str)> =
            self.disturbed.iter().map(|one| (one.held.namespace.as_str(), one.held.pod.as_str())).collect();
        pods.dedup();
        pods
    }
}

/// A device and the name that it is offered under.
type Key = (ResourceName, DeviceId);

fn index(offer: &Offer) -> BTreeMap<Key, &Device> {
    let of_resource = |resource: &super::Resource| resource.name.clone();
    let pairs = offer.resources.iter().flat_map(|resource| {
        let name = of_resource(resource);
        resource.devices.iter().map(move |device| ((name.clone(), device.id.clone()), device))
    });
    pairs.collect()
}

fn effect(before: Option<&Device>, after: Option<&Device>) -> Option<Effect> {
    match (before, after) {
        (None, None) => None,
        (None, Some(after)) => Some(Effect::Appears { share: after.share }),
        (Some(_), None) => Some(Effect::Vanishes),
        (Some(before), Some(after)) if before.strategy != after.strategy => {
            Some(Effect::Strategy { from: before.strategy, to: after.strategy })
        }
        (Some(before), Some(after)) => {
            (before.share != after.share).then_some(Effect::Share { from: before.share, to: after.share })
        }
    }
}

fn gpu_change(
    gpu: &GpuOffer,
    (old, new): (Option<&GpuOffer>, Option<&GpuOffer>),
    devices: Vec<DeviceChange>,
) -> Option<GpuChange> {
    let (from, to) = (old.map(|gpu| gpu.strategy), new.map(|gpu| gpu.strategy));
    let daemon = daemon(old, new);
    (from != to || daemon.is_some() || !devices.is_empty()).then(|| GpuChange {
        gpu: gpu.gpu.clone(),
        index: gpu.index,
        name: gpu.name.clone(),
        from,
        to,
        daemon,
        devices,
    })
}

fn daemon(old: Option<&GpuOffer>, new: Option<&GpuOffer>) -> Option<DaemonChange> {
    let (old, new) = (old?.daemon.as_ref()?, new?.daemon.as_ref()?);
    let limited = super::offer::MpsDaemon { limit: new.limit, ..old.clone() };
    if limited != *new {
        Some(DaemonChange::Replaced)
    } else {
        (old.limit != new.limit).then_some(DaemonChange::Limit(new.limit))
    }
}

fn one_per_container(old: &Offer, new: &Offer) -> Vec<(ResourceName, bool)> {
    let changed = new.resources.iter().filter(|resource| {
        old.resource(&resource.name).is_some_and(|before| before.one_per_container != resource.one_per_container)
    });
    changed.map(|resource| (resource.name.clone(), resource.one_per_container)).collect()
}

/// What happens to a holder; `None` when it is left alone.
fn disturbance(
    held: &Held,
    (old, before): (&Offer, &BTreeMap<Key, &Device>),
    (new, after): (&Offer, &BTreeMap<Key, &Device>),
) -> Option<String> {
    let key = (held.resource.clone(), held.device.clone());
    let Some(device) = after.get(&key) else {
        let is_ours = held.resource.0.starts_with("nvidia.com/") || before.contains_key(&key);
        return is_ours.then(|| "is no longer offered".to_owned());
    };
    let change = effect(before.get(&key).copied(), Some(device));
    match change {
        Some(Effect::Strategy { from, to }) => return Some(format!("changes from {from} to {to}")),
        Some(Effect::Share { from, to }) => {
            return Some(format!("gets other limits: {} instead of {}", show::limits(to), show::limits(from)));
        }
        Some(Effect::Appears { .. } | Effect::Vanishes) | None => {}
    }
    let (from, to) = (old.gpu(&device.gpu)?, new.gpu(&device.gpu)?);
    if from.strategy != to.strategy {
        return Some(format!("is of GPU {}, which changes from {} to {}", to.index, from.strategy, to.strategy));
    }
    (daemon(Some(from), Some(to)) == Some(DaemonChange::Replaced))
        .then(|| format!("is of GPU {}, whose MPS daemon is replaced", to.index))
}

#[cfg(test)]
mod tests;
