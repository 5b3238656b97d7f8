//! `cotenant.gpus`: rules for single GPUs.

use std::collections::{BTreeMap, BTreeSet};

use super::mig::layout;
use super::name::{self, GPU};
use super::replicated::{MOST_CLIENTS, replicas};
use super::selector::{Purpose, selector};
use crate::document::{Items, Lines, closest, quantity::shown};
use crate::sharing::config::{GpuRule, GpuSharing, Selector, SizeClass};
use crate::sharing::raw::own;
use crate::sharing::{ResourceName, Strategy};

/// What rules refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) classes: &'a BTreeMap<String, SizeClass>,
    pub(super) oversubscription: f64,
}

/// A rule and where it stands.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) path: String,
    pub(super) rule: GpuRule,
}

/// Checks the rules.
pub(super) fn rules(raw: &Items<own::GpuRule>, around: Around<'_>, lines: &mut Lines) -> Vec<Placed> {
    let mut rules: Vec<Placed> = Vec::new();
    for (index, raw) in raw.iter() {
        let path = format!("cotenant.gpus[{index}]");
        misfits(&path, raw, lines);
        let devices = selector(&format!("{path}.devices"), raw.devices.as_ref(), Purpose::Rule, lines);
        taken(&path, &devices, &rules, lines);
        let sharing = sharing(&path, raw, around, lines);
        rules.push(Placed { path, rule: GpuRule { devices, sharing } });
    }
    rules
}

fn sharing(path: &str, raw: &own::GpuRule, around: Around<'_>, lines: &mut Lines) -> GpuSharing {
    let resource = |default: &str, lines: &mut Lines| match &raw.resource {
        Some(text) => name::resource(&format!("{path}.resource"), text, lines),
        None => ResourceName(default.to_owned()),
    };
    let shared = "nvidia.com/gpu.shared";
    match raw.strategy {
        Strategy::Exclusive => GpuSharing::Exclusive { resource: resource(GPU, lines) },
        Strategy::TimeSlicing => GpuSharing::TimeSlicing {
            resource: resource(shared, lines),
            replicas: required_replicas(path, raw, lines),
            one_per_container: raw.fail_requests_greater_than_one.unwrap_or(false),
        },
        Strategy::Mps if raw.classes.is_some() => GpuSharing::MpsClasses { counts: counts(path, raw, around, lines) },
        Strategy::Mps => GpuSharing::Mps {
            resource: resource(shared, lines),
            replicas: required_replicas(path, raw, lines),
            one_per_container: raw.fail_requests_greater_than_one.unwrap_or(true),
        },
        Strategy::Mig => GpuSharing::Mig {
            layout: raw.layout.as_ref().map(|raw| layout(&format!("{path}.layout"), raw, lines)),
            replicas: raw.replicas.map_or(1, |count| replicas_of_mig(path, count, lines)),
        },
    }
}

fn required_replicas(path: &str, raw: &own::GpuRule, lines: &mut Lines) -> u32 {
    let Some(count) = raw.replicas else {
        let fix = match raw.strategy {
            Strategy::Mps => "add `replicas: 4` for equal shares, or `classes: {small: 4}` for unequal ones",
            Strategy::Exclusive | Strategy::TimeSlicing | Strategy::Mig => "add `replicas: 4`",
        };
        lines.problem(path, "the rule does not say how many shares a GPU has", fix.to_owned());
        return 1;
    };
    replicas(&format!("{path}.replicas"), count, raw.strategy, lines)
}

/// Shares of a MIG device; 1 is none.
fn replicas_of_mig(path: &str, count: u32, lines: &mut Lines) -> u32 {
    if count == 1 { count } else { replicas(&format!("{path}.replicas"), count, Strategy::Mig, lines) }
}

/// Reports keys that have no meaning under the rule's strategy.
fn misfits(path: &str, raw: &own::GpuRule, lines: &mut Lines) {
    use Strategy::{Exclusive, Mig, Mps, TimeSlicing};
    let classes = raw.strategy == Mps && raw.classes.is_some();
    let keys: [(&str, bool, &[Strategy]); 5] = [
        ("resource", raw.resource.is_some(), &[Exclusive, TimeSlicing, Mps]),
        ("replicas", raw.replicas.is_some(), &[TimeSlicing, Mps, Mig]),
        ("classes", raw.classes.is_some(), &[Mps]),
        ("layout", raw.layout.is_some(), &[Mig]),
        ("failRequestsGreaterThanOne", raw.fail_requests_greater_than_one.is_some(), &[TimeSlicing, Mps]),
    ];
    for (key, _, fitting) in keys.into_iter().filter(|(_, set, _)| *set) {
        let path = format!("{path}.{key}");
        if !fitting.contains(&raw.strategy) {
            let words: Vec<&str> = fitting.iter().map(|strategy| strategy.word()).collect();
            let message = format!("`{key}` has no meaning under the strategy {}", raw.strategy);
            lines.problem(&path, message, format!("remove it, or change the strategy: {}", words.join(", ")));
        } else if classes && key != "classes" {
            let (message, fix) = beside_classes(key);
            lines.problem(&path, message, fix.to_owned());
        }
    }
}

fn beside_classes(key: &str) -> (&'static str, &'static str) {
    match key {
        "replicas" => ("`replicas` makes equal shares and `classes` unequal ones", "remove one of them"),
        "resource" => ("each class has its own resource", "write `resource` under `cotenant.classes.CLASS`"),
        _ => ("a container gets one share of a class at most", "remove it"),
    }
}

/// Notes a rule whose GPUs other rules have already.
fn taken(path: &str, devices: &Selector, before: &[Placed], lines: &mut Lines) {
    let path = format!("{path}.devices");
    // What another rule is for is not known where that could not be read.
    let before: Vec<&GpuRule> =
        before.iter().filter(|placed| !lines.is_unread(&placed.path)).map(|placed| &placed.rule).collect();
    if before.iter().any(|rule| rule.devices == Selector::All) {
        let fix = "put it before that rule, or remove it".to_owned();
        lines.note(&path, "the rule does nothing: one above is for all GPUs, and the first that fits holds", fix);
        return;
    }
    let Selector::List(list) = devices else { return };
    let others = before.iter().filter_map(|rule| match &rule.devices {
        Selector::List(list) => Some(list),
        Selector::All | Selector::Count(_) => None,
    });
    let others: Vec<_> = others.flatten().collect();
    for (index, _) in list.iter().enumerate().filter(|(_, device)| others.contains(device)) {
        let message = "a rule above is for this GPU already, and the first that fits holds";
        lines.note(&format!("{path}[{index}]"), message, "name each GPU once".to_owned());
    }
}

/// Checks how many shares of each class a GPU has.
fn counts(path: &str, raw: &own::GpuRule, around: Around<'_>, lines: &mut Lines) -> BTreeMap<String, u32> {
    let path = format!("{path}.classes");
    let counts = raw.classes.clone().unwrap_or_default();
    if counts.is_empty() {
        lines.problem(&path, "the GPU would have no share", "name at least one class: `{small: 4}`".to_owned());
    }
    let (mut clients, mut percent) = (0_u64, 0_u64);
    for (class, count) in &counts {
        let place = format!("{path}.{class}");
        if *count == 0 {
            lines.problem(&place, "0 shares are none", "write 1 or more, or remove the class here".to_owned());
        }
        clients += u64::from(*count);
        match around.classes.get(class) {
            Some(size) => percent += u64::from(*count) * u64::from(size.percent.get()),
            None => unknown_class(&place, class, around.classes, lines),
        }
    }
    if clients > u64::from(MOST_CLIENTS) {
        let message = format!("{clients} shares are too many: an MPS server takes 60 clients a GPU at most");
        lines.problem(&path, message, format!("lower the counts to {MOST_CLIENTS} in all"));
    } else if percent as f64 > around.oversubscription * 100.0 + 1e-9 {
        over(&path, percent, around.oversubscription, lines);
    }
    counts
}

fn unknown_class(path: &str, class: &str, classes: &BTreeMap<String, SizeClass>, lines: &mut Lines) {
    if lines.is_unread(&format!("cotenant.classes.{class}")) {
        return;
    }
    let known: Vec<&str> = classes.keys().map(String::as_str).collect();
    let fix = match closest(class, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => {
            "describe it under `cotenant.classes`: `small: {memory: 8GiB, percent: 15}`".to_owned()
        }
        None => format!("describe it under `cotenant.classes`, or use one of {}", known.join(", ")),
    };
    lines.problem(path, format!("there is no class `{}`", shown(class)), fix);
}

fn over(path: &str, percent: u64, factor: f64, lines: &mut Lines) {
    if lines.is_unread("cotenant.mps.oversubscription") || lines.is_unread("cotenant.classes") {
        return;
    }
    let needed = percent.div_ceil(10) as f64 / 10.0;
    let message =
        format!("the shares add up to {percent} % of the streaming multiprocessors, more than {:.0} %", factor * 100.0);
    let fix = format!("lower the counts, or write `cotenant: {{mps: {{oversubscription: {needed}}}}}`");
    lines.problem(path, message, fix);
}

/// Notes classes that no rule hands out.
pub(super) fn unused_classes(rules: &[Placed], classes: &BTreeMap<String, SizeClass>, lines: &mut Lines) {
    if lines.is_unread("cotenant.gpus") {
        return;
    }
    let used: BTreeSet<&str> = rules
        .iter()
        .filter_map(
            |placed| {
                if let GpuSharing::MpsClasses { counts } = &placed.rule.sharing { Some(counts) } else { None }
            },
        )
        .flat_map(|counts| counts.keys().map(String::as_str))
        .collect();
    for class in classes.keys().filter(|class| !used.contains(class.as_str())) {
        let fix =
            format!("name it in a rule: `gpus: [{{devices: all, strategy: mps, classes: {{{}: 4}}}}]`", shown(class));
        lines.note(&format!("cotenant.classes.{class}"), "no GPU has shares of this class", fix);
    }
}
