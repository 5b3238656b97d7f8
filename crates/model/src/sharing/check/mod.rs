//! The configuration file, raw to checked: everything that a schema cannot say, all of it at once.
//!
//! Functions here report what is wrong to the [`Lines`] and return a value all the same, so that the checks after them
//! go on; the value counts only when [`Lines::finish`] finds no problem. What is accepted but does not do what its
//! writer may think becomes a note.

mod class;
mod collision;
mod duration;
mod flags;
mod mig;
mod mps;
mod name;
mod replicated;
mod rule;
mod selector;

use std::collections::BTreeMap;

use super::config::{Drain, MigConfig, Sharing};
use super::raw::{self, own};
use crate::document::quantity::shown;
use crate::document::{Lines, Problems};

/// Checks a configuration.
pub(super) fn sharing(raw: raw::Config, mut lines: Lines) -> Result<Sharing, Problems> {
    let l = &mut lines;
    version(raw.version.as_deref(), l);
    if raw.resources.is_some() {
        let fix = "remove it; `sharing.*.resources[].rename` and `cotenant.gpus[].resource` give names";
        l.note("resources", "not used, as in NVIDIA's plugin: resources keep their names", fix.to_owned());
    }
    let flags = flags::flags(raw.flags.unwrap_or_default(), raw.imex.unwrap_or_default(), l);
    let replicated = replicated::replicated(&raw.sharing.unwrap_or_default(), flags.mig_strategy, l);
    let own = raw.cotenant.unwrap_or_default();
    let mps = mps::mps(&own.mps.unwrap_or_default(), l);
    let classes = class::classes(&own.classes.unwrap_or_default(), l);
    let around = rule::Around { classes: &classes, oversubscription: mps.oversubscription };
    let rules = rule::rules(&own.gpus.unwrap_or_default(), around, l);
    rule::unused_classes(&rules, &classes, l);
    collision::collisions(&rules, &classes, &replicated, l);
    let rules = rules.into_iter().map(|placed| placed.rule).collect();
    let faults = mps::faults(&own.faults.unwrap_or_default(), l);
    let mig_configs = mig::configs("cotenant.mig-configs", &own.mig_configs.unwrap_or_default(), l);
    let drain = own.drain.map_or_else(Drain::default, |raw| match raw {
        own::Drain::Deny => Drain::Deny,
        own::Drain::Allow => Drain::Allow,
    });
    let notes = lines.notes();
    lines.finish(Sharing { flags, replicated, rules, classes, mps, faults, drain, mig_configs, notes })
}

/// Checks a file of mig-parted.
pub(super) fn mig_file(raw: &raw::MigFile, mut lines: Lines) -> Result<BTreeMap<String, Vec<MigConfig>>, Problems> {
    version(Some(&raw.version), &mut lines);
    let configs = mig::configs("mig-configs", &raw.mig_configs, &mut lines);
    lines.finish(configs)
}

fn version(version: Option<&str>, lines: &mut Lines) {
    if let Some(other) = version.filter(|version| !matches!(*version, "v1" | "")) {
        lines.problem(
            "version",
            format!("the version `{}` is not known", shown(other)),
            "write `version: v1`".to_owned(),
        );
    }
}
