//! From what a GPU is to a layout.

use std::collections::BTreeMap;

use super::fit::{fit, maximum};
use super::{Kept, Layout, Occupied, Plan, Step, is_part_of_instance, normalized};
use crate::GpuUuid;
use crate::gpu::{Gpu, MigInstance, MigPlacement, MigProfile};

/// Why a GPU cannot have a layout, or not now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It has no MIG.
    #[error("GPU {gpu} ({name}) cannot do MIG")]
    NotCapable {
        /// Index of the GPU.
        gpu: u32,
        /// Its product name.
        name: String,
    },
    /// It has no such profile.
    #[error("GPU {gpu} ({name}) has no MIG profile `{profile}`; it has {}", known.join(", "))]
    UnknownProfile {
        /// Index of the GPU.
        gpu: u32,
        /// Its product name.
        name: String,
        /// The profile as written.
        profile: String,
        /// Names that it has.
        known: Vec<String>,
    },
    /// A part of a GPU instance is wanted.
    #[error("`{profile}` is a part of a GPU instance, and MIG devices are made of whole ones here; write `{whole}`")]
    PartOfInstance {
        /// The profile as written.
        profile: String,
        /// The instance's own profile.
        whole: String,
    },
    /// More of a profile than the GPU ever holds.
    #[error("GPU {gpu} ({name}) holds at most {maximum} of `{profile}`, and {wanted} are wanted")]
    TooMany {
        /// Index of the GPU.
        gpu: u32,
        /// Its product name.
        name: String,
        /// The profile as written.
        profile: String,
        /// How many are wanted.
        wanted: u32,
        /// How many an empty GPU holds.
        maximum: u32,
    },
    /// The instances do not fit on the GPU together.
    #[error("{wanted} do not fit on GPU {gpu} ({name}) together{}", detail(.used, .whole))]
    DoesNotFit {
        /// Index of the GPU.
        gpu: u32,
        /// Its product name.
        name: String,
        /// The profiles with their counts.
        wanted: String,
        /// Compute slices that they take.
        used: u32,
        /// Compute slices of the GPU.
        whole: u32,
    },
    /// What would be destroyed, or reset, is in use.
    #[error("GPU {gpu} is in use: {}", by.join(", "))]
    Busy {
        /// Index of the GPU.
        gpu: u32,
        /// Who holds what.
        by: Vec<String>,
    },
    /// MIG mode was changed and waits for a reset.
    #[error(
        "MIG mode of GPU {gpu} changes with the next reset; reset it (`nvidia-smi -i {gpu} --gpu-reset`) or restart the node"
    )]
    ResetPending {
        /// Index of the GPU.
        gpu: u32,
    },
    /// The GPU does not tell its profiles or instances.
    #[error("GPU {gpu} does not say which {what} it has; reading them takes root")]
    Unreadable {
        /// Index of the GPU.
        gpu: u32,
        /// `MIG profiles` or `MIG instances`.
        what: &'static str,
    },
}

fn detail(used: &u32, whole: &u32) -> String {
    if used > whole { format!(": they take {used} compute slices of {whole}") } else { String::new() }
}

/// The way from what a GPU is to a layout. Instances that the layout has too are kept, those in use first of all; what is in
/// use is never destroyed.
///
/// # Errors
/// When the GPU cannot have the layout, or not while `occupied` is as it is.
pub fn plan(gpu: &Gpu, layout: &Layout, occupied: &[Occupied]) -> Result<Plan, PlanError> {
    if gpu.mig.is_some() && gpu.mig_pending.is_some() && gpu.mig_pending != gpu.mig {
        return Err(PlanError::ResetPending { gpu: gpu.index });
    }
    match (layout, gpu.mig) {
        (Layout::Disabled, None | Some(false)) => Ok(empty(gpu)),
        (Layout::Disabled, Some(true)) => disable(gpu, occupied),
        (Layout::Enabled(_), None) => Err(PlanError::NotCapable { gpu: gpu.index, name: gpu.name.clone() }),
        (Layout::Enabled(counts), Some(false)) => enable(gpu, counts, occupied),
        (Layout::Enabled(counts), Some(true)) => change(gpu, counts, occupied),
    }
}

const fn empty(gpu: &Gpu) -> Plan {
    Plan { index: gpu.index, keep: Vec::new(), steps: Vec::new(), again: false }
}

/// Refuses while anything of the GPU is held.
fn idle(gpu: &Gpu, occupied: &[Occupied]) -> Result<(), PlanError> {
    if occupied.iter().any(|held| is_of(gpu, held)) { Err(in_use(gpu, occupied)) } else { Ok(()) }
}

fn is_of(gpu: &Gpu, held: &Occupied) -> bool {
    held.device == gpu.uuid || gpu.mig_devices.iter().any(|mig| mig.uuid == held.device)
}

fn in_use(gpu: &Gpu, occupied: &[Occupied]) -> PlanError {
    let held = occupied.iter().filter(|held| is_of(gpu, held));
    PlanError::Busy { gpu: gpu.index, by: held.map(|held| format!("{} holds {}", held.by, held.device)).collect() }
}

fn disable(gpu: &Gpu, occupied: &[Occupied]) -> Result<Plan, PlanError> {
    idle(gpu, occupied)?;
    let mut steps: Vec<Step> = gpu.mig_instances.iter().map(|instance| destroy(gpu, instance)).collect();
    steps.push(Step::Disable);
    Ok(Plan { steps, ..empty(gpu) })
}

fn enable(gpu: &Gpu, counts: &BTreeMap<String, u32>, occupied: &[Occupied]) -> Result<Plan, PlanError> {
    let created = if gpu.mig_profiles.is_empty() { None } else { Some(create(gpu, &[], &wanted(gpu, counts)?)?) };
    idle(gpu, occupied)?;
    let again = created.is_none() && counts.values().any(|count| *count > 0);
    let steps = std::iter::once(Step::Enable).chain(created.unwrap_or_default()).collect();
    Ok(Plan { steps, again, ..empty(gpu) })
}

/// Counts by profile of the GPU, none of them zero.
type Wanted<'a> = Vec<(&'a MigProfile, u32)>;

fn wanted<'a>(gpu: &'a Gpu, counts: &BTreeMap<String, u32>) -> Result<Wanted<'a>, PlanError> {
    let mut wanted: Wanted<'a> = Vec::new();
    for (name, count) in counts.iter().filter(|(_, count)| **count > 0) {
        let profile = profile(gpu, name)?;
        let before = wanted.iter().position(|(known, _)| known.id == profile.id);
        let total = before.map_or(0, |position| wanted[position].1).saturating_add(*count);
        let maximum = maximum(&gpu.mig_profiles, profile);
        if total > maximum {
            let (gpu, product, profile) = (gpu.index, gpu.name.clone(), name.clone());
            return Err(PlanError::TooMany { gpu, name: product, profile, wanted: total, maximum });
        }
        match before {
            Some(position) => wanted[position].1 = total,
            None => wanted.push((profile, total)),
        }
    }
    Ok(wanted)
}

fn profile<'a>(gpu: &'a Gpu, name: &str) -> Result<&'a MigProfile, PlanError> {
    let plain = normalized(name);
    if is_part_of_instance(name) {
        let whole = plain.split_once('.').map_or_else(String::new, |(_, whole)| whole.to_owned());
        return Err(PlanError::PartOfInstance { profile: name.to_owned(), whole });
    }
    gpu.mig_profiles.iter().find(|known| normalized(&known.name) == plain).ok_or_else(|| PlanError::UnknownProfile {
        gpu: gpu.index,
        name: gpu.name.clone(),
        profile: name.to_owned(),
        known: gpu.mig_profiles.iter().map(|known| known.name.clone()).collect(),
    })
}

/// The instances to make beside `fixed`.
fn create(gpu: &Gpu, fixed: &[Fixed<'_>], wanted: &Wanted<'_>) -> Result<Vec<Step>, PlanError> {
    let fitted = beside(gpu, fixed, wanted);
    let fitted = fitted.ok_or_else(|| PlanError::DoesNotFit {
        gpu: gpu.index,
        name: gpu.name.clone(),
        wanted: list(wanted),
        used: wanted.iter().map(|(profile, count)| profile.slices.saturating_mul(*count)).sum(),
        whole: gpu.mig_profiles.iter().map(|profile| profile.slices).max().unwrap_or(0),
    })?;
    Ok(creations(&fitted))
}

fn creations(fitted: &[(&MigProfile, MigPlacement)]) -> Vec<Step> {
    let step = |(profile, placement): &(&MigProfile, MigPlacement)| Step::Create {
        profile_id: profile.id,
        profile: profile.name.clone(),
        placement: *placement,
    };
    fitted.iter().map(step).collect()
}

fn list(wanted: &Wanted<'_>) -> String {
    let each: Vec<String> = wanted.iter().map(|(profile, count)| format!("{count} × {}", profile.name)).collect();
    each.join(" and ")
}

/// An instance that may stay: it has one compute instance of all its slices, and the layout has its profile too.
#[derive(Debug, Clone, Copy)]
struct Fixed<'a> {
    instance: &'a MigInstance,
    profile: &'a MigProfile,
    device: &'a GpuUuid,
}

/// Places for what is wanted less what stays.
fn beside<'a>(gpu: &Gpu, fixed: &[Fixed<'_>], wanted: &Wanted<'a>) -> Option<Vec<(&'a MigProfile, MigPlacement)>> {
    let mut rest = Vec::new();
    for (profile, count) in wanted {
        let staying = fixed.iter().filter(|kept| kept.profile.id == profile.id).count();
        rest.push((*profile, count.checked_sub(u32::try_from(staying).ok()?)?));
    }
    let placed: Vec<_> = fixed.iter().map(|kept| (kept.profile, kept.instance.placement)).collect();
    fit(&gpu.mig_profiles, &placed, &rest)
}

/// The way from one set of MIG devices to another.
fn change(gpu: &Gpu, counts: &BTreeMap<String, u32>, occupied: &[Occupied]) -> Result<Plan, PlanError> {
    if let Some(plan) = unreadable(gpu, counts) {
        return plan;
    }
    let wanted = wanted(gpu, counts)?;
    create(gpu, &[], &wanted)?;
    let candidates = candidates(gpu, &wanted);
    let held = |device: &GpuUuid| occupied.iter().any(|held| held.device == *device);
    let doomed = |kept: &[Fixed<'_>]| {
        let stays = |device: &GpuUuid| kept.iter().any(|fixed| fixed.device == device);
        gpu.mig_devices.iter().any(|device| held(&device.uuid) && !stays(&device.uuid))
    };
    let mut choices = subsets(&candidates);
    choices.retain(|kept| !doomed(kept));
    let found = choices.iter().find_map(|kept| beside(gpu, kept, &wanted).map(|fitted| (kept, fitted)));
    // Without holders the choice to keep nothing always fits, for `create` has just found places for everything.
    let Some((kept, fitted)) = found else { return Err(in_use(gpu, occupied)) };
    let goes = |instance: &&MigInstance| !kept.iter().any(|fixed| fixed.instance.id == instance.id);
    let mut steps: Vec<Step> = gpu.mig_instances.iter().filter(goes).map(|instance| destroy(gpu, instance)).collect();
    steps.extend(creations(&fitted));
    if !steps.is_empty() && held(&gpu.uuid) {
        return Err(in_use(gpu, occupied));
    }
    let keep = kept.iter().map(|fixed| Kept { device: fixed.device.clone(), profile: fixed.profile.name.clone() });
    Ok(Plan { keep: keep.collect(), steps, ..empty(gpu) })
}

/// The answer where instances or profiles cannot be read: nothing to do when the devices are those that are wanted.
fn unreadable(gpu: &Gpu, counts: &BTreeMap<String, u32>) -> Option<Result<Plan, PlanError>> {
    let is_listed = |id: u32| gpu.mig_instances.iter().any(|instance| instance.id == id);
    let is_known = |device: &crate::gpu::MigDevice| device.gpu_instance.is_some_and(is_listed);
    if !gpu.mig_profiles.is_empty() && gpu.mig_devices.iter().all(is_known) {
        return None;
    }
    let mut have: BTreeMap<String, u32> = BTreeMap::new();
    for device in &gpu.mig_devices {
        *have.entry(normalized(&device.profile)).or_default() += 1;
    }
    let want: BTreeMap<String, u32> =
        counts.iter().filter(|(_, count)| **count > 0).map(|(name, count)| (normalized(name), *count)).collect();
    if have != want {
        let what = if gpu.mig_profiles.is_empty() { "MIG profiles" } else { "MIG instances" };
        return Some(Err(PlanError::Unreadable { gpu: gpu.index, what }));
    }
    let kept = |device: &crate::gpu::MigDevice| Kept { device: device.uuid.clone(), profile: device.profile.clone() };
    Some(Ok(Plan { keep: gpu.mig_devices.iter().map(kept).collect(), ..empty(gpu) }))
}

/// The instances that may stay, in order of place.
fn candidates<'a>(gpu: &'a Gpu, wanted: &Wanted<'a>) -> Vec<Fixed<'a>> {
    let mut candidates: Vec<Fixed<'a>> = Vec::new();
    for instance in &gpu.mig_instances {
        let Some((profile, _)) = wanted.iter().find(|(profile, _)| profile.id == instance.profile) else { continue };
        let mut devices = gpu.mig_devices_of(instance.id);
        if let (Some(device), None, 1) = (devices.next(), devices.next(), instance.compute_instances.len())
            && !is_part_of_instance(&device.profile)
        {
            candidates.push(Fixed { instance, profile, device: &device.uuid });
        }
    }
    candidates.sort_by_key(|fixed| fixed.instance.placement);
    candidates
}

/// Candidates beyond this are not weighed against each other; no GPU has so many.
const WEIGHED: usize = 10;

/// Every choice of candidates to keep, the largest first, those of equal size in order of place.
fn subsets<'a>(candidates: &[Fixed<'a>]) -> Vec<Vec<Fixed<'a>>> {
    let weighed = &candidates[..candidates.len().min(WEIGHED)];
    let chosen = |mask: u32| {
        let each = weighed.iter().enumerate().filter(move |(number, _)| mask & (1 << number) != 0);
        each.map(|(_, fixed)| *fixed).collect::<Vec<_>>()
    };
    let mut masks: Vec<u32> = (0..1 << weighed.len()).collect();
    masks.sort_by_key(|mask| std::cmp::Reverse(mask.count_ones()));
    masks.into_iter().map(chosen).collect()
}

fn destroy(gpu: &Gpu, instance: &MigInstance) -> Step {
    let known = gpu.mig_profiles.iter().find(|profile| profile.id == instance.profile);
    Step::Destroy {
        instance: instance.id,
        compute_instances: instance.compute_instances.clone(),
        profile: known.map_or_else(|| format!("profile {}", instance.profile), |profile| profile.name.clone()),
        devices: gpu.mig_devices_of(instance.id).map(|device| device.uuid.clone()).collect(),
    }
}
