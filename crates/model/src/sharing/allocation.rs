//! What a container is given: the devices of one request, added up.

use std::fmt;

use super::offer::{Device, DeviceId, Offer, Resource, ResourceName, Share, Strategy};
use crate::GpuUuid;

/// What a container is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// How its devices are shared.
    pub strategy: Strategy,
    /// GPUs, in NVML's order; one under MPS.
    pub gpus: Vec<GpuUuid>,
    /// GPUs or MIG devices, each once, in NVML's order: what `NVIDIA_VISIBLE_DEVICES` names.
    pub uuids: Vec<GpuUuid>,
    /// Their indexes (`0`, `0:1`), in the same order: what it names under `deviceIDStrategy: index`.
    pub indexes: Vec<String>,
    /// Its shares together; `None` where nothing limits it.
    pub share: Option<Share>,
    /// The size class of its shares.
    pub class: Option<String>,
}

/// Why a container cannot be given what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid allocation request for \"{resource}\": invalid request: {problem}")]
pub struct AllocationError {
    /// The resource.
    pub resource: ResourceName,
    /// What is wrong with the request.
    pub problem: AllocationProblem,
}

/// What is wrong with a request; where NVIDIA's plugin knows the problem, in its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllocationProblem {
    /// No device is named.
    Empty,
    /// The resource has no such device.
    Unknown(DeviceId),
    /// More than one share where one is allowed: so many.
    TooMany(usize),
    /// MPS shares of several GPUs.
    SeveralGpus(Vec<GpuUuid>),
    /// Devices that are shared in different ways.
    Mixed(Vec<Strategy>),
}

impl fmt::Display for AllocationProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no device is named"),
            Self::Unknown(id) => write!(f, "unknown device: {id}"),
            Self::TooMany(count) => write!(f, "maximum request size for shared resources is 1; found {count}"),
            Self::SeveralGpus(gpus) => {
                let gpus: Vec<&str> = gpus.iter().map(|gpu| gpu.0.as_str()).collect();
                write!(f, "MPS shares of one container must be of one GPU; found {}", gpus.join(", "))
            }
            Self::Mixed(strategies) => {
                let words: Vec<&str> = strategies.iter().map(|strategy| strategy.word()).collect();
                write!(f, "devices of one container must be shared in one way; found {}", words.join(", "))
            }
        }
    }
}

impl Allocation {
    /// Adds up the devices that a container is to get; their order does not matter, and one that is named twice counts once.
    ///
    /// # Errors
    /// When the offer does not have them, or a container cannot have them together.
    pub fn of(offer: &Offer, resource: &ResourceName, ids: &[DeviceId]) -> Result<Self, AllocationError> {
        let refused = |problem| AllocationError { resource: resource.clone(), problem };
        let first = ids.first().ok_or_else(|| refused(AllocationProblem::Empty))?;
        let unknown = |id: &DeviceId| refused(AllocationProblem::Unknown(id.clone()));
        let known = offer.resource(resource).ok_or_else(|| unknown(first))?;
        let devices = known.select(ids).map_err(unknown)?;
        if known.one_per_container && devices.len() > 1 && devices.iter().any(|device| device.id.is_share()) {
            return Err(refused(AllocationProblem::TooMany(devices.len())));
        }
        Self::together(&devices).map_err(refused)
    }

    fn together(devices: &[&Device]) -> Result<Self, AllocationProblem> {
        let distinct = |device: fn(&Device) -> &GpuUuid| {
            let mut uuids: Vec<GpuUuid> = Vec::new();
            for uuid in devices.iter().map(|one| device(one)).cloned() {
                if !uuids.contains(&uuid) {
                    uuids.push(uuid);
                }
            }
            uuids
        };
        let mut strategies: Vec<Strategy> = devices.iter().map(|device| device.strategy).collect();
        strategies.sort_unstable();
        strategies.dedup();
        let &[strategy] = strategies.as_slice() else { return Err(AllocationProblem::Mixed(strategies)) };
        let gpus = distinct(|device| &device.gpu);
        if strategy == Strategy::Mps && gpus.len() > 1 {
            return Err(AllocationProblem::SeveralGpus(gpus));
        }
        let mut indexes: Vec<String> = devices.iter().map(|device| device.index.clone()).collect();
        indexes.dedup();
        Ok(Self {
            strategy,
            gpus,
            uuids: distinct(|device| &device.uuid),
            indexes,
            share: devices.iter().filter_map(|device| device.share).reduce(Share::sum),
            class: devices.first().and_then(|device| device.class.clone()),
        })
    }
}

impl Resource {
    /// Its devices with these ids, in its own order, each once.
    ///
    /// # Errors
    /// The first id that it does not have.
    pub fn select<'a>(&self, ids: &'a [DeviceId]) -> Result<Vec<&Device>, &'a DeviceId> {
        let mut positions = Vec::new();
        for id in ids {
            positions.push(self.devices.iter().position(|device| device.id == *id).ok_or(id)?);
        }
        positions.sort_unstable();
        positions.dedup();
        Ok(positions.into_iter().map(|position| &self.devices[position]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sharing::fixture::{h100, offer, t4, uuid, with_mig};
    use crate::{Bytes, Percent};

    fn ids(texts: &[String]) -> Vec<DeviceId> {
        texts.iter().cloned().map(DeviceId).collect()
    }

    fn allocate(offer: &Offer, resource: &str, texts: &[String]) -> Result<Allocation, String> {
        Allocation::of(offer, &ResourceName(resource.to_owned()), &ids(texts)).map_err(|error| error.to_string())
    }

    fn share(mebibytes: u64, percent: u8) -> Share {
        Share { memory: Bytes::mebibytes(mebibytes), percent: Percent::try_from(percent).expect("percent") }
    }

    #[test]
    fn whole_gpus_are_named_once_each_and_in_order() {
        let offer = offer("", &[h100(0), t4(1)]);
        let allocation = allocate(&offer, "nvidia.com/gpu", &[uuid(1).0, uuid(0).0, uuid(1).0]).expect("both");
        assert_eq!(allocation.uuids, [uuid(0), uuid(1)]);
        assert_eq!(allocation.indexes, ["0", "1"]);
        assert_eq!((allocation.strategy, allocation.share), (Strategy::Exclusive, None));
    }

    #[test]
    fn shares_of_one_gpu_add_up() {
        let text = "cotenant: {mps: {oversubscription: 2}, gpus: [{devices: all, strategy: mps, replicas: 4, failRequestsGreaterThanOne: false}]}";
        let offer = offer(text, &[h100(0), h100(1)]);
        let name = "nvidia.com/gpu.shared";
        let id = |gpu, number: u32| format!("{}::{number}", uuid(gpu));
        let three = allocate(&offer, name, &[id(0, 3), id(0, 0), id(0, 1)]).expect("of one GPU");
        assert_eq!((three.gpus, three.uuids, three.indexes), (vec![uuid(0)], vec![uuid(0)], vec!["0".to_owned()]));
        assert_eq!(three.share, Some(share(3 * 20_205, 100)));
        assert_eq!(
            allocate(&offer, name, &[id(0, 0), id(1, 0)]),
            Err(format!(
                "invalid allocation request for \"{name}\": invalid request: MPS shares of one container must be of one GPU; found {}, {}",
                uuid(0),
                uuid(1)
            ))
        );
    }

    #[test]
    fn a_second_share_is_refused_in_nvidias_words() {
        let text = "sharing: {timeSlicing: {failRequestsGreaterThanOne: true, resources: [{name: nvidia.com/gpu, replicas: 4, devices: 1}]}}";
        let offer = offer(text, &[h100(0), h100(1), h100(2)]);
        let id = |number: u32| format!("{}::{number}", uuid(0));
        let refused = "invalid allocation request for \"nvidia.com/gpu\": invalid request: ";
        assert_eq!(
            allocate(&offer, "nvidia.com/gpu", &[id(0), id(1)]),
            Err(format!("{refused}maximum request size for shared resources is 1; found 2"))
        );
        assert!(allocate(&offer, "nvidia.com/gpu", &[id(0)]).is_ok());
        assert!(allocate(&offer, "nvidia.com/gpu", &[uuid(1).0, uuid(2).0]).is_ok());
        assert_eq!(allocate(&offer, "nvidia.com/gpu", &[id(4)]), Err(format!("{refused}unknown device: {}", id(4))));
        assert_eq!(allocate(&offer, "nvidia.com/gpu", &[]), Err(format!("{refused}no device is named")));
        assert!(allocate(&offer, "nvidia.com/none", &[id(0)]).expect_err("unknown").contains("unknown device"));
    }

    #[test]
    fn devices_that_are_shared_in_different_ways_do_not_go_together() {
        let text = "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4, devices: 1}]}}";
        let offer = offer(text, &[h100(0), h100(1)]);
        let refused = allocate(&offer, "nvidia.com/gpu", &[format!("{}::0", uuid(0)), uuid(1).0]).expect_err("mixed");
        assert!(refused.ends_with("devices of one container must be shared in one way; found exclusive, time-slicing"));
    }

    #[test]
    fn a_share_of_a_class_says_its_class() {
        let text = "cotenant: {classes: {small: {memory: 8GiB, percent: 10}}, gpus: [{devices: all, strategy: mps, classes: {small: 4}}]}";
        let offer = offer(text, &[h100(0)]);
        let one = allocate(&offer, "nvidia.com/gpu.small", &[format!("{}::small-2", uuid(0))]).expect("one");
        assert_eq!((one.class.as_deref(), one.share), (Some("small"), Some(share(8192, 10))));
    }

    #[test]
    fn mig_devices_of_several_gpus_go_together() {
        let gpus = [with_mig(h100(0), &["1g.10gb", "1g.10gb"]), with_mig(h100(1), &["1g.10gb"])];
        let offer = offer("flags: {migStrategy: mixed}", &gpus);
        let all: Vec<String> = offer.resources[0].devices.iter().map(|device| device.id.0.clone()).collect();
        let allocation = allocate(&offer, "nvidia.com/mig-1g.10gb", &all).expect("all");
        assert_eq!(allocation.indexes, ["0:0", "0:1", "1:0"]);
        assert_eq!(allocation.gpus, [uuid(0), uuid(1)]);
    }
}
