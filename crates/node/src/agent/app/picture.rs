//! The picture of the agent, from what it knows.

use std::collections::BTreeMap;

use cotenant_cluster::Reachability;
use cotenant_kubelet::device_plugin::{DeviceList, Registration};
use cotenant_model::gpu::Gpu;
use cotenant_model::sharing::{DeviceId, GpuOffer, Offer, ResourceName};
use cotenant_model::{Bytes, GpuUuid};

use crate::agent::state::State;
use crate::agent::state::gpu::{Gpu as GpuState, Phase};
use crate::serve::{Configuration, GpuView, ResourceView, TenantView, View};

/// Failures and recoveries of a GPU since the agent started.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) faults: BTreeMap<String, u64>,
    pub(super) recoveries: u64,
    pub(super) recovery_seconds: f64,
}

/// What the picture is drawn from, beside the state.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) node: String,
    pub(super) driver: Option<String>,
    pub(super) configuration: Option<String>,
    pub(super) refused: Option<String>,
    pub(super) gpus: Vec<Gpu>,
    pub(super) used: BTreeMap<GpuUuid, Bytes>,
    pub(super) tallies: BTreeMap<GpuUuid, Tally>,
    pub(super) tenants: Vec<TenantView>,
}

/// What the kubelet is told, and how it takes it.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) offer: &'a Offer,
    pub(super) lists: &'a BTreeMap<ResourceName, DeviceList>,
    pub(super) registrations: &'a BTreeMap<ResourceName, Registration>,
}

/// Draws it.
pub(super) fn draw(facts: &Facts, state: &State, told: &Told<'_>, api: Option<&Reachability>) -> View {
    let Told { offer, .. } = told;
    let gpus: Vec<GpuView> = offer.gpus.iter().map(|gpu| draw_gpu(gpu, facts, state)).collect();
    let needs_keeper = offer.gpus.iter().any(|gpu| gpu.daemon.is_some());
    View {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: facts.node.clone(),
        driver: facts.driver.clone(),
        unready: unready(facts, state, told.registrations),
        configuration: Configuration {
            name: facts.configuration.clone(),
            refused: facts.refused.clone(),
            waits_for: state.edit().waits_for().map(str::to_owned).collect(),
        },
        api: api.and_then(|api| match api {
            Reachability::Unknown => None,
            Reachability::Reachable => Some(true),
            Reachability::Unreachable(_) => Some(false),
        }),
        keeper: needs_keeper.then(|| state.keeper() == Some(true)),
        resources: resources(state, told),
        gpus,
        tenants: facts.tenants.clone(),
    }
}

fn draw_gpu(gpu: &GpuOffer, facts: &Facts, state: &State) -> GpuView {
    let known = state.gpus().get(&gpu.gpu);
    let tally = facts.tallies.get(&gpu.gpu).cloned().unwrap_or_default();
    let has_daemon = gpu.daemon.is_some();
    GpuView {
        uuid: gpu.gpu.clone(),
        index: gpu.index,
        name: gpu.name.clone(),
        strategy: gpu.strategy,
        phase: known.map_or("unknown", |known| word(known.phase())).to_owned(),
        unhealthy: known.and_then(why_unhealthy),
        memory: facts.gpus.iter().find(|card| card.uuid == gpu.gpu).map(|card| card.memory).unwrap_or_default(),
        memory_used: facts.used.get(&gpu.gpu).copied(),
        faults: tally.faults,
        recoveries: tally.recoveries,
        recovery_seconds: tally.recovery_seconds,
        daemon: known.filter(|_| has_daemon).map(GpuState::serves),
        clients: known.filter(|_| has_daemon).and_then(|known| u32::try_from(known.clients().len()).ok()),
    }
}

const fn word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Serving => "serving",
        Phase::Suspect { .. } => "suspect",
        Phase::Fault(_) => "fault",
        Phase::Recovering { .. } => "recovering",
        Phase::Broken { .. } => "broken",
    }
}

fn why_unhealthy(gpu: &GpuState) -> Option<String> {
    if gpu.is_healthy() {
        return None;
    }
    if let Some(illness) = gpu.illness() {
        return Some(illness.why.clone());
    }
    Some(match gpu.phase() {
        Phase::Starting => "its MPS control daemon is being started".to_owned(),
        Phase::Serving => "it has just become well".to_owned(),
        Phase::Suspect { sign, .. } => sign.clone(),
        Phase::Fault(_) => "its MPS server is or was in fault, and those whom that reached are still there".to_owned(),
        Phase::Recovering { .. } => "its MPS control daemon recovers".to_owned(),
        Phase::Broken { why, .. } => why.clone(),
    })
}

fn resources(state: &State, told: &Told<'_>) -> Vec<ResourceView> {
    let Told { offer, lists, registrations } = told;
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let held = |id: &DeviceId| state.holders().is_some_and(|holders| holders.contains_key(id));
    offer
        .resources
        .iter()
        .map(|resource| {
            let listed = lists.get(&resource.name).map(DeviceList::devices);
            let healthy = listed.map_or(0, |devices| devices.iter().filter(|device| device.healthy).count());
            ResourceView {
                name: resource.name.clone(),
                devices: count(resource.devices.len()),
                healthy: count(healthy),
                allocated: count(resource.devices.iter().filter(|device| held(&device.id)).count()),
                unregistered: match registrations.get(&resource.name) {
                    Some(Registration::Registered { .. }) => None,
                    Some(Registration::Waiting { why }) => Some(why.clone()),
                    None => Some("it is not offered".to_owned()),
                },
            }
        })
        .collect()
}

/// What keeps the node from serving all that it advertises. A GPU in fault is no part of it: its devices are advertised as
/// unhealthy, which is true.
fn unready(facts: &Facts, state: &State, registrations: &BTreeMap<ResourceName, Registration>) -> Vec<String> {
    let mut why = Vec::new();
    // The driver's version comes with the first configuration that can be had.
    if state.offer().is_none() || facts.driver.is_none() {
        let reason = facts.refused.clone().unwrap_or_else(|| "the configuration is being read".to_owned());
        why.push(format!("nothing is offered yet: {reason}"));
    }
    for (name, registration) in registrations {
        if let Registration::Waiting { why: reason } = registration {
            why.push(format!("{name}: {reason}"));
        }
    }
    for (uuid, gpu) in state.gpus() {
        match gpu.phase() {
            Phase::Starting => why.push(format!("{uuid}: its MPS control daemon is being started")),
            Phase::Broken { why: reason, .. } => why.push(format!("{uuid}: {reason}")),
            Phase::Serving | Phase::Suspect { .. } | Phase::Fault(_) | Phase::Recovering { .. } => {}
        }
    }
    why
}
