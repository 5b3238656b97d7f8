//! The settings that can be measured: multiples of 5 % for each tenant.

use std::collections::BTreeSet;

use cotenant_model::Percent;

/// Distance between two percentages of the grid.
pub(super) const STEP: u8 = 5;

/// Tenants up to which every setting of the grid is a candidate.
const WHOLE: usize = 2;

/// Every percentage of the grid, rising.
pub(super) fn levels() -> Vec<Percent> {
    (STEP..=100).step_by(usize::from(STEP)).filter_map(|level| Percent::try_from(level).ok()).collect()
}

/// Every setting of so many tenants; `20ⁿ` of them.
pub fn grid(tenants: usize) -> Vec<Vec<Percent>> {
    (0..tenants).fold(vec![Vec::new()], |settings, _tenant| {
        let longer =
            |setting: Vec<Percent>| levels().into_iter().map(move |level| with(&setting, setting.len(), level));
        settings.into_iter().flat_map(longer).collect()
    })
}

/// The settings measured before anything is known: few processes, the whole range.
///
/// Two tenants: every pair of 25, 50 and 100 %. More: all at 100, 50 and an equal share, and each at 25 % beside the others
/// at 100 %.
pub(super) fn opening(tenants: usize) -> Vec<Vec<Percent>> {
    let equal = 100 / tenants.max(1);
    let rounded = equal.div_ceil(usize::from(STEP)) * usize::from(STEP);
    let percents: Vec<Percent> =
        [100, 50, 25, rounded].into_iter().filter_map(|n| Percent::try_from(u8::try_from(n).ok()?).ok()).collect();
    let [whole, half, quarter, equal] = percents[..] else { return Vec::new() };
    let mut settings = vec![vec![whole; tenants], vec![half; tenants]];
    for tenant in 0..tenants {
        settings.push(with(&vec![whole; tenants], tenant, quarter));
        if tenants <= WHOLE {
            settings.push(with(&vec![whole; tenants], tenant, half));
            settings.push(with(&vec![half; tenants], tenant, quarter));
        }
    }
    settings.push(vec![if tenants > WHOLE { equal } else { quarter }; tenants]);
    let mut seen = BTreeSet::new();
    settings.retain(|setting| seen.insert(setting.clone()));
    settings
}

/// The settings worth a thought: for two tenants the whole grid; for more, those that differ from one of `around` in one
/// tenant, or by one step each way in two.
pub(super) fn candidates(tenants: usize, around: &[Vec<Percent>]) -> Vec<Vec<Percent>> {
    if tenants <= WHOLE {
        return grid(tenants);
    }
    let mut settings: BTreeSet<Vec<Percent>> = around.iter().cloned().collect();
    for setting in around {
        for tenant in 0..tenants {
            settings.extend(levels().into_iter().map(|level| with(setting, tenant, level)));
        }
        for (giver, taker) in (0..tenants).flat_map(|giver| (0..tenants).map(move |taker| (giver, taker))) {
            let given = setting[giver].get().checked_sub(STEP).and_then(|level| Percent::try_from(level).ok());
            let taken = Percent::try_from(setting[taker].get().saturating_add(STEP)).ok();
            if let (Some(given), Some(taken)) = (given, taken.filter(|_| giver != taker)) {
                settings.insert(with(&with(setting, giver, given), taker, taken));
            }
        }
    }
    settings.into_iter().collect()
}

/// The setting with one tenant's percentage put in or replaced.
fn with(setting: &[Percent], tenant: usize, level: Percent) -> Vec<Percent> {
    let mut changed = setting.to_vec();
    match changed.get_mut(tenant) {
        Some(place) => *place = level,
        None => changed.push(level),
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_holds_every_pair_of_multiples_of_five() {
        assert_eq!((grid(1).len(), grid(2).len()), (20, 400));
        assert!(grid(2).iter().flatten().all(|level| level.get() % STEP == 0));
    }

    #[test]
    fn the_opening_needs_few_processes_and_repeats_nothing() {
        assert_eq!(opening(2).len(), 9);
        for tenants in 1..=8 {
            let settings = opening(tenants);
            let distinct: BTreeSet<_> = settings.iter().collect();
            assert!(distinct.len() == settings.len() && settings.iter().all(|setting| setting.len() == tenants));
            let processes: BTreeSet<_> = settings.iter().flat_map(|s| s.iter().copied().enumerate()).collect();
            assert!(processes.len() <= 4 * tenants, "{tenants}: {processes:?}");
        }
    }

    #[test]
    fn many_tenants_have_candidates_in_the_hundreds_around_what_is_known() {
        let around = opening(8);
        let settings = candidates(8, &around[..2]);
        assert!(settings.len() < 600 && settings.contains(&around[0]) && settings.iter().all(|s| s.len() == 8));
    }
}
