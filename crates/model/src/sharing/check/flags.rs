//! `flags` and `imex`.

use super::duration::{self, SECOND};
use crate::Nanoseconds;
use crate::document::Lines;
use crate::document::quantity::shown;
use crate::sharing::config::{
    AllocationPolicy, DeviceIdStrategy, DeviceListStrategy, Extras, Flags, Imex, MigStrategy,
};
use crate::sharing::raw;

/// Longest MPS root with which `ROOT/GPU-UUID/pipe/control_privileged` fits into the 107 bytes of a UNIX socket's path
/// (`sun_path` in `unix(7)`).
const LONGEST_MPS_ROOT: usize = 107 - "/GPU-00000000-0000-0000-0000-000000000000/pipe/control_privileged".len();

/// Most days between two looks at the labels.
const LONGEST_INTERVAL: Nanoseconds = Nanoseconds(30 * 86_400 * SECOND.0);

/// Checks `flags` and `imex`.
pub(super) fn flags(raw: raw::Flags, imex: raw::Imex, lines: &mut Lines) -> Flags {
    let defaults = Flags::default();
    unused(&raw, lines);
    let plugin = raw.plugin.unwrap_or_default();
    let gfd = raw.gfd.unwrap_or_default();
    unused_by_labels(&gfd, lines);
    let driver_root = path("flags.nvidiaDriverRoot", raw.nvidia_driver_root, defaults.driver_root, lines);
    Flags {
        mig_strategy: raw.mig_strategy.map_or(defaults.mig_strategy, mig_strategy),
        fail_on_init_error: raw.fail_on_init_error.unwrap_or(defaults.fail_on_init_error),
        dev_root: path("flags.nvidiaDevRoot", raw.nvidia_dev_root, driver_root.clone(), lines),
        driver_root,
        nvidia_ctk_path: path("flags.plugin.nvidiaCTKPath", plugin.nvidia_ctk_path, defaults.nvidia_ctk_path, lines),
        container_driver_root: path(
            "flags.plugin.containerDriverRoot",
            plugin.container_driver_root,
            defaults.container_driver_root,
            lines,
        ),
        mps_root: mps_root(&path("flags.mpsRoot", raw.mps_root, defaults.mps_root, lines), lines),
        extras: Extras {
            gdrcopy: raw.gdrcopy_enabled.unwrap_or(false),
            gds: raw.gds_enabled.unwrap_or(false),
            mofed: raw.mofed_enabled.unwrap_or(false),
        },
        pass_device_specs: plugin.pass_device_specs.unwrap_or(false),
        device_list: plugin.device_list_strategy.map_or(defaults.device_list, |raw| device_list(&raw, lines)),
        device_id: plugin.device_id_strategy.map_or(defaults.device_id, device_id),
        cdi_annotation_prefix: plugin.cdi_annotation_prefix.unwrap_or(defaults.cdi_annotation_prefix),
        allocation: plugin.shared_devices_allocation_policy.map_or(defaults.allocation, allocation),
        no_timestamp: gfd.no_timestamp.unwrap_or(false),
        label_interval: gfd.sleep_interval.map_or(defaults.label_interval, |raw| interval(&raw, lines)),
        imex: channels(imex, lines),
    }
}

/// Notes what no part of this program uses.
fn unused(raw: &raw::Flags, lines: &mut Lines) {
    if raw.use_node_feature_api.is_some() {
        let message = "not used: labels are written to the node itself, without node feature discovery";
        lines.note("flags.useNodeFeatureAPI", message, "remove it".to_owned());
    }
    if raw.device_discovery_strategy == Some(raw::DiscoveryStrategy::Tegra) {
        let message = "not used: GPUs are found through NVML, which Tegra systems do not have";
        lines.note("flags.deviceDiscoveryStrategy", message, "keep NVIDIA's plugin on Tegra systems".to_owned());
    }
}

fn unused_by_labels(raw: &raw::FeatureDiscovery, lines: &mut Lines) {
    let keys = [
        ("oneshot", raw.oneshot == Some(true), "labels are kept true as long as the agent runs"),
        ("outputFile", raw.output_file.is_some(), "labels are written to the node itself"),
        ("machineTypeFile", raw.machine_type_file.is_some(), "the machine's type is its DMI product name"),
    ];
    for (key, _, reason) in keys.into_iter().filter(|(_, set, _)| *set) {
        lines.note(&format!("flags.gfd.{key}"), format!("not used: {reason}"), "remove it".to_owned());
    }
}

/// Reads an absolute path; an empty one counts as left out.
fn path(key: &str, text: Option<String>, default: String, lines: &mut Lines) -> String {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return default };
    if !text.starts_with('/') || text.split('/').any(|part| part == "..") || text.chars().any(char::is_control) {
        let fix = format!("write an absolute path without `..`, such as `{default}`");
        lines.problem(key, format!("`{}` is not an absolute path", shown(&text)), fix);
    }
    text
}

fn mps_root(root: &str, lines: &mut Lines) -> String {
    let root = root.trim_end_matches('/').to_owned();
    if root.is_empty() {
        let fix = "write a folder for MPS alone, such as `/run/nvidia/mps`";
        lines.problem("flags.mpsRoot", "the root of the file system is no place for sockets", fix.to_owned());
    } else if root.len() > LONGEST_MPS_ROOT {
        let message = format!("{} characters are too many for the paths of the sockets below", root.len());
        lines.problem("flags.mpsRoot", message, format!("write a path of {LONGEST_MPS_ROOT} characters or less"));
    }
    root
}

const fn mig_strategy(raw: raw::MigStrategy) -> MigStrategy {
    match raw {
        raw::MigStrategy::None => MigStrategy::None,
        raw::MigStrategy::Single => MigStrategy::Single,
        raw::MigStrategy::Mixed => MigStrategy::Mixed,
    }
}

const fn device_id(raw: raw::DeviceId) -> DeviceIdStrategy {
    match raw {
        raw::DeviceId::Uuid => DeviceIdStrategy::Uuid,
        raw::DeviceId::Index => DeviceIdStrategy::Index,
    }
}

const fn allocation(raw: raw::AllocationPolicy) -> AllocationPolicy {
    match raw {
        raw::AllocationPolicy::Distributed => AllocationPolicy::Distributed,
        raw::AllocationPolicy::Packed => AllocationPolicy::Packed,
        raw::AllocationPolicy::FreeMemory => AllocationPolicy::FreeMemory,
    }
}

fn device_list(raw: &raw::DeviceLists, lines: &mut Lines) -> Vec<DeviceListStrategy> {
    let raw = match raw {
        raw::DeviceLists::One(one) => std::slice::from_ref(one),
        raw::DeviceLists::Several(several) => several.as_slice(),
    };
    if raw.is_empty() {
        let message = "without a strategy no container would learn its devices";
        lines.problem("flags.plugin.deviceListStrategy", message, "write `envvar`, or remove the key".to_owned());
    }
    let mut list = Vec::new();
    for one in raw {
        let one = match one {
            raw::DeviceList::Envvar => DeviceListStrategy::Envvar,
            raw::DeviceList::VolumeMounts => DeviceListStrategy::VolumeMounts,
            raw::DeviceList::CdiAnnotations => DeviceListStrategy::CdiAnnotations,
            raw::DeviceList::CdiCri => DeviceListStrategy::CdiCri,
        };
        if !list.contains(&one) {
            list.push(one);
        }
    }
    list
}

/// `sleepInterval`; at least a second.
fn interval(raw: &raw::Interval, lines: &mut Lines) -> Option<Nanoseconds> {
    const PATH: &str = "flags.gfd.sleepInterval";
    match raw {
        raw::Interval::Text(text) if text == "infinite" => None,
        raw::Interval::Text(text) => Some(duration::duration(PATH, text, SECOND..=LONGEST_INTERVAL, lines)),
        raw::Interval::Nanoseconds(number) => {
            let read = Nanoseconds::from_seconds(number / 1e9).clamp(SECOND, LONGEST_INTERVAL);
            let message = format!("a bare number counts nanoseconds; {read} is used");
            lines.note(PATH, message, "write the unit too, such as `60s`".to_owned());
            Some(read)
        }
    }
}

fn channels(raw: raw::Imex, lines: &mut Lines) -> Option<Imex> {
    let required = raw.required.unwrap_or(false);
    match raw.channel_ids.unwrap_or_default().as_slice() {
        [] => {
            if required {
                let message = "not used: no channel is named";
                lines.note("imex.required", message, "add `channelIDs: [0]`, or remove it".to_owned());
            }
            None
        }
        [0] => Some(Imex { required }),
        _ => {
            let fix = "write `[0]`, or `[]` for none";
            lines.problem("imex.channelIDs", "channel 0 is the only one that containers are given", fix.to_owned());
            None
        }
    }
}
