//! Arms that the workload asks for.

use super::Placed;
use crate::Arm;
use crate::arm::ArmError;
use crate::document::{Lines, closest};
use crate::workload::Engine;

const WORDS: [&str; 4] = ["solo", "time-slicing", "mps", "mps-memory"];

/// Reads the arms and checks that they fit the tenants.
pub(super) fn arms(texts: &[String], tenants: &[Placed], lines: &mut Lines) -> Vec<Arm> {
    if texts.is_empty() {
        lines.problem(
            "arms",
            "the list is empty",
            "name arms, or remove the key: `arms: [time-slicing, mps]`".to_owned(),
        );
    }
    let mut arms = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let path = format!("arms[{index}]");
        match text.parse::<Arm>() {
            Err(ArmError { text }) => {
                let meant = closest(&text, WORDS).map(|word| format!("did you mean `{word}`? "));
                let shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
                let fix = format!("{}arms are {}", meant.unwrap_or_default(), ArmError::KNOWN);
                lines.problem(&path, format!("`{shown}` is not an arm"), fix);
            }
            Ok(arm) if arms.contains(&arm) => {
                lines.problem(
                    &path,
                    format!("`{arm}` is listed twice"),
                    "remove one; `repeats` runs each arm again".to_owned(),
                );
            }
            Ok(arm) => {
                fit(&path, &arm, tenants, lines);
                arms.push(arm);
            }
        }
    }
    arms
}

/// Reports an arm that these tenants cannot run under.
fn fit(path: &str, arm: &Arm, tenants: &[Placed], lines: &mut Lines) {
    match arm {
        Arm::MpsPercent(shares) if shares.len() > 1 && shares.len() != tenants.len() && !lines.is_unread("tenants") => {
            let message = format!("`{arm}` has {} percentages for {} tenants", shares.len(), tenants.len());
            lines.problem(
                path,
                message,
                "give one for each tenant in the order of the file, or one for all".to_owned(),
            );
        }
        Arm::MpsMemory => {
            for Placed { path, tenant } in tenants {
                if tenant.memory.is_none() && matches!(tenant.engine, Engine::Server(_)) {
                    let message = "the arm `mps-memory` limits each tenant's memory, and this server states none";
                    lines.problem(path, message, "add `memory:`, such as `memory: 4GiB`".to_owned());
                }
            }
        }
        Arm::Solo | Arm::TimeSlicing | Arm::Mps | Arm::MpsPercent(_) | Arm::Mig(_) => {}
    }
}
