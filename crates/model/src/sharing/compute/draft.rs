//! An offer in the making.

use std::collections::BTreeMap;

use super::problem::{OfferProblem, OfferProblems};
use crate::gpu::{Driver, Gpu};
use crate::sharing::config::Sharing;
use crate::sharing::offer::{Device, DeviceId, GpuOffer, Offer, Resource, ResourceName, Share, Strategy};
use crate::{Bytes, GpuUuid};

/// Longest message that the kubelet takes, gRPC's default; the whole list of a resource travels in one.
const LONGEST_MESSAGE: u64 = 4 << 20;

/// Bytes that a device takes in that message beside its id: tags and lengths, the longer word of health, a NUMA node.
const BESIDE_ID: u64 = 21;

/// What has been found out so far.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) sharing: &'a Sharing,
    pub(super) driver: &'a Driver,
    gpus: Vec<GpuOffer>,
    resources: BTreeMap<ResourceName, Resource>,
    messages: BTreeMap<ResourceName, u64>,
    problems: Vec<OfferProblem>,
    notes: Vec<String>,
}

/// Shares of one GPU or MIG device, or the whole of it.
#[derive(Debug)]
pub(super) struct Portion<'a> {
    /// The keys that ask for it.
    pub(super) path: &'a str,
    pub(super) resource: &'a ResourceName,
    pub(super) one_per_container: bool,
    /// The first device; the others differ in id only.
    pub(super) device: Device,
    /// `None` is the whole; a number counts shares, with their class where they have one.
    pub(super) shares: Option<u32>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(sharing: &'a Sharing, gpus: &[Gpu], driver: &'a Driver) -> Self {
        let plain = |gpu: &Gpu| GpuOffer {
            gpu: gpu.uuid.clone(),
            index: gpu.index,
            name: gpu.name.clone(),
            strategy: Strategy::Exclusive,
            devices: Vec::new(),
            reserve: Bytes(0),
            daemon: None,
            reasons: Vec::new(),
        };
        Self {
            sharing,
            driver,
            gpus: gpus.iter().map(plain).collect(),
            resources: BTreeMap::new(),
            messages: BTreeMap::new(),
            problems: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn problem(&mut self, path: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(OfferProblem { path: path.to_owned(), message: message.into(), fix: fix.into() });
    }

    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// What a GPU contributes, to be added to.
    pub(super) fn gpu(&mut self, uuid: &GpuUuid) -> Option<&mut GpuOffer> {
        self.gpus.iter_mut().find(|gpu| gpu.gpu == *uuid)
    }

    pub(super) fn reason(&mut self, gpu: &GpuUuid, reason: String) {
        if let Some(offer) = self.gpu(gpu)
            && !offer.reasons.contains(&reason)
        {
            offer.reasons.push(reason);
        }
    }

    pub(super) fn strategy(&mut self, gpu: &GpuUuid, strategy: Strategy) {
        if let Some(offer) = self.gpu(gpu) {
            offer.strategy = strategy;
        }
    }

    /// Adds devices to a resource, unless their ids or their number are too much for the kubelet.
    pub(super) fn add(&mut self, portion: &Portion<'_>) {
        let id = |number: u32| match (&portion.device.class, portion.shares) {
            (_, None) => DeviceId::whole(&portion.device.uuid),
            (None, Some(_)) => DeviceId::share(&portion.device.uuid, number),
            (Some(class), Some(_)) => DeviceId::of_class(&portion.device.uuid, class, number),
        };
        let count = portion.shares.unwrap_or(1);
        let longest = id(count.saturating_sub(1)).0.len();
        if !self.fits(portion, count, longest) {
            return;
        }
        let (name, one_per_container) = (portion.resource, portion.one_per_container);
        let empty = || Resource { name: name.clone(), one_per_container, devices: Vec::new() };
        let resource = self.resources.entry(name.clone()).or_insert_with(empty);
        resource.one_per_container |= one_per_container;
        resource.devices.extend((0..count).map(|number| Device { id: id(number), ..portion.device.clone() }));
        self.count(&portion.device.gpu, name, count);
    }

    fn fits(&mut self, portion: &Portion<'_>, count: u32, longest: usize) -> bool {
        if longest > DeviceId::LONGEST {
            let (message, fix) = match &portion.device.class {
                Some(class) => {
                    let over = longest - DeviceId::LONGEST;
                    let most = class.chars().count().saturating_sub(over);
                    (
                        format!(
                            "devices of class `{class}` would have ids of {longest} characters, and the kubelet takes {}",
                            DeviceId::LONGEST
                        ),
                        format!("shorten the name of the class to {most} characters"),
                    )
                }
                None => (
                    format!(
                        "the id of `{}` is too long for the kubelet, {longest} characters of {}",
                        portion.device.uuid,
                        DeviceId::LONGEST
                    ),
                    "use a driver from 470 on, whose UUIDs of MIG devices are shorter".to_owned(),
                ),
            };
            self.problem(portion.path, message, fix);
            return false;
        }
        let bytes = u64::from(count).saturating_mul(longest as u64 + BESIDE_ID);
        let before = self.messages.entry(portion.resource.clone()).or_default();
        let crossed = *before <= LONGEST_MESSAGE;
        *before = before.saturating_add(bytes);
        if *before <= LONGEST_MESSAGE {
            return true;
        }
        if crossed {
            let message =
                format!("`{}` has more devices than the kubelet takes in one message of 4 MiB", portion.resource);
            let most = LONGEST_MESSAGE / (longest as u64 + BESIDE_ID);
            self.problem(
                portion.path,
                message,
                format!("lower the number of shares: a resource holds about {most} devices in all"),
            );
        }
        false
    }

    fn count(&mut self, gpu: &GpuUuid, name: &ResourceName, count: u32) {
        let Some(offer) = self.gpu(gpu) else { return };
        match offer.devices.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known += count,
            None => offer.devices.push((name.clone(), count)),
        }
    }

    /// The offer, once everything was found out.
    pub(super) fn finish(mut self) -> Result<Offer, OfferProblems> {
        if !self.problems.is_empty() {
            return Err(OfferProblems(self.problems));
        }
        let ambiguous: Vec<String> = self.resources.values().filter_map(ambiguity).collect();
        self.notes.extend(ambiguous);
        let order: BTreeMap<GpuUuid, usize> =
            self.gpus.iter().enumerate().map(|(position, gpu)| (gpu.gpu.clone(), position)).collect();
        for resource in self.resources.values_mut() {
            resource.devices.sort_by_key(|device| order.get(&device.gpu));
        }
        let mut offer = Offer { resources: self.resources.into_values().collect(), gpus: self.gpus, notes: self.notes };
        let limits: Vec<Option<Share>> = offer.gpus.iter().map(|gpu| offer.most_for_one(&gpu.gpu)).collect();
        for (gpu, limit) in offer.gpus.iter_mut().zip(limits) {
            if let (Some(daemon), Some(limit)) = (&mut gpu.daemon, limit) {
                daemon.limit = limit;
            }
        }
        Ok(offer)
    }
}

/// What a pod that asks for a resource cannot tell from its name.
fn ambiguity(resource: &Resource) -> Option<String> {
    let name = &resource.name;
    let mut strategies: Vec<Strategy> = resource.devices.iter().map(|device| device.strategy).collect();
    strategies.sort_unstable();
    strategies.dedup();
    if strategies.len() > 1 {
        let words: Vec<&str> = strategies.iter().map(|strategy| strategy.word()).collect();
        return Some(format!(
            "`{name}` stands for devices under different strategies ({}), and a pod that asks for it may get either: give one of them another name.",
            words.join(", ")
        ));
    }
    let memory = |device: &Device| device.share.map(|share| share.memory);
    let (least, most) = (resource.devices.iter().map(memory).min()??, resource.devices.iter().map(memory).max()??);
    (least != most).then(|| {
        format!("Shares of `{name}` are not alike, from {least} to {most} of memory, and a pod that asks for one may get any: give the GPUs rules with different names.")
    })
}
