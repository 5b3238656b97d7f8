//! `sharing`: equal shares of every device of a resource.

use super::name::{self, GPU};
use super::selector::{Purpose, selector};
use crate::document::{Lines, closest};
use crate::sharing::config::{MigStrategy, Replicated, Selector};
use crate::sharing::{ResourceName, Strategy, raw};

/// Most time-sliced shares of a device: the kubelet takes a resource's whole list in one message of at most 4 MiB (gRPC's
/// limit), and a device takes about 66 bytes of it.
pub(super) const MOST_TURNS: u32 = 60_000;

/// Most MPS shares of a GPU: a server takes 60 clients a device from CUDA 13.1 on, 48 before (NVIDIA's MPS documentation).
pub(super) const MOST_CLIENTS: u32 = 60;

/// Checks `sharing`; MPS wins over time slicing, as in NVIDIA's plugin.
pub(super) fn replicated(raw: &raw::Shared, mig: MigStrategy, lines: &mut Lines) -> Vec<Replicated> {
    let turns = raw.time_slicing.as_ref().map(|raw| list(raw, Strategy::TimeSlicing, mig, lines));
    let Some(raw) = &raw.mps else { return turns.unwrap_or_default() };
    let shares = list(raw, Strategy::Mps, mig, lines);
    if turns.is_some() {
        let fix = "remove `timeSlicing` or `mps`; `cotenant.gpus` gives single GPUs a strategy of their own";
        let message = "nothing here is used: `sharing.mps` is set too and wins, as in NVIDIA's plugin";
        lines.note("sharing.timeSlicing", message, fix.to_owned());
    }
    if mig == MigStrategy::Mixed {
        let fix = "write `migStrategy: none` or `single`, or share single GPUs through MPS with `cotenant.gpus`";
        lines.problem("sharing.mps", "MPS for the whole node does not go with `migStrategy: mixed`", fix.to_owned());
    }
    shares
}

const fn path_of(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Mps => "sharing.mps",
        Strategy::Exclusive | Strategy::TimeSlicing | Strategy::Mig => "sharing.timeSlicing",
    }
}

fn list(raw: &raw::Replicas, strategy: Strategy, mig: MigStrategy, lines: &mut Lines) -> Vec<Replicated> {
    let path = format!("{}.resources", path_of(strategy));
    if raw.resources.is_empty() {
        let fix = "list at least one: `- {name: nvidia.com/gpu, replicas: 4}`";
        lines.problem(&path, "no resource is shared", fix.to_owned());
    }
    let rename = raw.rename_by_default.unwrap_or(false);
    let one_per_container = raw.fail_requests_greater_than_one.unwrap_or(strategy == Strategy::Mps);
    let mut list: Vec<Replicated> = Vec::new();
    for (index, raw) in raw.resources.iter() {
        let path = format!("{path}[{index}]");
        let resource = name::resource(&format!("{path}.name"), &raw.name, lines);
        known(&format!("{path}.name"), &resource, strategy, mig, lines);
        let offered = offered(&path, raw, &resource, rename, lines);
        let devices = selector(&format!("{path}.devices"), raw.devices.as_ref(), Purpose::Shares, lines);
        if devices != Selector::All {
            let message = "only these devices are shared; NVIDIA's plugin ignores `devices` and shares all";
            lines.note(&format!("{path}.devices"), message, None);
        }
        let replicas = replicas(&format!("{path}.replicas"), raw.replicas, strategy, lines);
        if list.iter().any(|other| other.resource == resource && other.devices == Selector::All) {
            let message = format!("an entry above shares all devices of `{resource}` already; this one does nothing");
            lines.note(&path, message, "remove one of them, or give the one above `devices`".to_owned());
        }
        list.push(Replicated { strategy, resource, offered, devices, replicas, one_per_container });
    }
    list
}

/// Checks that devices of such a name can be there.
fn known(path: &str, resource: &ResourceName, strategy: Strategy, mig: MigStrategy, lines: &mut Lines) {
    let is_mig = resource.0.starts_with("nvidia.com/mig-");
    if is_mig && strategy == Strategy::Mps {
        let fix = "share MIG devices under `sharing.timeSlicing`";
        lines.problem(path, "MIG devices are not shared through MPS", fix.to_owned());
    } else if is_mig && mig != MigStrategy::Mixed {
        let fix = "write `flags: {migStrategy: mixed}`, or remove the entry";
        lines.note(path, "MIG devices have names of their own under `migStrategy: mixed` only", fix.to_owned());
    } else if !is_mig && resource.0 != GPU && name::is_valid(resource) {
        let meant = closest(&resource.0, [GPU]).map(|meant| format!("did you mean `{meant}`? "));
        let fix = format!("{}devices are named `{GPU}` or `nvidia.com/mig-PROFILE`", meant.unwrap_or_default());
        lines.note(path, format!("no device is named `{resource}`, so nothing is shared"), fix);
    }
}

/// The name that shares are offered under.
fn offered(
    path: &str,
    raw: &raw::Replicated,
    resource: &ResourceName,
    rename: bool,
    lines: &mut Lines,
) -> ResourceName {
    let default = if rename { ResourceName(format!("{resource}.shared")) } else { resource.clone() };
    let Some(text) = raw.rename.as_ref().filter(|text| !text.is_empty()) else { return default };
    let path = format!("{path}.rename");
    let name = name::resource(&path, text, lines);
    if name != default && name::is_valid(&name) {
        let message =
            format!("shares are offered as `{name}`; NVIDIA's plugin ignores `rename` and offers `{default}`");
        lines.note(&path, message, None);
    }
    name
}

/// Checks a number of equal shares under time slicing or MPS.
pub(super) fn replicas(path: &str, replicas: u32, strategy: Strategy, lines: &mut Lines) -> u32 {
    let (least, most, reason) = match strategy {
        Strategy::Mps => (1, MOST_CLIENTS, "an MPS server takes 60 clients a GPU at most, 48 before CUDA 13.1"),
        Strategy::Exclusive | Strategy::TimeSlicing | Strategy::Mig => {
            (2, MOST_TURNS, "the kubelet's message of 4 MiB holds no more devices")
        }
    };
    if replicas < least {
        let message = if replicas == 1 { "1 share is the whole device" } else { "0 shares are none" };
        let fix = format!("write {least} or more, or remove the entry: a device that is not shared needs none");
        lines.problem(path, message, fix);
    } else if replicas > most {
        lines.problem(path, format!("{replicas} shares are too many: {reason}"), format!("write {most} or less"));
    }
    replicas
}
