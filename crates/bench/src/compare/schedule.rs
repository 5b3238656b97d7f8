//! In which order the passes of a comparison run.
//!
//! Arms are interleaved: every repeat runs each arm once, in an order that rotates from repeat to repeat, so that drift (a
//! GPU that warms up, a neighbour that comes and goes) falls on all arms alike. The first repeat begins with `solo`,
//! because the tuner needs its figures.

use cotenant_model::Arm;
use cotenant_model::kernel::WorkUnit;
use cotenant_model::workload::{Engine, Tenant};

/// One pass to run: an arm with the positions of the tenants that take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PassPlan {
    /// Repeat, from 0.
    pub repeat: u32,
    /// Position of the arm among the comparison's arms.
    pub arm: usize,
    /// Positions of the tenants.
    pub tenants: Vec<usize>,
}

/// The passes of one repeat in the order they run.
///
/// `solo` has a pass for each tenant that does work which no earlier tenant does; any other arm one pass with all tenants.
#[must_use]
pub(super) fn repeat(number: u32, arms: &[Arm], tenants: &[Tenant]) -> Vec<PassPlan> {
    let mut order: Vec<usize> = (0..arms.len()).collect();
    order.sort_by_key(|&arm| arms.get(arm) != Some(&Arm::Solo));
    if !order.is_empty() {
        let turn = usize::try_from(number).unwrap_or(0) % order.len();
        order.rotate_left(turn);
    }
    order.into_iter().flat_map(|arm| passes(number, arm, arms, tenants)).collect()
}

fn passes(repeat: u32, arm: usize, arms: &[Arm], tenants: &[Tenant]) -> Vec<PassPlan> {
    match arms.get(arm) {
        Some(Arm::Solo) => {
            distinct(tenants).into_iter().map(|tenant| PassPlan { repeat, arm, tenants: vec![tenant] }).collect()
        }
        _ => vec![PassPlan { repeat, arm, tenants: (0..tenants.len()).collect() }],
    }
}

/// Positions of the tenants that do work which no earlier tenant does. One that serves no requests (a memory holder, a
/// fault) has no figures that could be a reference.
fn distinct(tenants: &[Tenant]) -> Vec<usize> {
    let serves = |tenant: &Tenant| !matches!(&tenant.engine, Engine::Kernel(kernel) if kernel.unit() == WorkUnit::None);
    let first_of_its_kind = |position: &usize| {
        !tenants.iter().take(*position).any(|earlier| tenants.get(*position).is_some_and(|t| t.same_work(earlier)))
    };
    (0..tenants.len()).filter(|position| tenants.get(*position).is_some_and(serves)).filter(first_of_its_kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotenant_model::Kernel;
    use cotenant_model::kernel::LaunchBound;
    use cotenant_model::workload::Class;

    fn tenant(name: &str, launches: u32) -> Tenant {
        let engine = Engine::Kernel(Kernel::LaunchBound(LaunchBound { launches }));
        Tenant { name: name.to_owned(), class: Class::Standard, engine, load: None, slo: Vec::new(), memory: None }
    }

    #[test]
    fn the_first_repeat_begins_with_solo_and_later_ones_rotate() {
        let arms = [Arm::TimeSlicing, Arm::Mps, Arm::Solo];
        let tenants = [tenant("a", 1), tenant("b", 2)];
        let order = |number| repeat(number, &arms, &tenants).iter().map(|pass| pass.arm).collect::<Vec<_>>();
        assert_eq!(order(0), [2, 2, 0, 1]);
        assert_eq!(order(1), [0, 1, 2, 2]);
        assert_eq!(order(2), [1, 2, 2, 0]);
    }

    #[test]
    fn equal_tenants_are_measured_alone_once_and_one_without_work_not_at_all() {
        let mut faulty = tenant("d", 1);
        faulty.engine = Engine::Kernel(Kernel::Fault);
        let tenants = [tenant("a", 1), tenant("b", 1), tenant("c", 2), faulty];
        let solo: Vec<_> = repeat(0, &[Arm::Solo], &tenants).into_iter().map(|pass| pass.tenants).collect();
        assert_eq!(solo, [[0], [2]]);
    }
}
