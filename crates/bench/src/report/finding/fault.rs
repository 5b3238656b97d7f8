//! Failures: how far a fault reached, who failed with which last words, and who went on.

use cotenant_model::run::{ArmRecord, Pass, Run};
use cotenant_model::workload::{Engine, Tenant};
use cotenant_model::{Arm, Kernel};

use crate::report::figure::ratio;
use crate::report::text::{listed, printable};
use crate::summary::ArmSummary;

/// For each tenant that faults on command: which others failed in the same passes, arm by arm; `None` where none faulted
/// in a shared arm.
pub(super) fn reach(run: &Run) -> Option<String> {
    let faults = run.tenants.iter().filter(|tenant| matches!(tenant.engine, Engine::Kernel(Kernel::Fault)));
    let sentences: Vec<String> = faults.filter_map(|faulty| sentence(run, faulty)).collect();
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

fn sentence(run: &Run, faulty: &Tenant) -> Option<String> {
    let mut reached: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for record in run.arms.iter().filter(|record| record.arm != Arm::Solo) {
        let Some(victims) = victims(run, record, faulty) else { continue };
        match reached.iter_mut().find(|(seen, _)| *seen == victims) {
            Some((_, arms)) => arms.push(record.arm.to_string()),
            None => reached.push((victims, vec![record.arm.to_string()])),
        }
    }
    reached.sort_by_key(|(victims, _)| victims.len());
    let clauses: Vec<String> = reached
        .iter()
        .map(|(victims, arms)| match victims.as_slice() {
            [] => format!("ended only itself under {}", listed(arms)),
            _ => format!("ended {} too under {}", listed(victims), listed(arms)),
        })
        .collect();
    (!clauses.is_empty()).then(|| format!("The fault of {} {}.", printable(&faulty.name), clauses.join("; it ")))
}

/// The tenants that failed in a pass in which this one did; `None` where it failed in no pass of the arm.
fn victims(run: &Run, record: &ArmRecord, faulty: &Tenant) -> Option<Vec<String>> {
    let failed = |pass: &Pass, name: &str| pass.windows.iter().any(|w| w.tenant == name && w.failure.is_some());
    let passes: Vec<&Pass> = record.passes.iter().filter(|pass| failed(pass, &faulty.name)).collect();
    let others = run.tenants.iter().filter(|tenant| tenant.name != faulty.name);
    let victims = others.filter(|tenant| passes.iter().any(|pass| failed(pass, &tenant.name)));
    (!passes.is_empty()).then(|| victims.map(|tenant| printable(&tenant.name)).collect())
}

/// Each last words of an arm, printable, with the tenants that left them.
pub(crate) fn last_words(arm: &ArmSummary) -> Vec<(Vec<String>, String)> {
    let mut all: Vec<(Vec<String>, String)> = Vec::new();
    for (tenant, words) in &arm.failures {
        let (tenant, words) = (printable(tenant), printable(words));
        match all.iter_mut().find(|(_, seen)| *seen == words) {
            Some((tenants, _)) => tenants.push(tenant),
            None => all.push((vec![tenant], words)),
        }
    }
    all
}

/// Whether a tenant failed in any pass of the arm.
pub(crate) fn failed(arm: &ArmSummary, tenant: &str) -> bool {
    arm.failures.iter().any(|(name, _)| name == tenant)
}

/// Who went on in an arm in which others failed, and how fast; `None` where nobody failed or nobody's progress is known.
pub(super) fn survivors(arm: &ArmSummary) -> Option<String> {
    let going = arm.tenants.iter().filter(|tenant| !arm.failures.is_empty() && !failed(arm, &tenant.name));
    let (names, progress): (Vec<String>, Vec<String>) =
        going.filter_map(|tenant| Some((printable(&tenant.name), ratio(tenant.progress.as_ref()?.mean)))).unzip();
    let first = progress.first()?;
    let equal = progress.iter().all(|share| share == first);
    let shares = match (equal, progress.len()) {
        (true, 1) => format!("at {first} of its"),
        (true, _) => format!("each at {first} of its"),
        (false, _) => format!("at {} of their", listed(&progress)),
    };
    Some(format!("{} went on in {}, {shares} throughput alone.", listed(&names), arm.arm))
}
