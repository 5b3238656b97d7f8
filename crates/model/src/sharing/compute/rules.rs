//! `cotenant.gpus`: rules for single GPUs.

use std::collections::BTreeMap;

use super::draft::{Draft, Portion};
use super::select::{Candidate, Chosen, choose, names, spelled};
use super::{device, mig, mps};
use crate::gpu::Gpu;
use crate::sharing::config::{GpuSharing, Selector};
use crate::sharing::offer::{ResourceName, Strategy};

/// The rule that holds for each GPU, by position; `None` where none does.
pub(super) fn assign(draft: &mut Draft<'_>, gpus: &[Gpu]) -> Vec<Option<usize>> {
    let sharing = draft.sharing;
    let candidates: Vec<Candidate<'_>> = gpus
        .iter()
        .map(|gpu| Candidate { index: gpu.index.to_string(), uuid: &gpu.uuid, product: &gpu.name })
        .collect();
    let mut assigned: Vec<Option<usize>> = vec![None; gpus.len()];
    for (number, rule) in sharing.rules.iter().enumerate() {
        let chosen = choose(&rule.devices, &candidates);
        absent(draft, number, &rule.devices, &chosen);
        for position in chosen.positions {
            let (gpu, candidate) = (&gpus[position], &candidates[position]);
            let Some(first) = assigned[position] else {
                assigned[position] = Some(number);
                draft.reason(&gpu.uuid, selected(number, &rule.devices));
                continue;
            };
            draft.reason(
                &gpu.uuid,
                format!("`cotenant.gpus[{number}]` selects it too and does not count: the first rule holds."),
            );
            if names(&rule.devices, candidate) && names(&sharing.rules[first].devices, candidate) {
                draft.note(format!(
                    "GPU {} is named by `cotenant.gpus[{first}]` and `cotenant.gpus[{number}]`; the first holds.",
                    gpu.index
                ));
            }
        }
    }
    assigned
}

/// Notes what a rule names that this node does not have: a file may be for many nodes.
fn absent(draft: &mut Draft<'_>, number: usize, selector: &Selector, chosen: &Chosen<'_>) {
    for reference in &chosen.missing {
        draft.note(format!("No GPU of this node is `{}`, which `cotenant.gpus[{number}]` names.", spelled(reference)));
    }
    if let Selector::Count(count) = selector
        && u64::from(*count) > chosen.positions.len() as u64
    {
        draft.note(format!(
            "`cotenant.gpus[{number}]` is for {count} GPUs, and this node has {}.",
            chosen.positions.len()
        ));
    }
}

fn selected(number: usize, selector: &Selector) -> String {
    let what = match selector {
        Selector::All => "every GPU".to_owned(),
        Selector::Count(1) => "the first GPU".to_owned(),
        Selector::Count(count) => format!("the first {count} GPUs"),
        Selector::List(references) => references.iter().map(spelled).collect::<Vec<_>>().join(", "),
    };
    format!("`cotenant.gpus[{number}]` selects it ({what}).")
}

/// Carries out the rule of a GPU.
pub(super) fn apply(draft: &mut Draft<'_>, gpu: &Gpu, number: usize) {
    let sharing = draft.sharing;
    let Some(rule) = sharing.rules.get(number) else { return };
    let path = format!("cotenant.gpus[{number}]");
    if gpu.mig == Some(true) && matches!(rule.sharing, GpuSharing::Exclusive { .. } | GpuSharing::TimeSlicing { .. }) {
        let message = format!("GPU {} is in MIG mode, where no process can use the whole GPU", gpu.index);
        let fix = format!("write `strategy: mig`, or switch MIG mode off (`nvidia-smi -i {} -mig 0`)", gpu.index);
        draft.problem(&path, message, fix);
        return;
    }
    match &rule.sharing {
        GpuSharing::Exclusive { resource } => exclusive(draft, &path, gpu, resource),
        GpuSharing::TimeSlicing { resource, replicas, one_per_container } => {
            let reason = format!("Its {replicas} shares take turns; nothing limits their memory.");
            draft.reason(&gpu.uuid, reason);
            draft.strategy(&gpu.uuid, Strategy::TimeSlicing);
            let device = device(gpu, Strategy::TimeSlicing);
            let one_per_container = *one_per_container;
            draft.add(&Portion { path: &path, resource, one_per_container, device, shares: Some(*replicas) });
        }
        GpuSharing::Mps { resource, replicas, one_per_container } => {
            let Some(share) = mps::equal_share(draft, &format!("{path}.replicas"), gpu, *replicas) else { return };
            draft.strategy(&gpu.uuid, Strategy::Mps);
            let mut device = device(gpu, Strategy::Mps);
            device.share = Some(share);
            let one_per_container = *one_per_container;
            draft.add(&Portion { path: &path, resource, one_per_container, device, shares: Some(*replicas) });
        }
        GpuSharing::MpsClasses { counts } => classes(draft, &format!("{path}.classes"), gpu, counts),
        GpuSharing::Mig { layout, replicas } => mig::apply(draft, &path, gpu, layout.as_ref(), *replicas),
    }
}

fn exclusive(draft: &mut Draft<'_>, path: &str, gpu: &Gpu, resource: &ResourceName) {
    draft.reason(&gpu.uuid, "One container has it whole.".to_owned());
    let device = device(gpu, Strategy::Exclusive);
    draft.add(&Portion { path, resource, one_per_container: false, device, shares: None });
}

fn classes(draft: &mut Draft<'_>, path: &str, gpu: &Gpu, counts: &BTreeMap<String, u32>) {
    if !mps::holds(draft, path, gpu, counts) {
        return;
    }
    draft.strategy(&gpu.uuid, Strategy::Mps);
    let sharing = draft.sharing;
    let known = counts.iter().filter_map(|(name, count)| Some((name, sharing.classes.get(name)?, *count)));
    for (name, class, count) in known.filter(|(_, _, count)| *count > 0) {
        let mut device = device(gpu, Strategy::Mps);
        device.share = Some(crate::sharing::Share {
            memory: crate::Bytes::mebibytes(class.memory.to_mebibytes()),
            percent: class.percent,
        });
        device.class = Some(name.clone());
        draft.add(&Portion { path, resource: &class.resource, one_per_container: true, device, shares: Some(count) });
    }
}
