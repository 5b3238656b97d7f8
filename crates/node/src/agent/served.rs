//! What the kubelet is told: devices with their health, and the answers to its questions.
//!
//! One picture of it all lies behind a watch channel. The kubelet's questions are answered from the newest picture alone:
//! nothing is read, asked or waited for, so an answer takes microseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use cotenant_kubelet::device_plugin::{
    Allocation, Answers, Choice, Delivery, Device as ListedDevice, DeviceList, Given, Refusal,
};
use cotenant_model::sharing::allocation::Allocation as Summary;
use cotenant_model::sharing::config::{AllocationPolicy, DeviceIdStrategy};
use cotenant_model::sharing::preferred::{Request, preferred};
use cotenant_model::sharing::{DeviceId, Offer, Resource, ResourceName, Strategy};
use cotenant_model::{Bytes, GpuUuid};
use tokio::sync::{mpsc, watch};

/// What the kubelet is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// Resources and devices.
    pub offer: Arc<Offer>,
    /// GPUs whose devices are unhealthy.
    pub sick: BTreeSet<GpuUuid>,
    /// Devices that take no new pod.
    pub cordoned: BTreeSet<DeviceId>,
    /// How containers are told their devices.
    pub delivery: Delivery,
    /// What names devices in `NVIDIA_VISIBLE_DEVICES`.
    pub naming: DeviceIdStrategy,
    /// Device files by GPU or MIG device.
    pub files: BTreeMap<GpuUuid, Vec<String>>,
    /// The host's pipe folders of MPS daemons, by GPU, and by size class where each has its own.
    pub pipes: BTreeMap<(GpuUuid, Option<String>), PathBuf>,
    /// The host's folder that is mounted over `/dev/shm` of MPS clients; `None` mounts none.
    pub shared_memory: Option<PathBuf>,
    /// Which GPU the next share comes from.
    pub policy: AllocationPolicy,
    /// Free memory by GPU, for the policy that asks for it.
    pub free: BTreeMap<GpuUuid, Bytes>,
}

impl Served {
    /// The list of every resource; one that no kubelet would take is left empty, with the reason in the log.
    #[must_use]
    pub fn lists(&self) -> BTreeMap<ResourceName, DeviceList> {
        self.offer.resources.iter().map(|resource| (resource.name.clone(), self.list(resource))).collect()
    }

    fn list(&self, resource: &Resource) -> DeviceList {
        let devices = resource.devices.iter().map(|device| ListedDevice {
            id: device.id.clone(),
            healthy: ![&device.gpu, &device.uuid].iter().any(|uuid| self.sick.contains(*uuid))
                && !self.cordoned.contains(&device.id),
            numa_nodes: device.numa_node.into_iter().collect(),
        });
        DeviceList::new(devices.collect()).unwrap_or_else(|error| {
            tracing::error!(resource = %resource.name, %error, "a resource cannot be offered");
            DeviceList::default()
        })
    }

    /// What a container needs for these devices.
    ///
    /// # Errors
    /// When it cannot have them, as the pod's status will say.
    pub fn allocate(&self, ids: &[DeviceId]) -> Result<Allocation, Refusal> {
        let first = ids.first().ok_or_else(|| Refusal("no device was asked for".to_owned()))?;
        let (resource, _device) = self
            .offer
            .device(first)
            .ok_or_else(|| Refusal(format!("unknown device: {first}; the configuration may just have changed")))?;
        let summary = Summary::of(&self.offer, &resource.name, ids).map_err(|error| Refusal(error.to_string()))?;
        let mut allocation = self.delivery.allocation(&self.given(&summary));
        if summary.strategy == Strategy::Mps {
            self.add_mps(&mut allocation, &resource.name, &summary)?;
        }
        Ok(allocation)
    }

    fn given(&self, summary: &Summary) -> Vec<Given> {
        let name = |position: usize, uuid: &GpuUuid| match self.naming {
            DeviceIdStrategy::Uuid => uuid.0.clone(),
            DeviceIdStrategy::Index => summary.indexes.get(position).cloned().unwrap_or_else(|| uuid.0.clone()),
        };
        let files = |uuid: &GpuUuid| self.files.get(uuid).cloned().unwrap_or_default();
        let device = |(position, uuid): (usize, &GpuUuid)| Given { name: name(position, uuid), files: files(uuid) };
        summary.uuids.iter().enumerate().map(device).collect()
    }

    fn add_mps(&self, allocation: &mut Allocation, resource: &ResourceName, summary: &Summary) -> Result<(), Refusal> {
        let (Some(gpu), Some(share)) = (summary.gpus.first(), summary.share) else {
            return Err(Refusal(format!("{resource} has no share of a GPU to give")));
        };
        let own = self.pipes.get(&(gpu.clone(), summary.class.clone()));
        let pipe = own.or_else(|| self.pipes.get(&(gpu.clone(), None)));
        let pipe = pipe.ok_or_else(|| Refusal(format!("the GPU {gpu} has no MPS control daemon")))?;
        allocation.add_mps(resource, pipe, self.shared_memory.as_deref(), share);
        Ok(())
    }

    /// The devices that suit a choice best; none leaves it to the kubelet.
    #[must_use]
    pub fn prefer(&self, choice: &Choice) -> Vec<DeviceId> {
        let one = choice.must_include.first().or_else(|| choice.available.first());
        let Some((resource, _device)) = one.and_then(|id| self.offer.device(id)) else { return Vec::new() };
        let request = Request { available: &choice.available, must_include: &choice.must_include, size: choice.size };
        preferred(resource, request, self.policy, &self.free).unwrap_or_else(|error| {
            tracing::debug!(resource = %resource.name, %error, "no preference");
            Vec::new()
        })
    }
}

/// Answers from the newest picture; devices that are handed out are told to `handed_out`.
#[must_use]
pub fn answers(served: &watch::Receiver<Arc<Served>>, handed_out: mpsc::UnboundedSender<Vec<DeviceId>>) -> Answers {
    let (allocating, preferring) = (served.clone(), served.clone());
    Answers {
        allocate: Arc::new(move |ids| {
            let newest = Arc::clone(&allocating.borrow());
            let allocation = newest.allocate(ids)?;
            // Nobody listens at the end of the agent, when a pod's devices no longer matter to it.
            drop(handed_out.send(ids.to_vec()));
            Ok(allocation)
        }),
        prefer: Arc::new(move |choice| {
            let newest = Arc::clone(&preferring.borrow());
            newest.prefer(choice)
        }),
    }
}

#[cfg(test)]
mod tests {
    use cotenant_model::Percent;
    use cotenant_model::sharing::config::DeviceListStrategy;
    use cotenant_model::sharing::{Device, Share};

    use super::*;

    fn gpu(number: u32) -> GpuUuid {
        GpuUuid(format!("GPU-{number}"))
    }

    fn device(number: u32, replica: u32, memory: u64, percent: u8) -> Device {
        Device {
            id: DeviceId::share(&gpu(number), replica),
            uuid: gpu(number),
            gpu: gpu(number),
            index: number.to_string(),
            strategy: Strategy::Mps,
            share: Some(Share {
                memory: Bytes::mebibytes(memory),
                percent: Percent::try_from(percent).expect("percent"),
            }),
            class: None,
            numa_node: None,
        }
    }

    fn served(one_per_container: bool) -> Served {
        let resource = Resource {
            name: ResourceName("nvidia.com/gpu.shared".to_owned()),
            one_per_container,
            devices: vec![device(0, 0, 1000, 60), device(0, 1, 1000, 60), device(1, 0, 1000, 60)],
        };
        Served {
            offer: Arc::new(Offer { resources: vec![resource], ..Offer::default() }),
            delivery: Delivery { strategies: vec![DeviceListStrategy::Envvar], ..Delivery::default() },
            pipes: BTreeMap::from([0, 1].map(|number| ((gpu(number), None), format!("/mps/GPU-{number}/pipe").into()))),
            ..Served::default()
        }
    }

    fn ids(pairs: &[(u32, u32)]) -> Vec<DeviceId> {
        pairs.iter().map(|(number, replica)| DeviceId::share(&gpu(*number), *replica)).collect()
    }

    #[test]
    fn a_share_becomes_its_gpus_pipe_and_limits_and_names_no_other_gpu() {
        let allocation = served(true).allocate(&ids(&[(1, 0)])).expect("allocated");
        let variable = |name: &str| allocation.environment.get(name).map(String::as_str);
        assert_eq!(variable("NVIDIA_VISIBLE_DEVICES"), Some("GPU-1"));
        assert_eq!(variable("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"), Some("0=1000M"));
        assert_eq!(variable("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"), Some("60"));
        assert_eq!(allocation.mounts.first().map(|mount| mount.host.as_str()), Some("/mps/GPU-1/pipe"));
    }

    #[test]
    fn two_shares_are_refused_where_one_is_allowed_and_add_up_where_not() {
        let refused = served(true).allocate(&ids(&[(0, 0), (0, 1)])).expect_err("two");
        assert!(refused.0.contains("maximum request size for shared resources is 1; found 2"), "{refused}");
        let allocation = served(false).allocate(&ids(&[(0, 0), (0, 1)])).expect("allocated");
        let variable = |name: &str| allocation.environment.get(name).map(String::as_str);
        assert_eq!(variable("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"), Some("0=2000M"));
        assert_eq!(variable("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"), Some("100"));
    }

    #[test]
    fn shares_of_two_gpus_and_unknown_devices_are_refused_with_the_reason() {
        assert!(served(false).allocate(&ids(&[(0, 0), (1, 0)])).is_err());
        let unknown = served(false).allocate(&ids(&[(7, 0)])).expect_err("unknown");
        assert!(unknown.0.starts_with("unknown device: GPU-7::0"), "{unknown}");
        assert!(served(false).allocate(&[]).is_err());
    }

    #[test]
    fn every_device_of_a_sick_gpu_is_unhealthy_and_so_is_a_cordoned_one() {
        let mut served = served(true);
        served.sick.insert(gpu(0));
        served.cordoned.insert(DeviceId::share(&gpu(1), 0));
        let lists = served.lists();
        let healthy = lists.values().flat_map(DeviceList::devices).filter(|device| device.healthy).count();
        assert_eq!(healthy, 0);
    }

    #[test]
    fn two_mps_shares_are_preferred_of_one_gpu() {
        let choice = Choice { available: ids(&[(0, 0), (1, 0), (0, 1)]), must_include: Vec::new(), size: 2 };
        let chosen = served(false).prefer(&choice);
        assert_eq!(chosen.len(), 2);
        assert!(chosen.iter().all(|id| id.uuid() == gpu(0)), "{chosen:?}");
    }

    #[test]
    fn what_is_handed_out_is_told() {
        let (told, mut handed_out) = mpsc::unbounded_channel();
        let (_sender, receiver) = watch::channel(Arc::new(served(true)));
        let answers = answers(&receiver, told);
        assert!((answers.allocate)(&ids(&[(0, 0)])).is_ok());
        assert!((answers.allocate)(&ids(&[(9, 0)])).is_err());
        assert_eq!(handed_out.try_recv().expect("told"), ids(&[(0, 0)]));
        assert!(handed_out.try_recv().is_err());
    }
}
