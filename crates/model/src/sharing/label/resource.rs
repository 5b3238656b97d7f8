//! Labels of a resource: whole GPUs, and MIG devices by profile.

use std::collections::{BTreeMap, BTreeSet};

use super::{GPU, Labels, product, put};
use crate::gpu::{Gpu, MigDevice};
use crate::sharing::config::MigStrategy;
use crate::sharing::mig::normalized;
use crate::sharing::offer::{Device, Offer};

/// What of a resource is shared how often and under which name.
#[derive(Debug, Clone, Copy)]
struct Shared {
    replicas: u32,
    strategy: &'static str,
    renamed: bool,
}

impl Shared {
    /// Of devices that are whole or shares of one GPU or MIG device, with the name of the whole.
    fn of<'a>(devices: impl Iterator<Item = (&'a str, &'a Device)>, whole: &str) -> Self {
        let mut shared = Self { replicas: 0, strategy: "none", renamed: false };
        for (name, device) in devices {
            shared.replicas += 1;
            if device.id.is_share() {
                shared.strategy = device.strategy.word();
                shared.renamed = name != whole;
            }
        }
        // NVIDIA calls one share none.
        let strategy = if shared.replicas > 1 { shared.strategy } else { "none" };
        Self { replicas: shared.replicas.max(1), strategy, renamed: shared.renamed }
    }

    const fn suffix(self) -> &'static str {
        if self.replicas > 1 && !self.renamed { "-SHARED" } else { "" }
    }

    fn put(self, labels: &mut Labels, resource: &str, product: &str, count: usize) {
        put(labels, &format!("{resource}.product"), &product);
        put(labels, &format!("{resource}.count"), &count);
        put(labels, &format!("{resource}.replicas"), &self.replicas);
        put(labels, &format!("{resource}.sharing-strategy"), &self.strategy);
    }
}

/// Labels of whole GPUs: of the first that is not in MIG mode, else of the first, whose replicas are then 0.
pub(super) fn whole(labels: &mut Labels, offer: &Offer, gpus: &[Gpu]) {
    let is_cut = |gpu: &Gpu| gpu.mig == Some(true);
    let Some(chosen) = gpus.iter().find(|gpu| !is_cut(gpu)).or_else(|| gpus.first()) else { return };
    let alike = gpus.iter().filter(|gpu| gpu.name == chosen.name);
    let of_gpu = |gpu: &Gpu| {
        let devices: Vec<_> = offer.devices_of(&gpu.uuid).map(|(known, one)| (known.name.0.as_str(), one)).collect();
        Shared::of(devices.into_iter(), GPU)
    };
    let shared = if is_cut(chosen) {
        Shared { replicas: 0, strategy: "none", renamed: false }
    } else {
        let all = alike.clone().filter(|gpu| !is_cut(gpu)).map(of_gpu);
        all.reduce(|one, other| if other.replicas > one.replicas { other } else { one })
            .unwrap_or_else(|| of_gpu(chosen))
    };
    shared.put(labels, GPU, &product(&chosen.name, shared.suffix()), alike.count());
    if chosen.memory.0 > 0 {
        put(labels, "nvidia.com/gpu.memory", &(chosen.memory.0 >> 20));
    }
    if let Some((major, minor)) = chosen.compute_capability.filter(|(major, _)| *major > 0) {
        put(labels, "nvidia.com/gpu.family", &family(major, minor));
        put(labels, "nvidia.com/gpu.compute.major", &major);
        put(labels, "nvidia.com/gpu.compute.minor", &minor);
    }
}

/// The family of a compute capability, in GPU feature discovery's words.
const fn family(major: u32, minor: u32) -> &'static str {
    match (major, minor) {
        (1, _) => "tesla",
        (2, _) => "fermi",
        (3, _) => "kepler",
        (5, _) => "maxwell",
        (6, _) => "pascal",
        (7, 0..=4) => "volta",
        (7, _) => "turing",
        (8, 0..=8) => "ampere",
        (8, _) => "ada-lovelace",
        (9, _) => "hopper",
        (10 | 12, _) => "blackwell",
        (13, _) => "rubin",
        _ => "undefined",
    }
}

/// Labels of MIG devices: under the profile's name, or under that of whole GPUs where the strategy is single.
pub(super) fn mig(labels: &mut Labels, offer: &Offer, gpus: &[Gpu], strategy: MigStrategy) {
    let mut profiles: BTreeMap<String, Vec<(&Gpu, &MigDevice)>> = BTreeMap::new();
    for gpu in gpus {
        let offered: BTreeSet<_> = offer.devices_of(&gpu.uuid).map(|(_, device)| &device.uuid).collect();
        for device in gpu.mig_devices.iter().filter(|device| offered.contains(&device.uuid)) {
            profiles.entry(normalized(&device.profile)).or_default().push((gpu, device));
        }
    }
    let word = match strategy {
        MigStrategy::Single => "single",
        MigStrategy::Mixed => "mixed",
        // A rule may cut a GPU all the same.
        MigStrategy::None if !profiles.is_empty() => "mixed",
        MigStrategy::None => return,
    };
    put(labels, "nvidia.com/mig.strategy", &word);
    if strategy == MigStrategy::Single {
        let cut = gpus.iter().find(|gpu| gpu.mig == Some(true));
        match (profiles.len(), cut) {
            (0, None) => return,
            (1, _) => {}
            (_, Some(gpu)) => return invalid(labels, gpu),
            (_, None) => return,
        }
    }
    for (profile, devices) in &profiles {
        let resource =
            if strategy == MigStrategy::Single { GPU.to_owned() } else { format!("nvidia.com/mig-{profile}") };
        of_profile(labels, offer, &resource, profile, devices);
    }
}

/// What GPU feature discovery says where `single` does not fit the MIG devices.
fn invalid(labels: &mut Labels, gpu: &Gpu) {
    put(labels, "nvidia.com/gpu.product", &product(&gpu.name, "-MIG-INVALID"));
    for (name, value) in [("count", "0"), ("replicas", "0"), ("sharing-strategy", ""), ("memory", "0")] {
        put(labels, &format!("{GPU}.{name}"), &value);
    }
}

fn of_profile(labels: &mut Labels, offer: &Offer, resource: &str, profile: &str, devices: &[(&Gpu, &MigDevice)]) {
    let Some((gpu, first)) = devices.first() else { return };
    let of_first = offer.devices_of(&gpu.uuid).filter(|(_, device)| device.uuid == first.uuid);
    let pairs: Vec<_> = of_first.map(|(known, device)| (known.name.0.as_str(), device)).collect();
    let shared = Shared::of(pairs.into_iter(), resource);
    let name = product(&gpu.name, &format!("-MIG-{profile}{}", shared.suffix()));
    shared.put(labels, resource, &name, devices.len());
    put(labels, &format!("{resource}.memory"), &(first.memory.0 >> 20));
    let Some(attributes) = first.attributes else { return };
    for (name, value) in [
        ("multiprocessors", attributes.multiprocessors),
        ("slices.gi", attributes.gpu_slices),
        ("slices.ci", attributes.compute_slices),
        ("engines.copy", attributes.copy_engines),
        ("engines.decoder", attributes.decoders),
        ("engines.encoder", attributes.encoders),
        ("engines.jpeg", attributes.jpeg_engines),
        ("engines.ofa", attributes.optical_flow_engines),
    ] {
        put(labels, &format!("{resource}.{name}"), &value);
    }
}
