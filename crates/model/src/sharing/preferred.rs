//! Which of the free devices a container gets best: the answer to `GetPreferredAllocation`.
//!
//! Devices that one container can have together form a pool: under MPS the shares of one GPU, otherwise all that are shared in
//! the same way. The pool of the devices that must be included is taken, or else the one whose first device the policy likes
//! best among those that have enough.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::config::AllocationPolicy;
use super::offer::{Device, DeviceId, Resource, ResourceName, Strategy};
use crate::{Bytes, GpuUuid};

/// What the kubelet asks.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Free devices; those that the resource does not have are not looked at.
    pub available: &'a [DeviceId],
    /// Devices that the answer must hold.
    pub must_include: &'a [DeviceId],
    /// Devices that the answer must have.
    pub size: usize,
}

/// Why no set of devices does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreferredError {
    /// There are too few, in NVIDIA's words.
    #[error("not enough available devices to satisfy allocation")]
    TooFew,
    /// There are enough, but not of one GPU.
    #[error("no GPU has {size} free shares of {resource}, and MPS shares of one container must be of one GPU")]
    NoGpu {
        /// The resource.
        resource: ResourceName,
        /// How many are asked for.
        size: usize,
    },
    /// There are enough, but they are shared in different ways.
    #[error("no {size} free devices of {resource} are shared in one way")]
    Mixed {
        /// The resource.
        resource: ResourceName,
        /// How many are asked for.
        size: usize,
    },
    /// A device that must be included is not the resource's.
    #[error("unknown device: {0}")]
    Unknown(DeviceId),
    /// Devices that must be included cannot be in one container.
    #[error("the devices that must be included ({}) cannot be in one container", list(.0))]
    Apart(Vec<DeviceId>),
}

fn list(ids: &[DeviceId]) -> String {
    ids.iter().map(|id| id.0.as_str()).collect::<Vec<_>>().join(", ")
}

/// The devices that suit a request best, those that must be included first; the same arguments give the same answer.
///
/// `distributed` and `packed` are NVIDIA's: the next share comes from the GPU or MIG device with the fewest or the most taken
/// shares, then from the one that this call has taken least of. Where these are equal the MIG device's GPU is asked the same.
/// `free-memory` takes the most free memory for each taker of this call; `free` has it by GPU or MIG device, and what it
/// does not have counts as none. Whole GPUs are taken from as few NUMA nodes as possible, whatever the policy.
///
/// # Errors
/// When no set of free devices does.
pub fn preferred(
    resource: &Resource,
    request: Request<'_>,
    policy: AllocationPolicy,
    free: &BTreeMap<GpuUuid, Bytes>,
) -> Result<Vec<DeviceId>, PreferredError> {
    let required = resource.select(request.must_include).map_err(|id| PreferredError::Unknown(id.clone()))?;
    let needed = request.size.checked_sub(required.len()).ok_or(PreferredError::TooFew)?;
    let mut pools: BTreeMap<Pool<'_>, Vec<&Device>> = BTreeMap::new();
    let available: std::collections::BTreeSet<&DeviceId> = request.available.iter().collect();
    let is_free = |device: &&Device| available.contains(&device.id) && !request.must_include.contains(&device.id);
    let candidates: Vec<&Device> = resource.devices.iter().filter(is_free).collect();
    for device in &candidates {
        pools.entry(Pool::of(device)).or_default().push(device);
    }
    if let Some((first, rest)) = required.split_first() {
        let pool = Pool::of(first);
        if rest.iter().any(|device| Pool::of(device) != pool) {
            return Err(PreferredError::Apart(request.must_include.to_vec()));
        }
        pools.entry(pool).or_default();
        pools.retain(|known, _| *known == pool);
    }
    if needed == 0 {
        return Ok(required.into_iter().map(|device| device.id.clone()).collect());
    }
    let is_mps = pools.keys().any(|pool| matches!(pool, Pool::Server(_)));
    pools.retain(|_, devices| devices.len() >= needed);
    let counts = Counts::new(resource, &candidates, policy, free);
    let best = pools.into_values().min_by_key(|devices| devices.iter().map(|device| counts.rank(device)).min());
    let Some(devices) = best else { return Err(refusal(resource, request, candidates.len() >= needed, is_mps)) };
    let picked = match devices.first().map(|device| device.strategy) {
        Some(Strategy::Exclusive) => nearest(devices, &required, needed),
        Some(Strategy::TimeSlicing | Strategy::Mps | Strategy::Mig) | None => counts.pick(devices, needed),
    };
    Ok(required.into_iter().chain(picked).map(|device| device.id.clone()).collect())
}

fn refusal(resource: &Resource, request: Request<'_>, enough: bool, is_mps: bool) -> PreferredError {
    let (resource, size) = (resource.name.clone(), request.size);
    match (enough, is_mps) {
        (false, _) => PreferredError::TooFew,
        (true, true) => PreferredError::NoGpu { resource, size },
        (true, false) => PreferredError::Mixed { resource, size },
    }
}

/// Devices that one container can have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pool<'a> {
    Alike(Strategy),
    Server(&'a GpuUuid),
}

impl<'a> Pool<'a> {
    const fn of(device: &'a Device) -> Self {
        match device.strategy {
            Strategy::Mps => Self::Server(&device.gpu),
            Strategy::Exclusive | Strategy::TimeSlicing | Strategy::Mig => Self::Alike(device.strategy),
        }
    }
}

/// How well the policy likes a device, the least first.
type Rank = (i128, i128, u64, usize);

/// What is taken of each GPU and MIG device.
#[derive(Debug)]
struct Counts<'a> {
    policy: AllocationPolicy,
    free: &'a BTreeMap<GpuUuid, Bytes>,
    taken: BTreeMap<&'a GpuUuid, u64>,
    picked: BTreeMap<&'a GpuUuid, u64>,
    order: BTreeMap<&'a DeviceId, usize>,
}

impl<'a> Counts<'a> {
    /// Counts shares that are not among the candidates as taken, those that must be included among them, as NVIDIA does.
    fn new(
        resource: &'a Resource,
        candidates: &[&'a Device],
        policy: AllocationPolicy,
        free: &'a BTreeMap<GpuUuid, Bytes>,
    ) -> Self {
        let mut taken: BTreeMap<&GpuUuid, u64> = BTreeMap::new();
        for device in &resource.devices {
            *taken.entry(&device.uuid).or_default() += 1;
            if device.gpu != device.uuid {
                *taken.entry(&device.gpu).or_default() += 1;
            }
        }
        for device in candidates {
            for uuid in [Some(&device.uuid), Some(&device.gpu).filter(|gpu| **gpu != device.uuid)].into_iter().flatten()
            {
                taken.entry(uuid).and_modify(|count| *count = count.saturating_sub(1));
            }
        }
        let order = candidates.iter().enumerate().map(|(position, device)| (&device.id, position)).collect();
        Self { policy, free, taken, picked: BTreeMap::new(), order }
    }

    fn rank(&self, device: &Device) -> Rank {
        let taken = |uuid: &GpuUuid| i128::from(self.taken.get(uuid).copied().unwrap_or(0));
        let picked = self.picked.get(&device.uuid).copied().unwrap_or(0);
        let order = self.order.get(&device.id).copied().unwrap_or(usize::MAX);
        let free = || {
            let known = self.free.get(&device.uuid).or_else(|| self.free.get(&device.gpu));
            i128::from(known.map_or(0, |bytes| bytes.0) / (picked + 1))
        };
        match self.policy {
            AllocationPolicy::Distributed => (taken(&device.uuid), taken(&device.gpu), picked, order),
            AllocationPolicy::Packed => (-taken(&device.uuid), -taken(&device.gpu), picked, order),
            AllocationPolicy::FreeMemory => (-free(), taken(&device.uuid), picked, order),
        }
    }

    /// Picks one device after the other.
    fn pick(mut self, mut devices: Vec<&'a Device>, needed: usize) -> Vec<&'a Device> {
        let mut picked = Vec::new();
        while picked.len() < needed {
            let best = (0..devices.len()).min_by_key(|position| self.rank(devices[*position]));
            let Some(position) = best else { break };
            let device = devices.remove(position);
            *self.picked.entry(&device.uuid).or_default() += 1;
            *self.taken.entry(&device.uuid).or_default() += 1;
            if device.gpu != device.uuid {
                *self.taken.entry(&device.gpu).or_default() += 1;
            }
            picked.push(device);
        }
        picked
    }
}

/// Whole GPUs from as few NUMA nodes as possible: the nodes of those that must be included first, then the node that has
/// just enough, or failing that the most.
fn nearest<'a>(devices: Vec<&'a Device>, required: &[&Device], needed: usize) -> Vec<&'a Device> {
    let mut nodes: BTreeMap<Option<u32>, Vec<&Device>> = BTreeMap::new();
    for device in devices {
        nodes.entry(device.numa_node).or_default().push(device);
    }
    let mut picked: Vec<&Device> = Vec::new();
    while picked.len() < needed {
        let left = needed - picked.len();
        let cost = |(node, free): &(&Option<u32>, &Vec<&Device>)| {
            let near = required.iter().filter(|device| device.numa_node == **node).count();
            let enough = free.len() >= left;
            (Reverse(near), !enough, if enough { free.len() } else { usize::MAX - free.len() }, **node)
        };
        let Some(node) = nodes.iter().min_by_key(cost).map(|(node, _)| *node) else { break };
        picked.extend(nodes.remove(&node).unwrap_or_default().into_iter().take(left));
    }
    picked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::strategy::Strategy as Generator;

    use super::*;
    use crate::sharing::Offer;
    use crate::sharing::fixture::{h100, offer, uuid, with_mig};

    const TURNS: &str = "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}";
    const MPS: &str =
        "sharing: {mps: {failRequestsGreaterThanOne: false, resources: [{name: nvidia.com/gpu, replicas: 4}]}}";

    fn share(gpu: u32, number: u32) -> DeviceId {
        DeviceId::share(&uuid(gpu), number)
    }

    fn all_but(resource: &Resource, taken: &[DeviceId]) -> Vec<DeviceId> {
        resource.devices.iter().map(|device| device.id.clone()).filter(|id| !taken.contains(id)).collect()
    }

    struct Ask<'a> {
        offer: &'a Offer,
        policy: AllocationPolicy,
        free: BTreeMap<GpuUuid, Bytes>,
    }

    impl Ask<'_> {
        fn of(
            &self,
            taken: &[DeviceId],
            must_include: &[DeviceId],
            size: usize,
        ) -> Result<Vec<DeviceId>, PreferredError> {
            let resource = &self.offer.resources[0];
            let available = all_but(resource, taken);
            let request = Request { available: &available, must_include, size };
            preferred(resource, request, self.policy, &self.free)
        }
    }

    fn ask(offer: &Offer, policy: AllocationPolicy) -> Ask<'_> {
        Ask { offer, policy, free: BTreeMap::new() }
    }

    #[test]
    fn distributed_takes_from_the_gpu_with_the_fewest_taken() {
        let offer = offer(TURNS, &[h100(0), h100(1), h100(2)]);
        let ask = ask(&offer, AllocationPolicy::Distributed);
        let taken = [share(0, 0), share(1, 0), share(1, 1)];
        assert_eq!(ask.of(&taken, &[], 1), Ok(vec![share(2, 0)]));
        // 1, 2 and 0 taken: the third GPU, then it and the first are equal, and it was picked from already.
        assert_eq!(ask.of(&taken, &[], 3), Ok(vec![share(2, 0), share(0, 1), share(2, 1)]));
        assert_eq!(ask.of(&taken, &[share(0, 3)], 2), Ok(vec![share(0, 3), share(2, 0)]));
    }

    #[test]
    fn packed_takes_from_the_gpu_with_the_most_taken() {
        let offer = offer(TURNS, &[h100(0), h100(1), h100(2)]);
        let ask = ask(&offer, AllocationPolicy::Packed);
        let taken = [share(0, 0), share(1, 0), share(1, 1)];
        assert_eq!(ask.of(&taken, &[], 4), Ok(vec![share(1, 2), share(1, 3), share(0, 1), share(0, 2)]));
    }

    #[test]
    fn free_memory_takes_from_the_gpu_with_the_most() {
        let offer = offer(TURNS, &[h100(0), h100(1)]);
        let gibibytes = |count: u64| Bytes::mebibytes(count << 10);
        let free = BTreeMap::from([(uuid(0), gibibytes(20)), (uuid(1), gibibytes(50))]);
        let ask = Ask { offer: &offer, policy: AllocationPolicy::FreeMemory, free };
        assert_eq!(ask.of(&[], &[], 1), Ok(vec![share(1, 0)]));
        assert_eq!(ask.of(&[], &[], 3), Ok(vec![share(1, 0), share(1, 1), share(0, 0)]));
    }

    #[test]
    fn shares_of_mps_come_from_one_gpu() {
        let offer = offer(MPS, &[h100(0), h100(1)]);
        let ask = ask(&offer, AllocationPolicy::Distributed);
        assert_eq!(ask.of(&[], &[], 2), Ok(vec![share(0, 0), share(0, 1)]));
        assert_eq!(ask.of(&[share(0, 0)], &[], 2), Ok(vec![share(1, 0), share(1, 1)]));
        // The first GPU has fewer taken, the second has what must be included.
        assert_eq!(ask.of(&[share(1, 0)], &[share(1, 3)], 2), Ok(vec![share(1, 3), share(1, 1)]));
        let one_each = [share(0, 0), share(0, 1), share(1, 0), share(1, 1)];
        let refused = ask.of(&one_each, &[], 3).expect_err("two of each are left");
        assert_eq!(
            refused.to_string(),
            "no GPU has 3 free shares of nvidia.com/gpu, and MPS shares of one container must be of one GPU"
        );
        assert_eq!(ask.of(&one_each, &[], 5), Err(PreferredError::TooFew));
        let apart = ask.of(&[], &[share(0, 0), share(1, 0)], 2);
        assert!(matches!(apart, Err(PreferredError::Apart(_))), "{apart:?}");
    }

    #[test]
    fn whole_gpus_come_from_as_few_numa_nodes_as_possible() {
        let gpus: Vec<_> = (0..8).map(h100).collect();
        let offer = offer("", &gpus);
        let ask = ask(&offer, AllocationPolicy::Packed);
        let whole = |indexes: &[u32]| indexes.iter().map(|index| DeviceId(uuid(*index).0)).collect::<Vec<_>>();
        assert_eq!(ask.of(&whole(&[0]), &[], 4), Ok(whole(&[4, 5, 6, 7])));
        assert_eq!(ask.of(&whole(&[0, 4, 5]), &[], 2), Ok(whole(&[6, 7])));
        assert_eq!(ask.of(&whole(&[0, 4, 5]), &whole(&[2]), 3), Ok(whole(&[2, 1, 3])));
        assert_eq!(ask.of(&whole(&[0, 4, 5]), &[], 4), Ok(whole(&[1, 2, 3, 6])));
    }

    #[test]
    fn whole_gpus_and_shares_are_not_mixed() {
        let text = "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 2, devices: [0]}]}}";
        let offer = offer(text, &[h100(0), h100(1)]);
        let ask = ask(&offer, AllocationPolicy::Distributed);
        assert_eq!(ask.of(&[], &[], 2), Ok(vec![share(0, 0), share(0, 1)]));
        assert_eq!(
            ask.of(&[], &[], 3).expect_err("two and one").to_string(),
            "no 3 free devices of nvidia.com/gpu are shared in one way"
        );
        assert_eq!(ask.of(&[], &[share(7, 0)], 1), Err(PreferredError::Unknown(share(7, 0))));
    }

    #[test]
    fn mig_devices_are_spread_over_gpus_or_packed() {
        let gpus = [with_mig(h100(0), &["1g.10gb"; 3]), with_mig(h100(1), &["1g.10gb"; 3])];
        let offer = offer("flags: {migStrategy: mixed}", &gpus);
        let id = |gpu: usize, number: usize| DeviceId(gpus[gpu].mig_devices[number].uuid.0.clone());
        let spread = ask(&offer, AllocationPolicy::Distributed).of(&[id(0, 0)], &[], 3);
        assert_eq!(spread, Ok(vec![id(1, 0), id(0, 1), id(1, 1)]));
        let packed = ask(&offer, AllocationPolicy::Packed).of(&[id(1, 0)], &[], 3);
        assert_eq!(packed, Ok(vec![id(1, 1), id(1, 2), id(0, 0)]));
    }

    fn some_policy() -> impl Generator<Value = AllocationPolicy> {
        prop_oneof![
            Just(AllocationPolicy::Distributed),
            Just(AllocationPolicy::Packed),
            Just(AllocationPolicy::FreeMemory)
        ]
    }

    proptest! {
        #[test]
        fn an_answer_is_what_was_asked_for_or_says_why_not(
            text in prop_oneof![Just(TURNS), Just(MPS), Just(""), Just("sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 3, devices: 2}]}}")],
            policy in some_policy(),
            available in proptest::collection::btree_set(0..16_usize, 0..16),
            required in 0..3_usize,
            size in 0..8_usize,
            free in proptest::collection::vec(0..1_000_u64, 4),
        ) {
            let gpus: Vec<_> = (0..4).map(h100).collect();
            let offer = offer(text, &gpus);
            let resource = &offer.resources[0];
            let available: Vec<DeviceId> =
                available.into_iter().filter_map(|number| resource.devices.get(number)).map(|device| device.id.clone()).collect();
            let must_include: Vec<DeviceId> = available.iter().rev().take(required).cloned().collect();
            let free = free.into_iter().enumerate().map(|(gpu, bytes)| (gpus[gpu].uuid.clone(), Bytes(bytes))).collect();
            let request = Request { available: &available, must_include: &must_include, size };
            let answer = preferred(resource, request, policy, &free);
            prop_assert_eq!(&answer, &preferred(resource, request, policy, &free));
            let most = largest_pool(resource, &available, &must_include);
            let Ok(answer) = answer else {
                prop_assert!(most.is_none_or(|most| most < size || size < must_include.len()));
                return Ok(());
            };
            prop_assert_eq!(answer.len(), size);
            prop_assert!(answer.iter().all(|id| available.contains(id)));
            prop_assert!(must_include.iter().all(|id| answer.contains(id)));
            let unique: std::collections::BTreeSet<&DeviceId> = answer.iter().collect();
            prop_assert_eq!(unique.len(), size);
            let devices = resource.select(&answer).expect("known");
            let pools: std::collections::BTreeSet<_> = devices.iter().map(|device| Pool::of(device)).collect();
            prop_assert!(pools.len() <= 1);
        }
    }

    /// How many devices the largest set has that one container can have; `None` where what must be included is no such set.
    fn largest_pool(resource: &Resource, available: &[DeviceId], must_include: &[DeviceId]) -> Option<usize> {
        let mut sizes: BTreeMap<Pool<'_>, usize> = BTreeMap::new();
        for device in resource.select(available).expect("known") {
            *sizes.entry(Pool::of(device)).or_default() += 1;
        }
        let required: std::collections::BTreeSet<Pool<'_>> =
            resource.select(must_include).expect("known").into_iter().map(Pool::of).collect();
        match required.len() {
            0 => Some(sizes.into_values().max().unwrap_or(0)),
            1 => required.first().and_then(|pool| sizes.get(pool).copied()),
            _ => None,
        }
    }
}
