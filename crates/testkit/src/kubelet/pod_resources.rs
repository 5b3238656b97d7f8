//! The service that tells who holds what.

use std::collections::BTreeMap;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::pods::Pod;
use super::state::State;
use super::wire::v1 as wire;
use super::wire::v1::pod_resources_lister_server::PodResourcesLister;

pub(super) struct PodResources {
    pub(super) state: Arc<State>,
}

impl PodResources {
    fn pods(&self) -> Vec<wire::PodResources> {
        let held = self.state.read(|inner| inner.pods.clone());
        let mut pods: BTreeMap<(String, String), BTreeMap<String, Vec<wire::ContainerDevices>>> = BTreeMap::new();
        for Pod { container, resource, devices } in held {
            let containers = pods.entry((container.namespace, container.pod)).or_default();
            // A real kubelet names the devices of each NUMA node apart; here each stands alone.
            let each = devices.into_iter().map(|id| wire::ContainerDevices {
                resource_name: resource.clone(),
                device_ids: vec![id],
                topology: None,
            });
            containers.entry(container.name).or_default().extend(each);
        }
        let container = |(name, devices)| wire::ContainerResources { name, devices, ..Default::default() };
        pods.into_iter()
            .map(|((namespace, name), containers)| wire::PodResources {
                name,
                namespace,
                containers: containers.into_iter().map(container).collect(),
            })
            .collect()
    }
}

#[tonic::async_trait]
impl PodResourcesLister for PodResources {
    async fn list(
        &self,
        _request: Request<wire::ListPodResourcesRequest>,
    ) -> Result<Response<wire::ListPodResourcesResponse>, Status> {
        let behaviour = self.state.read(|inner| inner.behaviour.clone());
        tokio::time::sleep(behaviour.answer_after).await;
        if let Some(words) = behaviour.refuse {
            return Err(Status::unknown(words));
        }
        Ok(Response::new(wire::ListPodResourcesResponse { pods: self.pods() }))
    }

    async fn get_allocatable_resources(
        &self,
        _request: Request<wire::AllocatableResourcesRequest>,
    ) -> Result<Response<wire::AllocatableResourcesResponse>, Status> {
        let devices = self.state.read(|inner| inner.devices.clone());
        let devices = devices.into_iter().map(|(resource_name, devices)| wire::ContainerDevices {
            resource_name,
            device_ids: devices.into_iter().map(|device| device.id).collect(),
            topology: None,
        });
        Ok(Response::new(wire::AllocatableResourcesResponse { devices: devices.collect(), ..Default::default() }))
    }

    async fn get(
        &self,
        request: Request<wire::GetPodResourcesRequest>,
    ) -> Result<Response<wire::GetPodResourcesResponse>, Status> {
        let wire::GetPodResourcesRequest { pod_name, pod_namespace } = request.into_inner();
        let pod = self.pods().into_iter().find(|pod| pod.name == pod_name && pod.namespace == pod_namespace);
        match pod {
            Some(pod) => Ok(Response::new(wire::GetPodResourcesResponse { pod: Some(pod) })),
            None => Err(Status::unknown(format!("pod {pod_name} in namespace {pod_namespace} not found"))),
        }
    }
}
