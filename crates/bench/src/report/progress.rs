//! Progress of an arm's tenants in one cell, those that failed among them.

use super::figure::{NONE, range, ratio};
use super::finding::fault::failed;
use crate::summary::ArmSummary;

/// Most tenants whose progress is written one by one.
const FEW: usize = 3;

/// Progress of each tenant in file order: `0.40 + 0.40 + failed`; of many tenants the least and the most: `8 × 0.20–0.21`.
pub(crate) fn of(arm: &ArmSummary) -> String {
    let failures = arm.tenants.iter().filter(|tenant| failed(arm, &tenant.name)).count();
    let going = arm.tenants.iter().filter(|tenant| !failed(arm, &tenant.name));
    let known: Vec<f64> = going.filter_map(|tenant| tenant.progress.as_ref().map(|seen| seen.mean)).collect();
    if failures > 0 && failures == arm.tenants.len() {
        return "all failed".to_owned();
    }
    if arm.tenants.len() <= FEW && known.len() + failures == arm.tenants.len() {
        return each(arm);
    }
    let (low, high) = known.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), x| (low.min(*x), high.max(*x)));
    match (known.len(), failures) {
        (0, 0) => NONE.to_owned(),
        (0, _) => format!("{failures} failed"),
        (count, 0) => format!("{count} × {}", range(low, high)),
        (count, _) => format!("{count} × {}, {failures} failed", range(low, high)),
    }
}

fn each(arm: &ArmSummary) -> String {
    let cells = arm.tenants.iter().map(|tenant| match &tenant.progress {
        _ if failed(arm, &tenant.name) => "failed".to_owned(),
        Some(progress) => ratio(progress.mean),
        None => NONE.to_owned(),
    });
    cells.collect::<Vec<_>>().join(" + ")
}
