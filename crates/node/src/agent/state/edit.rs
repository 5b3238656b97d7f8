//! An edit of the configuration on its way: it is applied when it disturbs nobody.

use std::collections::{BTreeMap, BTreeSet};

use cotenant_model::sharing::DeviceId;
use cotenant_model::sharing::change::{Change, DaemonChange, Effect};
use cotenant_model::sharing::config::Drain;
use cotenant_model::{GpuUuid, Nanoseconds};

use super::event::{Action, Moment, Pod, Proposal};
use super::gpu::Gpu;
use super::{Applied, State, note};
use crate::keeper::protocol::DaemonSettings;

/// Between two attempts to evict a pod, or to make MIG devices: both may be refused for good reasons.
const RETRY: u64 = 30_000_000_000;

/// Between two questions to a daemon whose clients are waited for.
const ASK: u64 = 1_000_000_000;

/// What waits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    offer: Option<Pending>,
    mig: BTreeMap<GpuUuid, Wish>,
    /// Devices that take no new pod meanwhile.
    cordon: BTreeSet<DeviceId>,
    /// Pods that were told to go, and when they are told again.
    evicted: BTreeMap<Pod, Nanoseconds>,
    /// When daemons are asked again whether the clients that no pod accounts for are still there.
    ask: Nanoseconds,
}

/// An offer that waits.
#[derive(Debug, Clone, PartialEq)]
struct Pending {
    proposal: Proposal,
    /// Devices that vanish or change.
    touched: BTreeSet<DeviceId>,
    /// GPUs whose control daemon ends or changes.
    daemons: BTreeSet<GpuUuid>,
    waits_for: Vec<String>,
}

/// MIG devices that are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    layout: BTreeMap<String, u32>,
    /// When it is tried; `None` while it is being tried.
    at: Option<Nanoseconds>,
    waits_for: Vec<String>,
}

impl Edit {
    /// Whether anything waits.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.offer.is_some() || !self.mig.is_empty()
    }

    /// Whom it waits for, each as people would say it.
    pub fn waits_for(&self) -> impl Iterator<Item = &str> {
        let offer = self.offer.iter().flat_map(|pending| &pending.waits_for);
        offer.chain(self.mig.values().flat_map(|wish| &wish.waits_for)).map(String::as_str)
    }

    pub(super) fn deadline(&self) -> Option<Nanoseconds> {
        let mig = self.mig.values().filter_map(|wish| wish.at).filter(|at| at.0 > 0);
        mig.chain(self.evicted.values().copied()).min()
    }

    /// MIG devices were made: the inventory that follows says what is there. Or they were not.
    pub(super) fn finish_mig(&mut self, gpu: &GpuUuid, result: Result<(), String>, now: Moment) -> Vec<Action> {
        match result {
            Ok(()) => {
                self.mig.remove(gpu);
                vec![note(false, "MigApplied", format!("GPU {gpu} has its MIG devices"))]
            }
            Err(why) => {
                if let Some(wish) = self.mig.get_mut(gpu) {
                    wish.at = Some(later(now));
                }
                vec![note(true, "MigRefused", format!("GPU {gpu} does not get its MIG devices: {why}"))]
            }
        }
    }

    /// Takes over what is wanted of MIG; a wish that stays keeps its place.
    fn wish(&mut self, wanted: &BTreeMap<GpuUuid, BTreeMap<String, u32>>) {
        self.mig.retain(|gpu, wish| wish.at.is_none() || wanted.get(gpu) == Some(&wish.layout));
        for (gpu, layout) in wanted {
            let wish = || Wish { layout: layout.clone(), at: Some(Nanoseconds(0)), waits_for: Vec::new() };
            self.mig.entry(gpu.clone()).or_insert_with(wish);
        }
    }
}

fn later(now: Moment) -> Nanoseconds {
    Nanoseconds(now.monotonic.0.saturating_add(RETRY))
}

impl State {
    /// Configuration or inventory want something else.
    pub(super) fn propose(&mut self, proposal: Proposal, now: Moment) -> Vec<Action> {
        self.edit.wish(&proposal.mig);
        let Some(applied) = &self.applied else { return self.apply_proposal(proposal, now) };
        if applied.offer == proposal.offer && applied.daemons == proposal.daemons {
            let gone = self.edit.offer.take();
            return gone
                .map(|_| note(false, "ConfigReverted", "the edit that waited is withdrawn".to_owned()))
                .into_iter()
                .collect();
        }
        let daemons = changed_daemons(applied, &proposal);
        let change = Change::between(&applied.offer, &proposal.offer, &[]);
        let touched = touched(applied, &change, &daemons);
        self.edit.offer = Some(Pending { proposal, touched, daemons, waits_for: Vec::new() });
        let plan: Vec<String> = change.gpus.iter().map(ToString::to_string).collect();
        let text = (!plan.is_empty()).then(|| format!("what the edited configuration changes: {}", plan.join("\n")));
        text.map(|text| note(false, "ConfigPlan", text)).into_iter().collect()
    }

    /// Applies what waits and disturbs nobody any more; asks those whom it would disturb to go, where that is allowed.
    pub(super) fn consider(&mut self, now: Moment) -> Vec<Action> {
        if !self.edit.waits() {
            return self.cordon(BTreeSet::new());
        }
        let mut actions = self.consider_offer(now);
        actions.extend(self.consider_mig(now));
        actions.extend(self.make_room(now));
        actions
    }

    fn consider_offer(&mut self, now: Moment) -> Vec<Action> {
        let Some(pending) = &self.edit.offer else { return Vec::new() };
        let mut waits_for = self.holders_of(&pending.touched);
        let mut asked = Vec::new();
        for uuid in &pending.daemons {
            let strangers: Vec<String> = self.gpus.get(uuid).into_iter().flat_map(strangers).collect();
            if !strangers.is_empty() && self.edit.ask <= now.monotonic {
                asked.push(Action::AskStatus(uuid.clone()));
            }
            waits_for.extend(strangers);
        }
        if !asked.is_empty() {
            self.edit.ask = Nanoseconds(now.monotonic.0.saturating_add(ASK));
        }
        if !waits_for.is_empty() {
            asked.extend(self.wait(waits_for));
            return asked;
        }
        let Some(pending) = self.edit.offer.take() else { return Vec::new() };
        self.apply_proposal(pending.proposal, now)
    }

    fn wait(&mut self, waits_for: Vec<String>) -> Vec<Action> {
        let Some(pending) = &mut self.edit.offer else { return Vec::new() };
        let first = pending.waits_for.is_empty();
        pending.waits_for = waits_for;
        if !first {
            return Vec::new();
        }
        let how = match self.drain {
            Drain::Deny => "it is applied when they are gone (`drain: allow` would evict them)",
            Drain::Allow => "they are evicted (`drain: allow`)",
        };
        let text = format!("the edited configuration would disturb {}: {how}", pending.waits_for.join(", "));
        vec![note(true, "ConfigPending", text)]
    }

    fn consider_mig(&mut self, now: Moment) -> Vec<Action> {
        let ready = |wish: &Wish| wish.at.is_some_and(|at| at <= now.monotonic);
        let due: Vec<GpuUuid> =
            self.edit.mig.iter().filter(|(_, wish)| ready(wish)).map(|(gpu, _)| gpu.clone()).collect();
        let mut actions = Vec::new();
        for gpu in due {
            let devices = self.devices_of(&gpu);
            let waits_for = self.holders_of(&devices);
            let Some(wish) = self.edit.mig.get_mut(&gpu) else { continue };
            if waits_for.is_empty() {
                wish.at = None;
                actions.push(Action::ApplyMig(gpu, wish.layout.clone()));
            } else if wish.waits_for.is_empty() {
                let text = format!("the MIG devices of GPU {gpu} are made when {} are gone", waits_for.join(", "));
                actions.push(note(true, "MigPending", text));
            }
            wish.waits_for = waits_for;
        }
        actions
    }

    /// Devices that are about to change take no new pod where pods are evicted for it, or MIG devices are being made.
    fn make_room(&mut self, now: Moment) -> Vec<Action> {
        let mut closed: BTreeSet<DeviceId> = BTreeSet::new();
        let drains = self.drain == Drain::Allow;
        for (gpu, wish) in &self.edit.mig {
            if drains || wish.at.is_none() {
                closed.extend(self.devices_of(gpu));
            }
        }
        if drains && let Some(pending) = &self.edit.offer {
            closed.extend(pending.touched.iter().cloned());
        }
        let mut actions = if drains { self.evict(&closed, now) } else { Vec::new() };
        actions.extend(self.cordon(closed));
        actions
    }

    fn evict(&mut self, closed: &BTreeSet<DeviceId>, now: Moment) -> Vec<Action> {
        let holders = self.holders.iter().flatten().filter(|(device, _)| closed.contains(device));
        let pods: BTreeSet<Pod> = holders.map(|(_, holder)| holder.pod.clone()).collect();
        self.edit.evicted.retain(|pod, _| pods.contains(pod));
        let mut actions = Vec::new();
        for pod in pods {
            if self.edit.evicted.get(&pod).is_none_or(|again| *again <= now.monotonic) {
                self.edit.evicted.insert(pod.clone(), later(now));
                actions.push(Action::Evict(
                    pod,
                    "its share of a GPU is changed by an edit of the node's configuration".to_owned(),
                ));
            }
        }
        actions
    }

    fn cordon(&mut self, closed: BTreeSet<DeviceId>) -> Vec<Action> {
        if !self.edit.waits() {
            self.edit.evicted.clear();
        }
        if self.edit.cordon == closed {
            return Vec::new();
        }
        self.edit.cordon.clone_from(&closed);
        vec![Action::Cordon(closed)]
    }

    fn devices_of(&self, gpu: &GpuUuid) -> BTreeSet<DeviceId> {
        let devices = self.applied.iter().flat_map(|applied| applied.offer.devices_of(gpu));
        devices.map(|(_, device)| device.id.clone()).collect()
    }

    /// Who holds any of these devices; before the kubelet was read, nobody can say.
    fn holders_of(&self, devices: &BTreeSet<DeviceId>) -> Vec<String> {
        let Some(holders) = &self.holders else { return vec!["pods that are not known yet".to_owned()] };
        let pods: BTreeSet<&Pod> =
            holders.iter().filter(|(device, _)| devices.contains(device)).map(|(_, holder)| &holder.pod).collect();
        let mut all: Vec<String> = pods.into_iter().map(|pod| format!("pod {pod}")).collect();
        let admitting = self.admitting.keys().filter(|device| devices.contains(device));
        all.extend(admitting.map(|device| format!("a pod that is being given {device}")));
        all
    }

    fn apply_proposal(&mut self, proposal: Proposal, now: Moment) -> Vec<Action> {
        let Proposal { offer, daemons, .. } = proposal;
        let devices: usize = offer.resources.iter().map(|resource| resource.devices.len()).sum();
        let text = format!("{devices} devices of {} resources are offered", offer.resources.len());
        let mut actions = self.apply(Applied { offer, daemons }, now);
        actions.extend([Action::Save, Action::SetLabels, note(false, "ConfigApplied", text)]);
        actions
    }

    /// Offers this from now on.
    pub(super) fn apply(&mut self, applied: Applied, now: Moment) -> Vec<Action> {
        let wanted: BTreeSet<&GpuUuid> = applied.offer.gpus.iter().map(|gpu| &gpu.gpu).collect();
        let mut actions = Vec::new();
        for (_, mut gpu) in self.gpus.extract_if(.., |uuid, _| !wanted.contains(uuid)) {
            actions.extend(gpu.want(None, now).into_iter().filter(|action| matches!(action, Action::Stop(_))));
        }
        // The list goes first: it must not hold a device whose daemon is being ended.
        let mut daemons = Vec::new();
        for uuid in wanted {
            let daemon = applied.daemons.get(uuid).cloned();
            match self.gpus.get_mut(uuid) {
                Some(gpu) => daemons.extend(gpu.want(daemon, now)),
                None => {
                    let (gpu, first) = Gpu::new(uuid.clone(), daemon, now);
                    self.gpus.insert(uuid.clone(), gpu);
                    daemons.extend(first);
                }
            }
        }
        let (health, daemons): (Vec<Action>, Vec<Action>) =
            daemons.into_iter().partition(|action| matches!(action, Action::SetHealth { .. }));
        actions.splice(0..0, health.into_iter().chain([Action::Publish(applied.offer.clone())]));
        actions.extend(daemons);
        self.applied = Some(applied);
        actions
    }
}

/// Clients of a daemon that no pod accounts for: a daemon that has them is not ended unasked.
fn strangers(gpu: &Gpu) -> impl Iterator<Item = String> {
    let clients = gpu.clients().iter().filter(|client| client.holder.is_none());
    clients.map(|client| format!("process {}", client.process.pid))
}

/// GPUs whose control daemon ends, or is to be another.
fn changed_daemons(applied: &Applied, proposal: &Proposal) -> BTreeSet<GpuUuid> {
    let conflicts =
        |gpu, settings: &DaemonSettings| proposal.daemons.get(gpu).is_none_or(|wanted| settings.conflicts_with(wanted));
    let changed = applied.daemons.iter().filter(|(gpu, settings)| conflicts(gpu, settings));
    changed.map(|(gpu, _)| gpu.clone()).collect()
}

/// Devices that vanish or are not the same any more.
fn touched(applied: &Applied, change: &Change, daemons: &BTreeSet<GpuUuid>) -> BTreeSet<DeviceId> {
    let mut whole = daemons.clone();
    let mut touched = BTreeSet::new();
    for gpu in &change.gpus {
        if gpu.from.is_some() && (gpu.from != gpu.to || gpu.daemon == Some(DaemonChange::Replaced)) {
            whole.insert(gpu.gpu.clone());
        }
        let changed = gpu.devices.iter().filter(|device| !matches!(device.effect, Effect::Appears { .. }));
        touched.extend(changed.map(|device| device.device.clone()));
    }
    let of_whole =
        |gpu: &GpuUuid| applied.offer.devices_of(gpu).map(|(_, device)| device.id.clone()).collect::<Vec<_>>();
    touched.extend(whole.iter().flat_map(of_whole));
    touched
}
