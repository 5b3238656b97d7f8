//! Who uses how much, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cotenant_model::sharing::{DeviceId, Offer, ResourceName, Share, Strategy};
use cotenant_model::{Bytes, GpuUuid};

use super::Agent;
use super::watchers::GpuUsage;
use crate::agent::served::Served;
use crate::agent::state::event::{Holder, Note, Pod, Subject};
use crate::usage::attribution::{Seen, Usage, attribute};
use crate::usage::inspection::{self, FileSystem, Given};

type Holders = BTreeMap<DeviceId, Holder>;

impl Agent {
    /// A reading of the driver's process lists.
    pub(super) fn learn_usage(&mut self, usage: Vec<GpuUsage>) {
        let Some(offer) = self.state.offer().cloned() else { return };
        let holders = self.state.holders().cloned().unwrap_or_default();
        let shared_memory = self.served.borrow().shared_memory.as_deref().and_then(FileSystem::of);
        let mut processes = BTreeMap::new();
        for GpuUsage { gpu, used, processes: mut seen } in usage {
            if let Some(used) = used {
                self.facts.used.insert(gpu.clone(), used);
            }
            for seen in &mut seen {
                if let Some((resource, share)) = given(&offer, &holders, &gpu, seen) {
                    let given = Given { gpu: &gpu, resource, share, shared_memory };
                    seen.warnings = self.inspect(seen.process.pid, &given);
                }
            }
            processes.insert(gpu, seen);
        }
        let usage = attribute(&offer, &holders, &processes);
        self.warn(&usage);
        self.facts.tenants = usage.tenants;
        self.learn_free_memory();
    }

    /// For the policy that takes the GPU with the most free memory; the list of devices does not depend on it.
    fn learn_free_memory(&self) {
        let free = self.facts.gpus.iter().filter_map(|gpu| {
            let used = self.facts.used.get(&gpu.uuid)?;
            Some((gpu.uuid.clone(), Bytes(gpu.memory.0.saturating_sub(used.0))))
        });
        let free = free.collect();
        let mut served = Served::clone(&self.served.borrow());
        served.free = free;
        self.served.send_replace(Arc::new(served));
    }

    /// What an MPS client did to its limits.
    fn inspect(&self, pid: u32, given: &Given<'_>) -> Vec<String> {
        inspection::inspect(&self.options.paths.proc, pid, given).unwrap_or_else(|error| {
            tracing::debug!(pid, %error, "a client cannot be looked into");
            Vec::new()
        })
    }

    /// Tells each warning once.
    fn warn(&mut self, usage: &Usage) {
        let of_tenants = usage.tenants.iter().flat_map(|tenant| {
            let pod = Pod { namespace: tenant.namespace.clone(), name: tenant.pod.clone(), uid: None };
            tenant.warnings.iter().map(move |text| (pod.clone(), format!("{}: {text}", tenant.container)))
        });
        let of_strangers = usage.strangers.iter().map(|stranger| {
            let text =
                format!("{} uses GPU {} without holding a device of it", stranger.holder.container, stranger.gpu);
            (stranger.holder.pod.clone(), text)
        });
        let mut current = BTreeSet::new();
        for (pod, text) in of_tenants.chain(of_strangers) {
            let known = format!("{pod} {text}");
            if !self.warned.contains(&known) {
                let subject = Subject::Pod(pod);
                self.hands.say(Note { subject, warning: true, reason: "GpuShareWidened", text });
            }
            current.insert(known);
        }
        self.warned = current;
    }
}

/// What the container of an MPS client was given of a GPU; `None` where it was given nothing that is limited.
fn given<'a>(offer: &'a Offer, holders: &Holders, gpu: &GpuUuid, seen: &Seen) -> Option<(&'a ResourceName, Share)> {
    let holder = seen.holder.as_ref()?;
    let is_its = |known: &Holder| {
        (&known.pod.namespace, &known.pod.name) == (&holder.pod.namespace, &holder.pod.name)
            && (holder.container.is_empty() || known.container == holder.container)
    };
    let devices =
        offer.resources.iter().flat_map(|resource| resource.devices.iter().map(move |device| (resource, device)));
    let mut own = devices.filter_map(|(resource, device)| {
        let is_own =
            device.strategy == Strategy::Mps && device.uuid == *gpu && holders.get(&device.id).is_some_and(is_its);
        is_own.then_some((&resource.name, device.share?))
    });
    let (resource, first) = own.next()?;
    Some((resource, own.map(|(_, share)| share).fold(first, Share::sum)))
}
