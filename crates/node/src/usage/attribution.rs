//! Whose the processes on the GPUs are: the devices that containers hold, the driver's process lists and the processes'
//! cgroups put together.

use std::collections::{BTreeMap, BTreeSet};

use cotenant_model::gpu::GpuProcess;
use cotenant_model::sharing::{Device, DeviceId, Offer, Resource, ResourceName, Share, Strategy};
use cotenant_model::{Bytes, GpuUuid};

use crate::agent::state::event::Holder;
use crate::serve::TenantView;

/// A process on a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// As the driver names it.
    pub process: GpuProcess,
    /// Its container, where it is in one.
    pub holder: Option<Holder>,
    /// What is wrong with it, a sentence each.
    pub warnings: Vec<String>,
}

/// A process in a container that holds no device of the GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// The GPU.
    pub gpu: GpuUuid,
    /// Its process id.
    pub pid: u32,
    /// Its container.
    pub holder: Holder,
}

/// Who uses what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Containers that hold devices, in order of GPU, namespace, pod, container and resource.
    pub tenants: Vec<TenantView>,
    /// Processes in containers that hold no device of the GPU they use: an image that asks for every GPU, say.
    pub strangers: Vec<Stranger>,
}

/// What makes a tenant: a container's devices of one resource on one GPU.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    index: u32,
    namespace: &'a str,
    pod: &'a str,
    container: &'a str,
    resource: &'a ResourceName,
    gpu: &'a GpuUuid,
}

/// Puts it together. `processes` are by GPU or MIG device.
#[must_use]
pub fn attribute(
    offer: &Offer,
    holders: &BTreeMap<DeviceId, Holder>,
    processes: &BTreeMap<GpuUuid, Vec<Seen>>,
) -> Usage {
    let indexes: BTreeMap<&GpuUuid, u32> = offer.gpus.iter().map(|gpu| (&gpu.gpu, gpu.index)).collect();
    let mut held: BTreeMap<Key<'_>, Vec<&Device>> = BTreeMap::new();
    for (resource, device, holder) in devices(offer, holders) {
        let key = Key {
            index: indexes.get(&device.gpu).copied().unwrap_or(u32::MAX),
            namespace: &holder.pod.namespace,
            pod: &holder.pod.name,
            container: &holder.container,
            resource: &resource.name,
            gpu: &device.gpu,
        };
        held.entry(key).or_default().push(device);
    }
    let doubles = doubles(&held);
    let tenants = held.iter().map(|(key, devices)| tenant(key, devices, processes, doubles.contains(&owner(key))));
    Usage { tenants: tenants.collect(), strangers: strangers(&held, processes) }
}

fn devices<'a>(
    offer: &'a Offer,
    holders: &'a BTreeMap<DeviceId, Holder>,
) -> impl Iterator<Item = (&'a Resource, &'a Device, &'a Holder)> {
    let all = offer.resources.iter().flat_map(|resource| resource.devices.iter().map(move |device| (resource, device)));
    all.filter_map(|(resource, device)| holders.get(&device.id).map(|holder| (resource, device, holder)))
}

type Owner<'a> = (&'a str, &'a str, &'a str);

const fn owner<'a>(key: &Key<'a>) -> Owner<'a> {
    (key.namespace, key.pod, key.container)
}

/// Containers with MPS shares of several resources or GPUs: one environment can name one daemon and one limit only.
fn doubles<'a>(held: &BTreeMap<Key<'a>, Vec<&Device>>) -> BTreeSet<Owner<'a>> {
    let mut counts: BTreeMap<Owner<'a>, usize> = BTreeMap::new();
    for (key, devices) in held {
        if devices.iter().any(|device| device.strategy == Strategy::Mps) {
            *counts.entry(owner(key)).or_default() += 1;
        }
    }
    counts.into_iter().filter(|(_, count)| *count > 1).map(|(owner, _)| owner).collect()
}

fn tenant(key: &Key<'_>, devices: &[&Device], processes: &BTreeMap<GpuUuid, Vec<Seen>>, is_double: bool) -> TenantView {
    let own: Vec<&Seen> = of_devices(devices, processes).filter(|seen| is_of(seen, key)).collect();
    let strategy = devices.first().map_or(Strategy::Exclusive, |device| device.strategy);
    let share = devices.iter().filter_map(|device| device.share).reduce(Share::sum);
    let memory = total_memory(&own);
    let mut warnings: Vec<String> = own.iter().flat_map(|seen| seen.warnings.iter().cloned()).collect();
    warnings.extend(share.zip(memory).filter(|(share, memory)| *memory > share.memory).map(|(share, memory)| {
        format!(
            "its {} processes use {memory}, its share is {}: the limit holds for each process",
            own.len(),
            share.memory
        )
    }));
    warnings.extend(is_double.then(|| {
        "it has MPS shares of several resources or GPUs, and its environment can name one of them only".to_owned()
    }));
    warnings.sort();
    warnings.dedup();
    TenantView {
        gpu: key.gpu.clone(),
        index: key.index,
        strategy,
        namespace: key.namespace.to_owned(),
        pod: key.pod.to_owned(),
        container: key.container.to_owned(),
        resource: key.resource.clone(),
        class: devices.first().and_then(|device| device.class.clone()),
        devices: devices.iter().map(|device| device.id.clone()).collect(),
        share,
        memory,
        sm_utilization: utilization(&own),
        processes: u32::try_from(own.len()).unwrap_or(u32::MAX),
        warnings,
    }
}

/// Processes on the GPUs or MIG devices of a tenant, each once.
fn of_devices<'a>(devices: &[&Device], processes: &'a BTreeMap<GpuUuid, Vec<Seen>>) -> impl Iterator<Item = &'a Seen> {
    let uuids: BTreeSet<&GpuUuid> = devices.iter().map(|device| &device.uuid).collect();
    uuids.into_iter().filter_map(|uuid| processes.get(uuid)).flatten()
}

/// Whether a process is in the container. A container that the API server has not told of yet has no name; its pod is enough.
fn is_of(seen: &Seen, key: &Key<'_>) -> bool {
    seen.holder.as_ref().is_some_and(|holder| {
        holder.pod.namespace == key.namespace
            && holder.pod.name == key.pod
            && (holder.container == key.container || holder.container.is_empty())
    })
}

/// The memory of all; `None` where the driver does not say it of each.
fn total_memory(own: &[&Seen]) -> Option<Bytes> {
    own.iter().try_fold(Bytes(0), |sum, seen| Some(Bytes(sum.0.saturating_add(seen.process.memory?.0))))
}

/// The largest, since the driver's figure is of time in which any kernel ran; `None` where it has none.
fn utilization(own: &[&Seen]) -> Option<u32> {
    own.iter().filter_map(|seen| seen.process.sm_utilization).max()
}

fn strangers(held: &BTreeMap<Key<'_>, Vec<&Device>>, processes: &BTreeMap<GpuUuid, Vec<Seen>>) -> Vec<Stranger> {
    let mut found = Vec::new();
    for (gpu, all) in processes {
        for seen in all {
            let Some(holder) = &seen.holder else { continue };
            let holds = |(key, devices): (&Key<'_>, &Vec<&Device>)| {
                key.namespace == holder.pod.namespace
                    && key.pod == holder.pod.name
                    && devices.iter().any(|device| device.uuid == *gpu || device.gpu == *gpu)
            };
            if !held.iter().any(holds) {
                found.push(Stranger { gpu: gpu.clone(), pid: seen.process.pid, holder: holder.clone() });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use cotenant_model::Percent;
    use cotenant_model::gpu::ProcessList;
    use cotenant_model::sharing::GpuOffer;

    use super::*;
    use crate::agent::state::event::{Pod, Workload};

    fn gpu(number: u32) -> GpuUuid {
        GpuUuid(format!("GPU-{number}"))
    }

    /// Two GPUs with two MPS shares of 4 GiB each.
    fn offer() -> Offer {
        let share = Some(Share { memory: Bytes(4 << 30), percent: Percent::try_from(50).unwrap() });
        let device = |number: u32, replica: u32| Device {
            id: DeviceId::share(&gpu(number), replica),
            uuid: gpu(number),
            gpu: gpu(number),
            index: number.to_string(),
            strategy: Strategy::Mps,
            share,
            class: None,
            numa_node: None,
        };
        let devices = [0, 1].into_iter().flat_map(|number| [device(number, 0), device(number, 1)]).collect();
        let name = ResourceName("nvidia.com/gpu".to_owned());
        let gpus = [0, 1].map(|number| GpuOffer {
            gpu: gpu(number),
            index: number,
            name: "Simulated".to_owned(),
            strategy: Strategy::Mps,
            devices: Vec::new(),
            reserve: Bytes(0),
            daemon: None,
            reasons: Vec::new(),
        });
        Offer {
            resources: vec![Resource { name, one_per_container: true, devices }],
            gpus: gpus.into(),
            notes: Vec::new(),
        }
    }

    fn holder(pod: &str, container: &str) -> Holder {
        let workload = Workload(format!("Pod/default/{pod}"));
        let pod = Pod { namespace: "default".to_owned(), name: pod.to_owned(), uid: None };
        Holder { pod, container: container.to_owned(), workload }
    }

    fn seen(pid: u32, gibibytes: Option<u64>, holder: Option<Holder>) -> Seen {
        let memory = gibibytes.map(|gibibytes| Bytes(gibibytes << 30));
        let process = GpuProcess { pid, memory, list: ProcessList::MpsClient, sm_utilization: None };
        Seen { process, holder, warnings: Vec::new() }
    }

    #[test]
    fn memory_is_that_of_the_containers_own_processes_on_its_own_gpu() {
        let holders = BTreeMap::from([
            (DeviceId::share(&gpu(0), 0), holder("a", "main")),
            (DeviceId::share(&gpu(0), 1), holder("b", "main")),
        ]);
        let processes = BTreeMap::from([
            (
                gpu(0),
                vec![
                    seen(1, Some(1), Some(holder("a", "main"))),
                    seen(2, Some(2), Some(holder("a", ""))),
                    seen(3, Some(3), Some(holder("b", "main"))),
                    seen(4, Some(9), None),
                ],
            ),
            (gpu(1), vec![seen(5, Some(7), Some(holder("a", "main")))]),
        ]);
        let usage = attribute(&offer(), &holders, &processes);
        let figures: Vec<_> = usage.tenants.iter().map(|one| (one.pod.as_str(), one.memory, one.processes)).collect();
        assert_eq!(figures, [("a", Some(Bytes(3 << 30)), 2), ("b", Some(Bytes(3 << 30)), 1)]);
        let strangers: Vec<_> = usage.strangers.iter().map(|one| (one.gpu.clone(), one.pid)).collect();
        assert_eq!(strangers, [(gpu(1), 5)]);
    }

    #[test]
    fn what_the_driver_does_not_say_is_not_made_up_and_an_idle_container_uses_nothing() {
        let holders = BTreeMap::from([
            (DeviceId::share(&gpu(0), 0), holder("a", "main")),
            (DeviceId::share(&gpu(0), 1), holder("b", "main")),
        ]);
        let processes = BTreeMap::from([(gpu(0), vec![seen(1, None, Some(holder("a", "main")))])]);
        let usage = attribute(&offer(), &holders, &processes);
        assert_eq!(usage.tenants.iter().map(|one| one.memory).collect::<Vec<_>>(), [None, Some(Bytes(0))]);
    }

    #[test]
    fn a_container_over_its_share_is_told_so_with_both_figures() {
        let holders = BTreeMap::from([(DeviceId::share(&gpu(0), 0), holder("a", "main"))]);
        let both = vec![seen(1, Some(3), Some(holder("a", "main"))), seen(2, Some(3), Some(holder("a", "main")))];
        let usage = attribute(&offer(), &holders, &BTreeMap::from([(gpu(0), both)]));
        let warnings = &usage.tenants[0].warnings;
        assert!(warnings.len() == 1 && warnings[0].contains("6 GiB") && warnings[0].contains("4 GiB"), "{warnings:?}");
    }

    #[test]
    fn mps_shares_of_two_gpus_in_one_container_are_reported_on_both_and_of_two_containers_are_not() {
        let two = |second: &str| {
            let holders = BTreeMap::from([
                (DeviceId::share(&gpu(0), 0), holder("a", "main")),
                (DeviceId::share(&gpu(1), 0), holder("a", second)),
            ]);
            let usage = attribute(&offer(), &holders, &BTreeMap::new());
            usage.tenants.iter().map(|one| one.warnings.len()).collect::<Vec<_>>()
        };
        assert_eq!((two("main"), two("side")), (vec![1, 1], vec![0, 0]));
    }
}
