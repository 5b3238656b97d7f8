//! The health of the cards: what the watch of the GPUs and the inventory say of them.

use cotenant_gpu::{Cause, Ends, Happening, HealthChange, InstanceIds, Notice};
use cotenant_model::GpuUuid;
use cotenant_model::gpu::Gpu;

use super::Agent;
use crate::agent::state::event::{Event, GpuEvent};

impl Agent {
    /// The watch of the GPUs saw something.
    pub(super) fn notice(&mut self, notice: &Notice) {
        match &notice.what {
            Happening::Xid { xid, .. } => self.turn(Event::Gpu(notice.gpu.clone(), GpuEvent::Xid(*xid))),
            Happening::MigChanged => self.look_again(),
            Happening::Answered { .. } if !self.facts.gpus.is_empty() && !self.shows(&notice.gpu) => self.look_again(),
            Happening::Answered { .. } | Happening::MemoryError { .. } | Happening::Lost { .. } => {}
        }
        let before = self.health.trouble(&notice.gpu, None).cloned();
        for HealthChange { place, trouble } in self.health.step(notice) {
            match (place.instance, trouble) {
                (None, Some(trouble)) => self.turn(Event::Gpu(place.gpu, GpuEvent::Ill(said(&trouble.cause)))),
                (None, None) => {
                    let anew = before.as_ref().is_some_and(|trouble| !matches!(trouble.ends, Ends::AfterQuiet(_)));
                    self.turn(Event::Gpu(place.gpu, GpuEvent::Well { anew }));
                }
                (Some(instance), trouble) => {
                    let Some(uuid) = self.mig_device(&place.gpu, instance) else { continue };
                    let well = trouble.map_or(Ok(()), |trouble| Err(said(&trouble.cause)));
                    self.turn(Event::MigDevice(uuid, well));
                }
            }
        }
    }

    /// Has configuration and inventory read again.
    pub(super) fn look_again(&self) {
        self.again.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Whether the last inventory has a GPU.
    fn shows(&self, gpu: &GpuUuid) -> bool {
        self.facts.gpus.iter().any(|card| card.uuid == *gpu)
    }

    /// An inventory: GPUs that were offered and are not there are ill, which no watch of those that are there can see.
    pub(super) fn take_stock(&mut self, gpus: &[Gpu]) {
        self.facts.gpus = gpus.to_vec();
        let offered: Vec<GpuUuid> = self.state.gpus().keys().cloned().collect();
        for uuid in offered {
            let is_there = self.shows(&uuid);
            if !is_there && self.missing.insert(uuid.clone()) {
                self.turn(Event::Gpu(uuid, GpuEvent::Ill("the driver does not show it".to_owned())));
            } else if is_there && self.missing.remove(&uuid) {
                self.turn(Event::Gpu(uuid, GpuEvent::Well { anew: true }));
            }
        }
    }

    fn mig_device(&self, gpu: &GpuUuid, instance: InstanceIds) -> Option<GpuUuid> {
        let card = self.facts.gpus.iter().find(|card| card.uuid == *gpu)?;
        let ids = (Some(instance.gpu_instance), Some(instance.compute_instance));
        let device = card.mig_devices.iter().find(|device| (device.gpu_instance, device.compute_instance) == ids);
        device.map(|device| device.uuid.clone())
    }
}

fn said(cause: &Cause) -> String {
    match cause {
        Cause::Xid(number) => match cotenant_gpu::xid_name(*number) {
            Some(name) => format!("XID {number} ({name})"),
            None => format!("XID {number}"),
        },
        Cause::Asked(action) => format!("the driver asks for {action}"),
        Cause::Lost(reason) => format!("the driver cannot reach it: {reason}"),
    }
}
