//! The plan of an edit, as it is printed before the edit is applied.

use std::fmt;

use super::{Change, DaemonChange, DeviceChange, Effect, GpuChange};
use crate::sharing::offer::{ResourceName, Share};

/// Limits in words.
pub(super) fn limits(share: Option<Share>) -> String {
    share.map_or_else(|| "none".to_owned(), |share| share.to_string())
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("Nothing changes.");
        }
        for gpu in &self.gpus {
            writeln!(f, "{gpu}")?;
        }
        for (resource, one) in &self.one_per_container {
            let what = if *one { "one device at most" } else { "several devices" };
            writeln!(f, "A container may now ask for {what} of {resource}.")?;
        }
        match self.disturbed.as_slice() {
            [] => f.write_str("No running container is disturbed."),
            [_] => f.write_str("One running container is disturbed:"),
            several => write!(f, "{} devices of running containers are disturbed:", several.len()),
        }?;
        for one in &self.disturbed {
            let held = &one.held;
            write!(f, "\n  {}/{}, container {}: ", held.namespace, held.pod, held.container)?;
            write!(f, "{} of {} {}", held.device, held.resource, one.why)?;
        }
        Ok(())
    }
}

impl fmt::Display for GpuChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GPU {}: {} ({}): ", self.index, self.name, self.gpu)?;
        match (self.from, self.to) {
            (Some(from), Some(to)) if from == to => write!(f, "stays {to}"),
            (Some(from), Some(to)) => write!(f, "from {from} to {to}"),
            (None, Some(to)) => write!(f, "new, {to}"),
            (Some(_) | None, None) => f.write_str("gone"),
        }?;
        for (resource, effect, count) in alike(&self.devices) {
            write!(f, "\n  {}", line(resource, effect, count))?;
        }
        match self.daemon {
            Some(DaemonChange::Replaced) => f.write_str("\n  its MPS daemon is replaced, and clients end"),
            Some(DaemonChange::Limit(limit)) => write!(f, "\n  its MPS daemon limits new clients to {limit}"),
            None => Ok(()),
        }
    }
}

/// Changes that are alike, with their number.
fn alike(changes: &[DeviceChange]) -> Vec<(&ResourceName, Effect, usize)> {
    let mut groups: Vec<(&ResourceName, Effect, usize)> = Vec::new();
    for change in changes {
        match groups.iter_mut().find(|(name, effect, _)| **name == change.resource && *effect == change.effect) {
            Some((_, _, count)) => *count += 1,
            None => groups.push((&change.resource, change.effect, 1)),
        }
    }
    groups
}

fn line(resource: &ResourceName, effect: Effect, count: usize) -> String {
    let each = if count > 1 { "each " } else { "" };
    match effect {
        Effect::Appears { share: None } => format!("+ {count} × {resource}"),
        Effect::Appears { share: Some(share) } => format!("+ {count} × {resource}, {each}{share}"),
        Effect::Vanishes => format!("- {count} × {resource}"),
        Effect::Strategy { from, to } => format!("~ {count} × {resource}, from {from} to {to}"),
        Effect::Share { from, to } => {
            format!("~ {count} × {resource}, {each}{} instead of {}", limits(to), limits(from))
        }
    }
}
