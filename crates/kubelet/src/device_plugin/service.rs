//! The gRPC service of one resource: the wire on one side, our types on the other.

use std::pin::Pin;

use cotenant_model::sharing::ResourceName;
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::answer::{Answers, Choice, ids};
use super::device::DeviceList;
use super::register::OPTIONS;
use super::session::Streams;
use crate::wire::v1beta1 as wire;
use crate::wire::v1beta1::device_plugin_server::DevicePlugin;

/// Serves one resource.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) resource: ResourceName,
    pub(super) devices: watch::Receiver<DeviceList>,
    pub(super) answers: Answers,
    /// Which streams are open.
    pub(super) streams: watch::Sender<Streams>,
    /// Streams end when this changes.
    pub(super) epoch: watch::Receiver<u64>,
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    type ListAndWatchStream = Pin<Box<dyn Stream<Item = Result<wire::ListAndWatchResponse, Status>> + Send>>;

    async fn get_device_plugin_options(
        &self,
        _request: Request<wire::Empty>,
    ) -> Result<Response<wire::DevicePluginOptions>, Status> {
        Ok(Response::new(OPTIONS))
    }

    async fn list_and_watch(
        &self,
        _request: Request<wire::Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let mut devices = self.devices.clone();
        // The list as it is goes out first.
        devices.mark_changed();
        let mut epoch = self.epoch.clone();
        epoch.mark_unchanged();
        let feed = Feed { devices, epoch, _ticket: Ticket::open(&self.streams) };
        Ok(Response::new(Box::pin(stream::unfold(feed, Feed::next))))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<wire::PreferredAllocationRequest>,
    ) -> Result<Response<wire::PreferredAllocationResponse>, Status> {
        let choose = |request| wire::ContainerPreferredAllocationResponse {
            device_ids: (self.answers.prefer)(&Choice::from(request)).into_iter().map(|id| id.0).collect(),
        };
        let container_responses = request.into_inner().container_requests.into_iter().map(choose).collect();
        Ok(Response::new(wire::PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(
        &self,
        request: Request<wire::AllocateRequest>,
    ) -> Result<Response<wire::AllocateResponse>, Status> {
        let requests = request.into_inner().container_requests;
        let mut container_responses = Vec::with_capacity(requests.len());
        for request in requests {
            let devices = ids(request.device_ids);
            match (self.answers.allocate)(&devices) {
                Ok(allocation) => container_responses.push(allocation.into()),
                Err(refusal) => {
                    tracing::warn!(resource = %self.resource, %refusal, "a container gets no device");
                    return Err(Status::failed_precondition(format!(
                        "invalid allocation request for \"{}\": {refusal}",
                        self.resource
                    )));
                }
            }
        }
        Ok(Response::new(wire::AllocateResponse { container_responses }))
    }

    async fn pre_start_container(
        &self,
        _request: Request<wire::PreStartContainerRequest>,
    ) -> Result<Response<wire::PreStartContainerResponse>, Status> {
        Ok(Response::new(wire::PreStartContainerResponse {}))
    }
}

/// One `ListAndWatch` stream. A slow reader gets the newest list, not every one there was.
struct Feed {
    devices: watch::Receiver<DeviceList>,
    epoch: watch::Receiver<u64>,
    _ticket: Ticket,
}

impl Feed {
    async fn next(mut self) -> Option<(Result<wire::ListAndWatchResponse, Status>, Self)> {
        tokio::select! {
            biased;
            _ended = self.epoch.changed() => None,
            // When whoever knew the devices is gone, the last list stands until the plugin stops.
            Ok(()) = self.devices.changed() => {
                let list = self.devices.borrow_and_update().to_wire();
                Some((Ok(list), self))
            }
        }
    }
}

/// Counts a stream for as long as it lives, however it ends.
struct Ticket {
    number: u64,
    streams: watch::Sender<Streams>,
}

impl Ticket {
    fn open(streams: &watch::Sender<Streams>) -> Self {
        let mut number = 0;
        streams.send_modify(|streams| {
            number = streams.opened;
            streams.opened += 1;
            streams.open.insert(number);
        });
        Self { number, streams: streams.clone() }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.streams.send_modify(|streams| {
            streams.open.remove(&self.number);
        });
    }
}
