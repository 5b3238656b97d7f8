//! Layouts by name, as mig-parted's files and the node label `nvidia.com/mig.config` have them.

use std::collections::BTreeMap;

use super::fit::{has_attributes, maximum};
use super::{Layout, is_part_of_instance, normalized};
use crate::gpu::{Gpu, MigProfile, Pci};
use crate::sharing::config::{DeviceReference, MigConfig, Selector};

/// A name stands for no layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no MIG layout `{name}`; known are {}", known.join(", "))]
pub struct LayoutError {
    /// The name as written.
    pub name: String,
    /// Names that mean something on this node.
    pub known: Vec<String>,
}

/// The layout of each GPU under a name, in the order of `gpus`; `None` where the name leaves a GPU as it is.
///
/// A name of `configs` comes before the names that NVIDIA's MIG manager makes from the hardware: `all-disabled`,
/// `all-enabled` (MIG mode, no devices), `all-balanced` (two devices of one slice, one of two and, on a GPU of seven slices, one
/// of three), and `all-<profile>` (as many as the GPU holds). Where several entries of a configuration select a GPU the last
/// one holds, as mig-parted applies them one after the other.
///
/// # Errors
/// When the name is none of these for any GPU.
pub fn named(
    name: &str,
    gpus: &[Gpu],
    configs: &BTreeMap<String, Vec<MigConfig>>,
) -> Result<Vec<Option<Layout>>, LayoutError> {
    if let Some(entries) = configs.get(name) {
        return Ok(gpus.iter().map(|gpu| entries.iter().rev().find(|entry| selects(entry, gpu)).map(layout)).collect());
    }
    let layouts: Vec<Option<Layout>> = gpus.iter().map(|gpu| built_in(name, gpu)).collect();
    if name == "all-disabled" || layouts.iter().any(Option::is_some) {
        return Ok(layouts);
    }
    Err(LayoutError { name: name.to_owned(), known: known(gpus, configs) })
}

fn layout(entry: &MigConfig) -> Layout {
    if entry.enabled { Layout::Enabled(entry.layout.clone()) } else { Layout::Disabled }
}

/// Whether an entry of a mig-parted file means this GPU.
fn selects(entry: &MigConfig, gpu: &Gpu) -> bool {
    let filtered = entry.filter.is_empty()
        || gpu.pci.as_ref().is_some_and(|pci| entry.filter.iter().any(|filter| is_filter_of(filter, pci)));
    filtered
        && match &entry.devices {
            Selector::All => true,
            Selector::Count(count) => gpu.index < *count,
            Selector::List(references) => references.iter().any(|reference| match reference {
                DeviceReference::Index(index) => *index == gpu.index,
                DeviceReference::Uuid(uuid) => *uuid == gpu.uuid,
                DeviceReference::MigIndex(..) => false,
                DeviceReference::Product(text) => gpu.is_product(text),
            }),
        }
}

/// Whether `0xDDDDVVVV` or `0xDDDDVVVV:0xSSSSVVVV` is a GPU's device, and board where it says one.
fn is_filter_of(filter: &str, pci: &Pci) -> bool {
    let number = |text: &str| {
        let digits = text.trim().strip_prefix("0x").or_else(|| text.trim().strip_prefix("0X"));
        digits.and_then(|digits| u32::from_str_radix(digits, 16).ok())
    };
    match filter.split_once(':') {
        None => number(filter) == Some(pci.device_id),
        Some((device, board)) => {
            let board = number(board);
            number(device) == Some(pci.device_id) && board.is_some() && board == pci.subsystem_id
        }
    }
}

/// A layout that NVIDIA's MIG manager makes from the hardware.
fn built_in(name: &str, gpu: &Gpu) -> Option<Layout> {
    gpu.mig?;
    let enabled = |counts: Vec<(String, u32)>| Layout::Enabled(counts.into_iter().collect());
    match name.strip_prefix("all-")? {
        "disabled" => Some(Layout::Disabled),
        "enabled" => Some(enabled(Vec::new())),
        "balanced" => balanced(gpu).map(enabled),
        profile => {
            let wanted = normalized(profile);
            let found = gpu.mig_profiles.iter().find(|known| normalized(&known.name) == wanted)?;
            Some(enabled(vec![(found.name.clone(), maximum(&gpu.mig_profiles, found))]))
        }
    }
}

/// The balanced layout (mig-parted's): of each size the profile without attributes that the GPU holds most of.
fn balanced(gpu: &Gpu) -> Option<Vec<(String, u32)>> {
    let plain = |profile: &&MigProfile| !is_part_of_instance(&profile.name) && !has_attributes(&profile.name);
    let whole = gpu.mig_profiles.iter().filter(plain).map(|profile| profile.slices).max()?;
    let formula: &[(u32, u32)] = match whole {
        7 => &[(1, 2), (2, 1), (3, 1)],
        4 => &[(1, 2), (2, 1)],
        _ => return None,
    };
    let of_size = |slices| {
        let same = gpu.mig_profiles.iter().filter(plain).filter(move |profile| profile.slices == slices);
        same.max_by_key(|profile| (maximum(&gpu.mig_profiles, profile), std::cmp::Reverse(profile.id)))
    };
    formula.iter().map(|(slices, count)| of_size(*slices).map(|profile| (profile.name.clone(), *count))).collect()
}

/// Every name that means something on this node.
fn known(gpus: &[Gpu], configs: &BTreeMap<String, Vec<MigConfig>>) -> Vec<String> {
    let mut names: Vec<String> = configs.keys().cloned().collect();
    for name in ["all-disabled", "all-enabled", "all-balanced"] {
        if gpus.iter().any(|gpu| built_in(name, gpu).is_some()) {
            names.push(name.to_owned());
        }
    }
    let profiles = gpus.iter().flat_map(|gpu| gpu.mig_profiles.iter().map(|profile| normalized(&profile.name)));
    for profile in profiles {
        let name = format!("all-{profile}");
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
