//! Resource names under which different things would be offered: a pod could not tell what it gets.

use std::collections::BTreeMap;

use super::name::GPU;
use super::rule::Placed;
use crate::document::Lines;
use crate::sharing::config::{GpuRule, GpuSharing, Replicated, Selector, SizeClass};
use crate::sharing::{ResourceName, Strategy};

/// What is offered under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Equal(Strategy),
    Class(String),
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Equal(Strategy::Exclusive) => f.write_str("whole GPUs"),
            Self::Equal(strategy) => write!(f, "shares under {strategy}"),
            Self::Class(class) => write!(f, "shares of class `{class}`"),
        }
    }
}

/// Reports names that two rules use for different things, and notes those that the rest of the node uses otherwise.
pub(super) fn collisions(
    rules: &[Placed],
    classes: &BTreeMap<String, SizeClass>,
    replicated: &[Replicated],
    lines: &mut Lines,
) {
    let mut names: BTreeMap<ResourceName, (Kind, &str)> = BTreeMap::new();
    let rest = if rules.iter().any(|placed| placed.rule.devices == Selector::All) {
        BTreeMap::new()
    } else {
        rest(replicated)
    };
    for Placed { path, rule } in rules {
        for (name, kind) in offered(rule, classes) {
            match names.get(&name) {
                Some((other, first)) if *other != kind => {
                    let line = lines.position(first).line;
                    let message = format!("`{name}` stands for {other} in the rule of line {line}, here for {kind}");
                    lines.problem(path, message, "give one of them a `resource` of its own".to_owned());
                }
                Some(_) => {}
                None => drop(names.insert(name.clone(), (kind.clone(), path.as_str()))),
            }
            if let Some(other) = rest.get(&name).filter(|other| **other != kind) {
                let message = format!("`{name}` stands for {other} on GPUs that no rule selects, here for {kind}");
                let fix = "give the rule a `resource` of its own, or add a last rule with `devices: all`";
                lines.note(path, message, fix.to_owned());
            }
        }
    }
}

/// What a rule offers, by name; MIG devices have names of their own.
fn offered(rule: &GpuRule, classes: &BTreeMap<String, SizeClass>) -> Vec<(ResourceName, Kind)> {
    match &rule.sharing {
        GpuSharing::Exclusive { resource } => vec![(resource.clone(), Kind::Equal(Strategy::Exclusive))],
        GpuSharing::TimeSlicing { resource, .. } => vec![(resource.clone(), Kind::Equal(Strategy::TimeSlicing))],
        GpuSharing::Mps { resource, .. } => vec![(resource.clone(), Kind::Equal(Strategy::Mps))],
        GpuSharing::MpsClasses { counts } => counts
            .keys()
            .filter_map(|class| Some((classes.get(class)?.resource.clone(), Kind::Class(class.clone()))))
            .collect(),
        GpuSharing::Mig { .. } => Vec::new(),
    }
}

/// What GPUs that no rule selects are offered as.
fn rest(replicated: &[Replicated]) -> BTreeMap<ResourceName, Kind> {
    let of_gpus = || replicated.iter().filter(|one| one.resource.0 == GPU);
    let mut names: BTreeMap<ResourceName, Kind> =
        of_gpus().map(|one| (one.offered.clone(), Kind::Equal(one.strategy))).collect();
    if !of_gpus().any(|one| one.devices == Selector::All) {
        names.entry(ResourceName(GPU.to_owned())).or_insert(Kind::Equal(Strategy::Exclusive));
    }
    names
}
