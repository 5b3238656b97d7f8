//! Workload files, raw to checked: everything that a schema cannot say, all of it at once.
//!
//! Functions here report what is wrong to the [`Lines`] and return a value all the same, so that the checks after them
//! go on; the value counts only when [`Lines::finish`] finds no problem.

mod arm;
mod kernel;
mod load;
mod name;
mod server;

use std::collections::BTreeMap;

use super::{Class, Engine, Tenant, Workload, raw};
use crate::document::{Lines, Problems, quantity};
use crate::{Bytes, Nanoseconds};

/// Most tenants of a workload: an MPS server takes 48 clients on the GPUs since Volta (NVIDIA's MPS documentation,
/// "Client connections").
const MAXIMUM_TENANTS: usize = 48;

const API_VERSION: &str = "cotenant.dev/v1alpha1";
const KIND: &str = "Workload";

pub(super) fn workload(raw: raw::Workload, mut lines: Lines) -> Result<Workload, Problems> {
    let lines_ref = &mut lines;
    header(&raw, lines_ref);
    name::label("metadata.name", &raw.metadata.name, lines_ref);
    let repeats = raw.repeats.map(|repeats| repeats_of(repeats, lines_ref));
    let duration = raw.duration.map(|text| duration_of("duration", &text, 100_000_000, lines_ref));
    let warmup = raw.warmup.map(|text| duration_of("warmup", &text, 0, lines_ref));
    let tenants = tenants(&raw.tenants, lines_ref);
    let arms = raw.arms.map(|arms| arm::arms(&arms, &tenants, lines_ref));
    let tenants = tenants.into_iter().map(|placed| placed.tenant).collect();
    let raw::Metadata { name, description } = raw.metadata;
    lines.finish(Workload { name, description, arms, repeats, duration, warmup, tenants })
}

/// A tenant and the path of the entry it came from.
struct Placed {
    path: String,
    tenant: Tenant,
}

fn header(raw: &raw::Workload, lines: &mut Lines) {
    for (key, found, wanted) in [("apiVersion", &raw.api_version, API_VERSION), ("kind", &raw.kind, KIND)] {
        if found != wanted {
            let message = format!("`{}` is not `{wanted}`", found.escape_debug());
            lines.problem(key, message, format!("write `{key}: {wanted}`"));
        }
    }
}

fn repeats_of(repeats: u32, lines: &mut Lines) -> u32 {
    if repeats < 3 {
        let message = format!("{repeats} repeats show no spread");
        lines.problem(
            "repeats",
            message,
            "write 3 or more; a quick look takes `--repeats` on the command line".to_owned(),
        );
        return repeats;
    }
    quantity::within("repeats", repeats, 3..=100, lines)
}

/// A length of a window or warm-up: at most ten minutes.
fn duration_of(path: &str, text: &str, least: u64, lines: &mut Lines) -> Nanoseconds {
    quantity::duration(path, text, Nanoseconds(least)..=Nanoseconds(600_000_000_000), lines)
}

fn tenants(raw: &[raw::Tenant], lines: &mut Lines) -> Vec<Placed> {
    if raw.is_empty() {
        lines.problem(
            "tenants",
            "there is no tenant",
            "list at least one, with a `name` and a `kernel` or `server`".to_owned(),
        );
    }
    let mut placed = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let path = format!("tenants[{index}]");
        let names = name::expanded(&path, raw, lines);
        let Some(tenant) = tenant(&path, raw, lines) else { continue };
        placed.extend(
            names.into_iter().map(|name| Placed { path: path.clone(), tenant: Tenant { name, ..tenant.clone() } }),
        );
    }
    distinct(&placed, lines);
    if placed.len() > MAXIMUM_TENANTS {
        let message = format!("{} tenants are more than the {MAXIMUM_TENANTS} clients of an MPS server", placed.len());
        lines.problem("tenants", message, "lower `count`, or leave tenants out".to_owned());
    }
    placed
}

/// One entry of `tenants`, its name as written.
fn tenant(path: &str, raw: &raw::Tenant, lines: &mut Lines) -> Option<Tenant> {
    let engine = engine(path, raw, lines)?;
    let load = load::load(path, raw.load.as_ref(), &engine, lines);
    let slo = load::slos(path, &raw.slo, &engine, lines);
    let class = class(path, raw, lines);
    let memory = raw.memory.as_deref().map(|text| memory(path, text, &engine, lines));
    Some(Tenant { name: raw.name.clone(), class, engine, load, slo, memory })
}

fn engine(path: &str, raw: &raw::Tenant, lines: &mut Lines) -> Option<Engine> {
    match (&raw.kernel, &raw.server) {
        (Some(raw), None) => Some(Engine::Kernel(kernel::kernel(&format!("{path}.kernel"), raw, lines))),
        (None, Some(server)) => {
            let many = raw.count.is_some_and(|count| count > 1);
            Some(Engine::Server(server::server(&format!("{path}.server"), server, many, lines)))
        }
        (None, None) => {
            let fix = "give it a `kernel` (`kernel: {kind: decode}`) or a `server`";
            lines.problem(path, "the tenant runs nothing", fix.to_owned());
            None
        }
        (Some(_), Some(_)) => {
            let fix = "make them two tenants, each with its own name";
            lines.problem(path, "the tenant has both `kernel` and `server`", fix.to_owned());
            None
        }
    }
}

fn class(path: &str, raw: &raw::Tenant, lines: &mut Lines) -> Class {
    let path = format!("{path}.slo");
    match raw.class {
        None | Some(raw::Class::Standard) => Class::Standard,
        Some(raw::Class::Protected) => {
            if raw.slo.is_empty() {
                let fix = "add `slo: [{metric: e2e, slowdownAtMost: 1.2}]`, or make it `standard`";
                lines.problem(&path, "a protected tenant has no latency target", fix.to_owned());
            }
            Class::Protected
        }
        Some(raw::Class::BestEffort) => {
            if !raw.slo.is_empty() {
                let fix = "make it `protected` or `standard`, or remove `slo`";
                lines.problem(
                    &path,
                    "a best-effort tenant may be paused and can keep no latency target",
                    fix.to_owned(),
                );
            }
            Class::BestEffort
        }
    }
}

fn memory(path: &str, text: &str, engine: &Engine, lines: &mut Lines) -> Bytes {
    let path = format!("{path}.memory");
    let memory = quantity::bytes(&path, text, lines);
    let needed = match engine {
        Engine::Kernel(kernel) => kernel.device_bytes(),
        Engine::Server(_) => Bytes(0),
    };
    if memory.0 > 0 && memory < needed {
        let message = format!("the limit of {memory} is below the {needed} of the tenant's own buffers");
        lines.problem(&path, message, "raise it, and leave room for the CUDA context; or remove it".to_owned());
    }
    memory
}

/// Reports names and addresses that two tenants share.
fn distinct(placed: &[Placed], lines: &mut Lines) {
    let mut names: BTreeMap<&str, u64> = BTreeMap::new();
    let mut endpoints: BTreeMap<&str, u64> = BTreeMap::new();
    for Placed { path, tenant } in placed {
        let line = lines.position(path).line;
        if let Some(first) = names.insert(&tenant.name, line) {
            let message = format!("the tenant of line {first} is named `{}` too", tenant.name.escape_debug());
            lines.problem(&format!("{path}.name"), message, "give each tenant its own name".to_owned());
        }
        let Engine::Server(server) = &tenant.engine else { continue };
        let first = endpoints.insert(&server.endpoint, line).filter(|first| *first != line);
        if let (Some(first), true) = (first, server.command.is_some()) {
            let message = format!("the tenant of line {first} answers at the same address");
            lines.problem(&format!("{path}.server.endpoint"), message, "give each server its own port".to_owned());
        }
    }
}
