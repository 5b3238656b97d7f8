//! Where instances can lie: a search over the placements that the GPU names.

use crate::gpu::{MigPlacement, MigProfile};

/// Instances wanted in all that the search still looks at; no GPU has more than 7, and a file can ask for any number.
const LARGEST: u32 = 64;

/// A place for every wanted instance beside those that stay, largest profiles first; `None` when there is none.
///
/// `wanted` names each profile once, with a count. Compute slices are bounded by the largest profile of `profiles`, which is
/// the whole GPU.
pub(super) fn fit<'a>(
    profiles: &[MigProfile],
    fixed: &[(&MigProfile, MigPlacement)],
    wanted: &[(&'a MigProfile, u32)],
) -> Option<Vec<(&'a MigProfile, MigPlacement)>> {
    let whole = profiles.iter().map(|profile| profile.slices).max().unwrap_or(0);
    let count = wanted.iter().fold(0_u32, |sum, (_, count)| sum.saturating_add(*count));
    let new =
        wanted.iter().fold(0_u32, |sum, (profile, count)| sum.saturating_add(profile.slices.saturating_mul(*count)));
    let old: u32 = fixed.iter().map(|(profile, _)| profile.slices).sum();
    if count > LARGEST || new.saturating_add(old) > whole {
        return None;
    }
    let size = |profile: &MigProfile| profile.placements.iter().map(|placement| placement.size).max();
    let mut order = wanted.to_vec();
    order.sort_by(|(one, _), (other, _)| size(other).cmp(&size(one)).then(one.id.cmp(&other.id)));
    let items: Vec<&MigProfile> =
        order.iter().flat_map(|(profile, count)| std::iter::repeat_n(*profile, *count as usize)).collect();
    let mut taken: Vec<MigPlacement> = fixed.iter().map(|(_, placement)| *placement).collect();
    place(&items, 0, &mut taken).then(|| items.into_iter().zip(taken.split_off(fixed.len())).collect())
}

/// How many instances of a profile an empty GPU holds: what NVML says of a profile with attributes, whose engines are few; of
/// any other what its placements leave room for, because NVML's number is wrong on an A30 (mig-parted has its own for it).
pub(super) fn maximum(profiles: &[MigProfile], profile: &MigProfile) -> u32 {
    let places = u32::try_from(profile.placements.len()).unwrap_or(0);
    if has_attributes(&profile.name) || places == 0 {
        return profile.maximum;
    }
    (1..=places).rev().find(|count| fit(profiles, &[], &[(profile, *count)]).is_some()).unwrap_or(0)
}

/// Whether a name has an attribute after its memory, `1g.18gb+me` or `1g.18gb-me`.
pub(super) fn has_attributes(profile: &str) -> bool {
    !profile.ends_with("gb")
}

/// Places `items` one after the other; equal ones in rising order, so that no arrangement is tried twice.
fn place(items: &[&MigProfile], least: usize, taken: &mut Vec<MigPlacement>) -> bool {
    let Some((item, rest)) = items.split_first() else { return true };
    for (number, placement) in item.placements.iter().enumerate().skip(least) {
        if taken.iter().any(|other| overlap(*other, *placement)) {
            continue;
        }
        taken.push(*placement);
        let next = if rest.first().is_some_and(|next| next.id == item.id) { number + 1 } else { 0 };
        if place(rest, next, taken) {
            return true;
        }
        taken.pop();
    }
    false
}

const fn overlap(one: MigPlacement, other: MigPlacement) -> bool {
    one.start < other.start.saturating_add(other.size) && other.start < one.start.saturating_add(one.size)
}
