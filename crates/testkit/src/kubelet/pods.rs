//! Containers and their devices.

use std::collections::{BTreeMap, BTreeSet};

use tonic::Status;

use super::Kubelet;
use super::plugins::Plugin;
use super::wire::v1beta1 as wire;

/// A container that wants devices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    /// Namespace of its pod.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its name in the pod.
    pub name: String,
}

impl Container {
    /// The container `main` of a pod in the namespace `default`.
    #[must_use]
    pub fn of(pod: &str) -> Self {
        Self { namespace: "default".to_owned(), pod: pod.to_owned(), name: "main".to_owned() }
    }
}

/// What a container holds.
#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub(super) container: Container,
    pub(super) resource: String,
    pub(super) devices: Vec<String>,
}

/// What a plugin answered for a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Ids of the devices.
    pub devices: Vec<String>,
    /// Variables.
    pub environment: BTreeMap<String, String>,
    /// Mounts: path in the container, path on the host, whether read-only.
    pub mounts: Vec<(String, String, bool)>,
    /// Device files: path in the container, path on the host, permissions.
    pub device_files: Vec<(String, String, String)>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// CDI devices.
    pub cdi_devices: Vec<String>,
}

/// Why a container gets no devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// No plugin is registered for the resource, or the kubelet does not run.
    NoPlugin,
    /// Fewer devices are healthy and free than were asked for.
    Insufficient {
        /// How many there are.
        free: usize,
    },
    /// The plugin said so.
    Plugin(String),
}

impl Kubelet {
    /// Gives a container so many devices of a resource, which the plugin may choose, and keeps that in mind.
    ///
    /// # Errors
    /// When it gets none.
    pub async fn admit(&self, container: &Container, resource: &str, count: usize) -> Result<Given, Refused> {
        let free = self.free(resource);
        if free.len() < count {
            return Err(Refused::Insufficient { free: free.len() });
        }
        let preferred = self.preferred(resource, free.clone(), count).await?;
        let chosen = preferred.into_iter().filter(|id| free.contains(id));
        let mut devices: Vec<String> = chosen.collect::<BTreeSet<_>>().into_iter().take(count).collect();
        let rest = free.into_iter().filter(|id| !devices.contains(id)).take(count - devices.len());
        let rest: Vec<String> = rest.collect();
        devices.extend(rest);
        let given = self.allocate(resource, devices.clone()).await?;
        let pod = Pod { container: container.clone(), resource: resource.to_owned(), devices };
        self.state.change(|inner| inner.pods.push(pod));
        Ok(given)
    }

    /// Frees what the containers of a pod hold.
    pub fn end(&self, namespace: &str, pod: &str) {
        self.state.change(|inner| {
            inner.pods.retain(|held| held.container.namespace != namespace || held.container.pod != pod);
        });
    }

    /// Calls a plugin's `Allocate` for one container and nothing else.
    ///
    /// # Errors
    /// When there is no plugin, or it refuses.
    pub async fn allocate(&self, resource: &str, devices: Vec<String>) -> Result<Given, Refused> {
        let request = wire::AllocateRequest {
            container_requests: vec![wire::ContainerAllocateRequest { device_ids: devices.clone() }],
        };
        let answer = self.call(resource, async move |plugin: Plugin| {
            let mut client = plugin.client;
            Ok(client.allocate(request).await?.into_inner())
        });
        let mut responses = answer.await?.container_responses;
        match (responses.pop(), responses.is_empty()) {
            (Some(response), true) => Ok(Given::new(devices, response)),
            _ => Err(Refused::Plugin("not one answer for one container".to_owned())),
        }
    }

    /// Calls a plugin's `GetPreferredAllocation`, when it has one.
    ///
    /// # Errors
    /// When there is no plugin, or it fails.
    pub async fn preferred(
        &self,
        resource: &str,
        available: Vec<String>,
        count: usize,
    ) -> Result<Vec<String>, Refused> {
        let size = i32::try_from(count).unwrap_or(i32::MAX);
        let container = wire::ContainerPreferredAllocationRequest { available, must_include: Vec::new(), size };
        let request = wire::PreferredAllocationRequest { container_requests: vec![container] };
        let answer = self.call(resource, async move |plugin: Plugin| {
            if !plugin.can_choose {
                return Ok(wire::PreferredAllocationResponse::default());
            }
            let mut client = plugin.client;
            Ok(client.get_preferred_allocation(request).await?.into_inner())
        });
        let responses = answer.await?.container_responses;
        Ok(responses.into_iter().flat_map(|response| response.device_ids).collect())
    }

    /// Calls a plugin's `PreStartContainer`.
    ///
    /// # Errors
    /// When there is no plugin, or it fails.
    pub async fn pre_start(&self, resource: &str, devices: Vec<String>) -> Result<(), Refused> {
        let request = wire::PreStartContainerRequest { device_ids: devices };
        let answer = self.call(resource, async move |plugin: Plugin| {
            let mut client = plugin.client;
            client.pre_start_container(request).await.map(|_empty| ())
        });
        answer.await
    }

    /// Ids of devices that are healthy and that nobody holds.
    fn free(&self, resource: &str) -> Vec<String> {
        self.state.read(|inner| {
            let is_held =
                |id: &String| inner.pods.iter().any(|pod| pod.resource == resource && pod.devices.contains(id));
            let devices = inner.devices.get(resource).into_iter().flatten();
            let healthy = devices.filter(|device| device.healthy).map(|device| device.id.clone());
            healthy.filter(|id| !is_held(id)).collect()
        })
    }

    /// Calls a plugin from the kubelet's own thread, where its connections live.
    async fn call<T, F>(&self, resource: &str, call: impl FnOnce(Plugin) -> F) -> Result<T, Refused>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let plugin = self.state.read(|inner| inner.plugins.get(resource).cloned()).ok_or(Refused::NoPlugin)?;
        let running = self.running.as_ref().ok_or(Refused::NoPlugin)?;
        match running.runtime.spawn(call(plugin)).await {
            Ok(answer) => answer.map_err(|status| Refused::Plugin(status.message().to_owned())),
            Err(_ended) => Err(Refused::NoPlugin),
        }
    }
}

impl Given {
    fn new(devices: Vec<String>, response: wire::ContainerAllocateResponse) -> Self {
        let mount = |mount: wire::Mount| (mount.container_path, mount.host_path, mount.read_only);
        let file = |file: wire::DeviceSpec| (file.container_path, file.host_path, file.permissions);
        Self {
            devices,
            environment: response.environment.into_iter().collect(),
            mounts: response.mounts.into_iter().map(mount).collect(),
            device_files: response.devices.into_iter().map(file).collect(),
            annotations: response.annotations.into_iter().collect(),
            cdi_devices: response.cdi_devices.into_iter().map(|device| device.name).collect(),
        }
    }
}
