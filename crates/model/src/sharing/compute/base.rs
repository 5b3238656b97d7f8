//! GPUs that no rule selects: NVIDIA's keys, with NVIDIA's meaning and NVIDIA's words for what cannot be.

use super::draft::{Draft, Portion};
use super::select::{Candidate, choose, names, spelled};
use super::{GPU, device, mig_device, mps, profile_resource};
use crate::gpu::{Gpu, MigDevice};
use crate::sharing::config::{MigStrategy, Replicated, Selector};
use crate::sharing::offer::{Device, ResourceName, Strategy};

/// A device before it is shared.
#[derive(Debug)]
struct Plain<'a> {
    gpu: &'a Gpu,
    resource: ResourceName,
    device: Device,
}

impl Plain<'_> {
    fn candidate(&self) -> Candidate<'_> {
        Candidate { index: self.device.index.clone(), uuid: &self.device.uuid, product: &self.gpu.name }
    }
}

const STRATEGY: &str = "flags.migStrategy";

/// Carries out `flags.migStrategy` and `sharing` for `gpus`; `ruled` are those that a rule of `cotenant.gpus` selects.
pub(super) fn apply(draft: &mut Draft<'_>, gpus: &[&Gpu], ruled: &[&Gpu]) {
    let plain = devices(draft, gpus);
    let mut shared: Vec<bool> = vec![false; plain.len()];
    let sharing = draft.sharing;
    for (number, entry) in sharing.replicated.iter().enumerate() {
        let path = format!(
            "sharing.{}.resources[{number}]",
            if entry.strategy == Strategy::Mps { "mps" } else { "timeSlicing" }
        );
        both(draft, &path, entry, ruled);
        for position in chosen(draft, &path, entry, (&plain, ruled)) {
            let (gpu, uuid) = (plain[position].gpu, &plain[position].device.uuid);
            if std::mem::replace(&mut shared[position], true) {
                draft.note(format!("`{path}` selects `{uuid}` too and does not count: the first entry holds."));
            } else {
                share(draft, &path, entry, &plain[position]);
                if plain[position].device.index == gpu.index.to_string() {
                    draft.strategy(&gpu.uuid, entry.strategy);
                }
            }
        }
    }
    for (plain, _) in plain.iter().zip(shared).filter(|(_, shared)| !shared) {
        let whole = if plain.device.strategy == Strategy::Mig { "each MIG device" } else { "it" };
        draft.reason(&plain.gpu.uuid, format!("`sharing` does not share it: one container has {whole} whole."));
        let device = plain.device.clone();
        draft.add(&Portion {
            path: STRATEGY,
            resource: &plain.resource,
            one_per_container: false,
            device,
            shares: None,
        });
    }
}

/// The devices of GPUs under a MIG strategy, in order of GPU and index.
fn devices<'a>(draft: &mut Draft<'_>, gpus: &[&'a Gpu]) -> Vec<Plain<'a>> {
    let strategy = draft.sharing.flags.mig_strategy;
    let is_cut = |gpu: &Gpu| gpu.mig == Some(true) && strategy != MigStrategy::None;
    if strategy == MigStrategy::Single && gpus.iter().any(|gpu| is_cut(gpu)) && !is_uniform(draft, gpus) {
        return Vec::new();
    }
    let mut plain = Vec::new();
    for gpu in gpus {
        if !is_cut(gpu) {
            if !draft.sharing.rules.is_empty() {
                draft.reason(&gpu.uuid, "No rule of `cotenant.gpus` selects it.".to_owned());
            }
            let device = device(gpu, Strategy::Exclusive);
            plain.push(Plain { gpu, resource: ResourceName(GPU.to_owned()), device });
            continue;
        }
        draft.strategy(&gpu.uuid, Strategy::Mig);
        if gpu.mig_devices.is_empty() {
            draft
                .note(format!("GPU {} offers nothing: device {} has no MIG devices configured.", gpu.index, gpu.index));
        }
        for mig in &gpu.mig_devices {
            plain.extend(mig_plain(draft, gpu, mig));
        }
    }
    plain
}

fn mig_plain<'a>(draft: &mut Draft<'_>, gpu: &'a Gpu, mig: &MigDevice) -> Option<Plain<'a>> {
    let device = mig_device(gpu, mig, Strategy::Mig);
    if draft.sharing.flags.mig_strategy == MigStrategy::Single {
        draft.reason(&gpu.uuid, format!("Under `migStrategy: single` its MIG devices are offered as `{GPU}`."));
        return Some(Plain { gpu, resource: ResourceName(GPU.to_owned()), device });
    }
    let Some(resource) = profile_resource(&mig.profile) else {
        let message = format!(
            "MIG profile '{}' does not match any resource patterns (GPU {}, `{}`)",
            mig.profile, gpu.index, mig.uuid
        );
        draft.problem(STRATEGY, message, "make one compute instance of all slices in each GPU instance");
        return None;
    };
    draft.reason(&gpu.uuid, "Under `migStrategy: mixed` its MIG devices are offered by profile.".to_owned());
    Some(Plain { gpu, resource, device })
}

/// Whether every GPU has MIG devices, all of one kind; if not, the problem is reported.
fn is_uniform(draft: &mut Draft<'_>, gpus: &[&Gpu]) -> bool {
    let fix = "cut every GPU into MIG devices of one profile, write `migStrategy: mixed`, or give single GPUs rules in `cotenant.gpus`";
    let mut messages = Vec::new();
    if gpus.iter().any(|gpu| gpu.mig != Some(true)) {
        messages.push("all devices on the node must be configured with the same migEnabled value".to_owned());
    }
    for gpu in gpus.iter().filter(|gpu| gpu.mig == Some(true) && gpu.mig_devices.is_empty()) {
        messages.push(format!("device {} has no MIG devices configured", gpu.index));
    }
    let kind = |mig: &MigDevice| (mig.attributes, mig.attributes.is_none().then(|| mig.profile.clone()));
    let mut kinds = gpus.iter().flat_map(|gpu| &gpu.mig_devices).map(kind);
    if let Some(first) = kinds.next()
        && kinds.any(|other| other != first)
    {
        messages.push("more than one MIG device type present on node".to_owned());
    }
    for message in &messages {
        draft.problem(STRATEGY, message, fix);
    }
    messages.is_empty()
}

/// Reports GPUs that an entry of `sharing` names although a rule has them.
fn both(draft: &mut Draft<'_>, path: &str, entry: &Replicated, ruled: &[&Gpu]) {
    for gpu in ruled {
        let candidate = Candidate { index: gpu.index.to_string(), uuid: &gpu.uuid, product: &gpu.name };
        if names(&entry.devices, &candidate) {
            let message = format!("GPU {} has a rule in `cotenant.gpus` already", gpu.index);
            draft.problem(&format!("{path}.devices"), message, "take it out of one of them");
        }
    }
}

/// Positions of the devices that an entry shares.
fn chosen(
    draft: &mut Draft<'_>,
    path: &str,
    entry: &Replicated,
    (plain, ruled): (&[Plain<'_>], &[&Gpu]),
) -> Vec<usize> {
    let of_resource: Vec<usize> =
        (0..plain.len()).filter(|position| plain[*position].resource == entry.resource).collect();
    let candidates: Vec<Candidate<'_>> = of_resource.iter().map(|position| plain[*position].candidate()).collect();
    if candidates.is_empty() {
        // As NVIDIA's plugin: a file may be for many nodes.
        draft.note(format!("`{path}` shares nothing: no device that it could share is a `{}`.", entry.resource));
        return Vec::new();
    }
    let path = format!("{path}.devices");
    if let Selector::Count(count) = entry.devices
        && u64::from(count) > candidates.len() as u64
    {
        let have = candidates.len();
        let message = format!("requested {count} devices to be replicated, but only {have} devices available");
        draft.problem(&path, message, format!("write {have} or less, or `all`"));
        return Vec::new();
    }
    let chosen = choose(&entry.devices, &candidates);
    let is_ruled = |text: &str| ruled.iter().any(|gpu| gpu.uuid.0 == text || gpu.index.to_string() == text);
    let known: Vec<&str> = candidates.iter().map(|candidate| candidate.index.as_str()).collect();
    for text in chosen.missing.iter().map(|reference| spelled(reference)).filter(|text| !is_ruled(text)) {
        let what = if text.contains('-') { "with UUID" } else { "at index" };
        let fix = format!("name devices of `{}`: {}", entry.resource, known.join(", "));
        draft.problem(&path, format!("no matching device {what}: {text}"), fix);
    }
    chosen.positions.into_iter().map(|position| of_resource[position]).collect()
}

/// Shares one device.
fn share(draft: &mut Draft<'_>, path: &str, entry: &Replicated, plain: &Plain<'_>) {
    let (gpu, replicas) = (plain.gpu, entry.replicas);
    let is_mig = plain.device.strategy == Strategy::Mig;
    let mut device = plain.device.clone();
    device.strategy = entry.strategy;
    let name =
        if entry.offered == entry.resource { String::new() } else { format!(", offered as `{}`", entry.offered) };
    let it = if is_mig { format!("`{}`", entry.resource) } else { "it".to_owned() };
    draft.reason(&gpu.uuid, format!("`{path}` shares {it} {replicas} times{name}."));
    if entry.strategy == Strategy::Mps {
        if is_mig {
            let message = format!("sharing using MPS is not supported for MIG devices (GPU {})", gpu.index);
            draft.problem(path, message, "share MIG devices under `sharing.timeSlicing`");
            return;
        }
        let Some(share) = mps::equal_share(draft, &format!("{path}.replicas"), gpu, replicas) else { return };
        device.share = Some(share);
    } else {
        draft.reason(&gpu.uuid, "Its shares take turns; nothing limits their memory.".to_owned());
    }
    let (resource, one_per_container) = (&entry.offered, entry.one_per_container);
    draft.add(&Portion { path, resource, one_per_container, device, shares: Some(replicas) });
}
