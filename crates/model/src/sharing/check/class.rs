//! `cotenant.classes`: sizes of MPS shares.

use std::collections::BTreeMap;

use super::name::{self, GPU};
use crate::document::Lines;
use crate::document::quantity::{bytes, shown, within};
use crate::sharing::config::SizeClass;
use crate::sharing::raw::own;
use crate::{Percent, sharing::ResourceName};

const PATH: &str = "cotenant.classes";

/// Checks the classes.
pub(super) fn classes(raw: &BTreeMap<String, own::SizeClass>, lines: &mut Lines) -> BTreeMap<String, SizeClass> {
    let mut names: BTreeMap<ResourceName, &str> = BTreeMap::new();
    let mut classes = BTreeMap::new();
    for (class, raw) in raw {
        let path = format!("{PATH}.{class}");
        let checked = self::class(&path, class, raw, lines);
        if let Some(other) = names.insert(checked.resource.clone(), class) {
            let message = format!("`{}` is the name of class `{}` too", checked.resource, shown(other));
            lines.problem(&format!("{path}.resource"), message, "give each class its own `resource`".to_owned());
        }
        classes.insert(class.clone(), checked);
    }
    classes
}

fn class(path: &str, class: &str, raw: &own::SizeClass, lines: &mut Lines) -> SizeClass {
    named(path, class, lines);
    let memory = bytes(&format!("{path}.memory"), &raw.memory, lines);
    let number = within(&format!("{path}.percent"), raw.percent, 1..=100, lines);
    let percent = u8::try_from(number).ok().and_then(|number| Percent::try_from(number).ok());
    let resource = if let Some(text) = &raw.resource {
        let path = format!("{path}.resource");
        let resource = name::resource(&path, text, lines);
        if resource.0 == GPU {
            let fix = "give the class a name of its own, such as `nvidia.com/gpu.small`";
            lines.problem(&path, format!("`{GPU}` is the name of whole GPUs"), fix.to_owned());
        }
        resource
    } else {
        ResourceName(format!("{GPU}.{class}"))
    };
    SizeClass { resource, memory, percent: percent.unwrap_or(Percent::ALL) }
}

/// Longest name of a class: a share's id is `UUID::CLASS-N`, and the kubelet takes 63 characters of which the UUID has 40.
const LONGEST: usize = 18;

/// Checks a class's name, which ids of devices hold whatever its resource is.
fn named(path: &str, class: &str, lines: &mut Lines) {
    if !name::is_subdomain(class) || class.contains('.') || class.len() > LONGEST {
        let fix = format!("use up to {LONGEST} lower-case letters, digits and `-` inside");
        lines.problem(path, format!("`{}` is not a name for a class", shown(class)), fix);
    }
}
