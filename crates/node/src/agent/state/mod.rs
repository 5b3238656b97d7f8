//! The agent's mind: what happens goes in, what is to be done comes out. No input, no output, no clock.
//!
//! [`State::step`] is called with every [`Event`]; [`State::deadline`] says when a [`Event::Tick`] is due at the latest.
//! GPUs have a life of their own ([`gpu`]); an edit of the configuration waits here until it disturbs nobody ([`edit`]);
//! who breaks GPUs is remembered ([`offence`]).

pub mod edit;
pub mod event;
pub mod gpu;
pub mod offence;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cotenant_model::sharing::config::{Drain, Faults};
use cotenant_model::sharing::{DeviceId, Offer, Strategy};
use cotenant_model::{GpuUuid, Nanoseconds};
use serde::{Deserialize, Serialize};

use crate::keeper::protocol::DaemonSettings;
use edit::Edit;
use event::{Action, Event, GpuEvent, Holder, Moment, Note, Pod, Subject};
use gpu::Gpu;
use offence::Offences;

/// What must outlive the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// What was offered last: running pods may hold its devices.
    pub applied: Option<Applied>,
    /// Who broke GPUs.
    pub offences: Offences,
}

/// What is offered, with the daemons behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Resources and devices.
    pub offer: Arc<Offer>,
    /// Control daemons, by GPU.
    pub daemons: BTreeMap<GpuUuid, DaemonSettings>,
}

/// Everything the agent knows.
#[derive(Debug, Clone)]
pub struct State {
    gpus: BTreeMap<GpuUuid, Gpu>,
    applied: Option<Applied>,
    edit: Edit,
    /// Who holds which device; `None` until the kubelet was read.
    holders: Option<BTreeMap<DeviceId, Holder>>,
    /// Devices that were given out and whose pod the kubelet does not list yet, with the time until which that is believed.
    admitting: BTreeMap<DeviceId, Nanoseconds>,
    offences: Offences,
    /// MIG devices that must not be given to anybody, with the reason.
    ill: BTreeMap<GpuUuid, String>,
    /// Pods that were told of their quarantine.
    told: BTreeSet<Pod>,
    faults: Faults,
    drain: Drain,
    keeper: Option<bool>,
}

/// How long a device counts as taken before its pod shows: an admission that takes longer has failed.
const ADMISSION: u64 = 60_000_000_000;

impl State {
    /// The state after a start, with what to do at once: what was offered before is offered again.
    #[must_use]
    pub fn restore(memory: Memory, now: Moment) -> (Self, Vec<Action>) {
        let mut state = Self {
            gpus: BTreeMap::new(),
            applied: None,
            edit: Edit::default(),
            holders: None,
            admitting: BTreeMap::new(),
            offences: memory.offences,
            ill: BTreeMap::new(),
            told: BTreeSet::new(),
            faults: Faults::default(),
            drain: Drain::Deny,
            keeper: None,
        };
        let actions = memory.applied.map_or_else(Vec::new, |applied| state.apply(applied, now));
        (state, actions)
    }

    /// What must be written down.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory { applied: self.applied.clone(), offences: self.offences.clone() }
    }

    /// What is offered.
    #[must_use]
    pub fn offer(&self) -> Option<&Arc<Offer>> {
        self.applied.as_ref().map(|applied| &applied.offer)
    }

    /// Every GPU that is offered.
    #[must_use]
    pub const fn gpus(&self) -> &BTreeMap<GpuUuid, Gpu> {
        &self.gpus
    }

    /// Who holds which device, as last read.
    #[must_use]
    pub const fn holders(&self) -> Option<&BTreeMap<DeviceId, Holder>> {
        self.holders.as_ref()
    }

    /// The edit that waits, if one does.
    #[must_use]
    pub const fn edit(&self) -> &Edit {
        &self.edit
    }

    /// MIG devices that are unhealthy by themselves, with the reason.
    #[must_use]
    pub const fn ill(&self) -> &BTreeMap<GpuUuid, String> {
        &self.ill
    }

    /// Whether the keeper can be spoken to; `None` before it was tried.
    #[must_use]
    pub const fn keeper(&self) -> Option<bool> {
        self.keeper
    }

    /// Whether somebody is waiting for a fresh reading of the holders.
    #[must_use]
    pub fn wants_holders(&self) -> bool {
        self.holders.is_none() || self.edit.waits() || !self.admitting.is_empty()
    }

    /// When an [`Event::Tick`] is due at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Nanoseconds> {
        let gpus = self.gpus.values().filter_map(Gpu::deadline);
        gpus.chain(self.edit.deadline()).chain(self.admitting.values().copied().min()).min()
    }

    /// What an event means and what is to be done, in order.
    pub fn step(&mut self, event: Event, now: Moment) -> Vec<Action> {
        let mut actions = match event {
            Event::Gpu(gpu, GpuEvent::MigApplied(result)) => self.edit.finish_mig(&gpu, result, now),
            Event::Gpu(gpu, event) => self.step_gpu(&gpu, event, now),
            Event::MigDevice(uuid, well) => self.judge_mig_device(uuid, well),
            Event::Proposed(proposal) => {
                self.faults = proposal.faults.clone();
                self.drain = proposal.drain;
                self.propose(*proposal, now)
            }
            Event::Holders(holders) => self.learn_holders(holders, now),
            Event::Allocated(devices) => {
                let until = Nanoseconds(now.monotonic.0.saturating_add(ADMISSION));
                self.admitting.extend(devices.into_iter().map(|device| (device, until)));
                Vec::new()
            }
            Event::KeeperUp(living) => self.meet_keeper(&living, now),
            Event::KeeperDown(why) => self.lose_keeper(&why),
            Event::Tick => self.tick(now),
        };
        actions.extend(self.consider(now));
        actions
    }

    fn step_gpu(&mut self, uuid: &GpuUuid, event: GpuEvent, now: Moment) -> Vec<Action> {
        let Some(gpu) = self.gpus.get_mut(uuid) else { return Vec::new() };
        let mut actions = gpu.step(event, &self.faults, now);
        if let Some(verdict) = gpu.take_verdict() {
            actions.extend(self.offences.count(&verdict, uuid, &self.faults, now));
        }
        actions
    }

    fn judge_mig_device(&mut self, uuid: GpuUuid, well: Result<(), String>) -> Vec<Action> {
        let healthy = well.is_ok();
        let (before, text) = match well {
            Ok(()) => (self.ill.remove(&uuid), format!("MIG device {uuid} is healthy again")),
            Err(why) => {
                let text = format!("MIG device {uuid} is unhealthy: {why}");
                (self.ill.insert(uuid.clone(), why), text)
            }
        };
        if before.is_some() != healthy {
            return Vec::new();
        }
        let reason = if healthy { "GpuRecovered" } else { "GpuUnhealthy" };
        vec![Action::SetHealth { uuid, healthy }, note(!healthy, reason, text)]
    }

    fn tick(&mut self, now: Moment) -> Vec<Action> {
        self.admitting.retain(|_device, until| *until > now.monotonic);
        let faults = &self.faults;
        self.gpus.values_mut().flat_map(|gpu| gpu.tick(faults, now)).collect()
    }

    fn meet_keeper(&mut self, living: &BTreeSet<GpuUuid>, now: Moment) -> Vec<Action> {
        self.keeper = Some(true);
        let mut actions = Vec::new();
        for (uuid, gpu) in &mut self.gpus {
            if gpu.daemon().is_some() && gpu.serves() && !living.contains(uuid) {
                let event = GpuEvent::DaemonDown {
                    how: "it was gone when the keeper came back".to_owned(),
                    clients: Vec::new(),
                };
                actions.extend(gpu.step(event, &self.faults, now));
            } else {
                actions.extend(gpu.greet_keeper());
            }
        }
        let unwanted = living.iter().filter(|uuid| self.gpus.get(uuid).is_none_or(|gpu| gpu.daemon().is_none()));
        // Before the first configuration nobody can say what is unwanted.
        let unwanted = unwanted.filter(|_| self.applied.is_some()).cloned();
        actions.extend(unwanted.map(Action::StopIdle));
        actions
    }

    fn lose_keeper(&mut self, why: &str) -> Vec<Action> {
        let news = self.keeper != Some(false);
        self.keeper = Some(false);
        if !news || self.gpus.values().all(|gpu| gpu.daemon().is_none()) {
            return Vec::new();
        }
        let mut actions: Vec<Action> = self.gpus.values().flat_map(Gpu::miss_keeper).collect();
        actions.push(note(
            true,
            "MpsKeeperAway",
            format!("the keeper of the MPS control daemons does not answer: {why}"),
        ));
        actions
    }

    fn learn_holders(&mut self, holders: BTreeMap<DeviceId, Holder>, now: Moment) -> Vec<Action> {
        self.admitting.retain(|device, until| !holders.contains_key(device) && *until > now.monotonic);
        self.told.retain(|pod| holders.values().any(|holder| holder.pod == *pod));
        let mut actions = Vec::new();
        if let Some(applied) = &self.applied {
            for (device, holder) in &holders {
                let shared =
                    applied.offer.device(device).is_some_and(|(_, device)| device.strategy != Strategy::Exclusive);
                if shared && !self.told.contains(&holder.pod) {
                    let told = self.offences.greet(holder, &self.faults, now);
                    if !told.is_empty() {
                        self.told.insert(holder.pod.clone());
                        actions.extend(told);
                    }
                }
            }
        }
        self.holders = Some(holders);
        actions
    }
}

/// A note on the node.
fn note(warning: bool, reason: &'static str, text: String) -> Action {
    Action::Tell(Note { subject: Subject::Node, warning, reason, text })
}
