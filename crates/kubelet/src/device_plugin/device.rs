//! Devices as the kubelet is told of them.

use std::collections::HashSet;
use std::sync::Arc;

use cotenant_model::sharing::DeviceId;
use prost::Message as _;

use crate::wire::v1beta1 as wire;

/// Characters of a device's id; longer ones break the kubelet's contract.
const LONGEST_ID: usize = 63;
/// Bytes of a message that a kubelet accepts: the default of gRPC for Go, which it does not raise.
const LARGEST_LIST: usize = 4 << 20;

/// A device of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Whether a container may be given it.
    pub healthy: bool,
    /// NUMA nodes that it is near to; empty where that does not matter.
    pub numa_nodes: Vec<u32>,
}

/// The devices of a resource, in a form that a kubelet takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceList(Arc<[Device]>);

/// Why a kubelet would not take a list of devices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceListError {
    /// An id is empty or too long.
    #[error("the device id `{id}` has {length} characters, where 1 to {LONGEST_ID} are allowed")]
    Id {
        /// The id.
        id: DeviceId,
        /// Its length.
        length: usize,
    },
    /// Two devices have the same id.
    #[error("the device id `{id}` stands twice in one resource")]
    Repeated {
        /// The id.
        id: DeviceId,
    },
    /// The list is longer than a message may be.
    #[error(
        "a list of {devices} devices takes {bytes} bytes, and a kubelet accepts {LARGEST_LIST}: offer fewer replicas"
    )]
    Large {
        /// Number of devices.
        devices: usize,
        /// Size of the message.
        bytes: usize,
    },
}

impl DeviceList {
    /// Checks a list of devices.
    ///
    /// # Errors
    /// When a kubelet would not take it.
    pub fn new(devices: Vec<Device>) -> Result<Self, DeviceListError> {
        let mut seen = HashSet::with_capacity(devices.len());
        for Device { id, .. } in &devices {
            let length = id.0.len();
            if !(1..=LONGEST_ID).contains(&length) {
                return Err(DeviceListError::Id { id: id.clone(), length });
            }
            if !seen.insert(id) {
                return Err(DeviceListError::Repeated { id: id.clone() });
            }
        }
        let list = Self(devices.into());
        let bytes = list.to_wire().encoded_len();
        if bytes > LARGEST_LIST {
            return Err(DeviceListError::Large { devices: list.0.len(), bytes });
        }
        Ok(list)
    }

    /// The devices, in order.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        &self.0
    }

    pub(super) fn to_wire(&self) -> wire::ListAndWatchResponse {
        wire::ListAndWatchResponse { devices: self.0.iter().map(Device::to_wire).collect() }
    }
}

impl Device {
    fn to_wire(&self) -> wire::Device {
        let nodes: Vec<_> = self.numa_nodes.iter().map(|&node| wire::NumaNode { id: node.into() }).collect();
        wire::Device {
            id: self.id.0.clone(),
            health: if self.healthy { "Healthy" } else { "Unhealthy" }.to_owned(),
            topology: (!nodes.is_empty()).then_some(wire::TopologyInfo { nodes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str) -> Device {
        Device { id: DeviceId(id.to_owned()), healthy: true, numa_nodes: Vec::new() }
    }

    #[test]
    fn the_longest_id_is_taken_and_one_more_character_is_not() {
        assert!(DeviceList::new(vec![device(&"a".repeat(63))]).is_ok());
        let error = DeviceList::new(vec![device(&"a".repeat(64))]).expect_err("too long");
        assert!(error.to_string().contains("has 64 characters"), "{error}");
        assert!(DeviceList::new(vec![device("")]).is_err());
    }

    #[test]
    fn an_id_stands_once() {
        let error = DeviceList::new(vec![device("a"), device("b"), device("a")]).expect_err("twice");
        assert_eq!(error, DeviceListError::Repeated { id: DeviceId("a".to_owned()) });
    }

    #[test]
    fn a_list_that_no_kubelet_would_read_is_refused_before_it_is_sent() {
        let list = |count: usize| (0..count).map(|n| device(&format!("GPU-{:036}::{n}", 0))).collect::<Vec<_>>();
        assert!(DeviceList::new(list(60_000)).is_ok());
        assert!(matches!(DeviceList::new(list(100_000)), Err(DeviceListError::Large { devices: 100_000, .. })));
    }

    #[test]
    fn health_and_numa_nodes_are_told() {
        let sick = Device { healthy: false, numa_nodes: vec![1], ..device("a") };
        let list = DeviceList::new(vec![device("b"), sick]).expect("list").to_wire();
        assert_eq!(list.devices[0].health, "Healthy");
        assert_eq!(list.devices[0].topology, None);
        assert_eq!(list.devices[1].health, "Unhealthy");
        assert_eq!(list.devices[1].topology.as_ref().expect("topology").nodes[0].id, 1);
    }
}
