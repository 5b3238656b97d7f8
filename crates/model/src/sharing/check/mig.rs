//! MIG layouts: of a rule, and by name as mig-parted's files have them.

use std::collections::BTreeMap;

use super::name;
use crate::document::quantity::shown;
use crate::document::{Items, Lines, closest};
use crate::sharing::config::{DeviceReference, MigConfig, Selector};
use crate::sharing::raw::own;

/// Compute slices of a GPU (NVIDIA's MIG documentation, "Partitioning").
const SLICES: u64 = 7;

/// Checks named layouts under `path`.
pub(super) fn configs(
    path: &str,
    raw: &BTreeMap<String, Items<own::MigConfig>>,
    lines: &mut Lines,
) -> BTreeMap<String, Vec<MigConfig>> {
    let mut configs = BTreeMap::new();
    for (config, raw) in raw {
        let path = format!("{path}.{config}");
        if !is_label_value(config) {
            let fix = "use up to 63 letters, digits, `-`, `_` and `.` inside: the node label `nvidia.com/mig.config` holds it";
            lines.problem(&path, format!("`{}` is not a value for a label", shown(config)), fix.to_owned());
        }
        if raw.is_empty() {
            let fix = "add at least one: `- {devices: all, mig-enabled: false}`";
            lines.problem(&path, "the layout has no entry", fix.to_owned());
        }
        let entries = raw.iter().map(|(index, raw)| entry(&format!("{path}[{index}]"), raw, lines));
        let entries = entries.collect();
        configs.insert(config.clone(), entries);
    }
    configs
}

/// Whether Kubernetes takes a text as a label's value.
fn is_label_value(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= 63
        && text.chars().all(inner)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn entry(path: &str, raw: &own::MigConfig, lines: &mut Lines) -> MigConfig {
    let layout_path = format!("{path}.mig-devices");
    let layout = match (&raw.mig_devices, raw.mig_enabled) {
        (Some(devices), false) if !devices.is_empty() => {
            let fix = "write `mig-enabled: true`, or remove `mig-devices`";
            lines.problem(&layout_path, "there are no MIG devices without MIG mode", fix.to_owned());
            BTreeMap::new()
        }
        (None, true) => {
            let fix = "add `mig-devices: {\"1g.10gb\": 7}`, or `{}` for none";
            lines.problem(path, "`mig-devices` is missing, and `mig-enabled` is true", fix.to_owned());
            BTreeMap::new()
        }
        (Some(devices), true) if devices.values().all(|count| *count == 0) && !devices.is_empty() => {
            lines.problem(&layout_path, "all counts are 0", "write `{}` for no MIG devices".to_owned());
            BTreeMap::new()
        }
        (Some(devices), _) => counted(&layout_path, devices, lines),
        (None, false) => BTreeMap::new(),
    };
    MigConfig { filter: filter(path, raw, lines), devices: devices(path, raw, lines), enabled: raw.mig_enabled, layout }
}

fn filter(path: &str, raw: &own::MigConfig, lines: &mut Lines) -> Vec<String> {
    let list: Vec<(String, &String)> = match &raw.device_filter {
        None => Vec::new(),
        Some(own::DeviceFilter::One(one)) if one.is_empty() => Vec::new(),
        Some(own::DeviceFilter::One(one)) => vec![(format!("{path}.device-filter"), one)],
        Some(own::DeviceFilter::Several(several)) => {
            several.iter().enumerate().map(|(index, one)| (format!("{path}.device-filter[{index}]"), one)).collect()
        }
    };
    for (path, id) in &list {
        let digits = id.strip_prefix("0x").or_else(|| id.strip_prefix("0X"));
        if !digits.is_some_and(|digits| digits.len() == 8 && digits.chars().all(|c| c.is_ascii_hexdigit())) {
            let fix = "write device and vendor in hexadecimal, such as `\"0x233510DE\"`";
            lines.problem(path, format!("`{}` is not a PCI device id", shown(id)), fix.to_owned());
        }
    }
    list.into_iter().map(|(_, id)| id.clone()).collect()
}

fn devices(path: &str, raw: &own::MigConfig, lines: &mut Lines) -> Selector {
    match &raw.devices {
        own::MigDevices::List(list) => Selector::List(list.iter().copied().map(DeviceReference::Index).collect()),
        own::MigDevices::Word(word) => {
            if word != "all" {
                let message = format!("`{}` is neither `all` nor a list", shown(word));
                lines.problem(&format!("{path}.devices"), message, "write `all` or indices: `[0, 1]`".to_owned());
            }
            Selector::All
        }
    }
}

/// Checks the layout of a rule: at least one device of at least one profile.
pub(super) fn layout(path: &str, raw: &BTreeMap<String, u32>, lines: &mut Lines) -> BTreeMap<String, u32> {
    if raw.is_empty() {
        let fix =
            "name at least one profile: `{\"1g.10gb\": 7}`; without `layout` the devices that are there are taken";
        lines.problem(path, "the GPU would have no MIG device", fix.to_owned());
    }
    for (profile, _) in raw.iter().filter(|(_, count)| **count == 0) {
        let fix = "write 1 or more, or remove the profile".to_owned();
        lines.problem(&format!("{path}.{profile}"), "0 devices are none", fix);
    }
    counted(path, raw, lines)
}

/// Checks profiles and their counts; profiles without a device are left out.
fn counted(path: &str, raw: &BTreeMap<String, u32>, lines: &mut Lines) -> BTreeMap<String, u32> {
    let mut slices = 0;
    for (profile, count) in raw {
        let place = format!("{path}.{profile}");
        match Profile::parse(profile) {
            Some(profile) => {
                if profile.divided {
                    let message = "a GPU instance is not divided further: such devices have no resource name";
                    lines.problem(&place, message, "write the profile without its `Nc.`".to_owned());
                }
                slices += u64::from(profile.slices) * u64::from(*count);
            }
            None => {
                let known = ["1g.5gb", "1g.10gb", "1g.18gb", "2g.35gb", "3g.71gb", "7g.141gb"];
                let meant = closest(profile, known).map(|meant| format!(", such as `{meant}`"));
                let fix = format!("write slices and memory{}", meant.as_deref().unwrap_or(", such as `1g.10gb`"));
                lines.problem(&place, format!("`{}` is not a MIG profile", shown(profile)), fix);
            }
        }
    }
    if slices > SLICES {
        let message = format!("the profiles add up to {slices} compute slices, and a GPU has {SLICES}");
        lines.problem(path, message, "lower the counts".to_owned());
    }
    raw.iter().filter(|(_, count)| **count > 0).map(|(profile, count)| (profile.clone(), *count)).collect()
}

/// What a profile's name says.
struct Profile {
    /// Compute slices of its GPU instance.
    slices: u32,
    /// Whether it is a part of a GPU instance.
    divided: bool,
}

impl Profile {
    /// Reads `[Nc.]Ng.Mgb[(+|-)ATTRIBUTE…]`, as mig-parted does.
    fn parse(text: &str) -> Option<Self> {
        let (base, attributes) = text.split_at(text.find(['+', '-']).unwrap_or(text.len()));
        let known = |name: &str| !name.is_empty() && (name == "me.all" || name::is_subdomain(name));
        if !attributes.is_empty() && !attributes.split(['+', '-']).skip(1).all(known) {
            return None;
        }
        let number = |part: &str, unit: &str| part.strip_suffix(unit)?.parse::<u32>().ok().filter(|number| *number > 0);
        let parts: Vec<&str> = base.split('.').collect();
        let (divided, slices, memory) = match parts.as_slice() {
            [slices, memory] => (false, slices, memory),
            [compute, slices, memory] => {
                number(compute, "c")?;
                (true, slices, memory)
            }
            _ => return None,
        };
        number(memory, "gb")?;
        Some(Self { slices: number(slices, "g")?, divided })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_as_mig_parted_reads_them() {
        for good in ["1g.5gb", "7g.141gb", "1g.10gb+me", "1g.18gb-me", "1g.24gb+gfx", "1g.24gb+me.all", "1c.2g.35gb"] {
            assert!(Profile::parse(good).is_some(), "{good}");
        }
        for bad in
            ["", "1g", "1g.5", "g.5gb", "0g.5gb", "1g.5gb+", "1g.5gb+ME", "1.5gb", "1g.5gb.me", "1c.1g", "-1g.5gb"]
        {
            assert!(Profile::parse(bad).is_none(), "{bad}");
        }
    }
}
