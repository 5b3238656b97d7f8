//! The gRPC server of one resource: it outlives the sockets that its connections come from.

use std::convert::Infallible;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server as Transport;

use super::service::Service;
use super::session::Streams;
use crate::wire::v1beta1::device_plugin_server::DevicePluginServer;

/// Connections that may wait to be served; a kubelet has one.
const WAITING: usize = 8;
/// How long calls may take to end when the plugin stops.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Server {
    connections: mpsc::Sender<UnixStream>,
    epoch: watch::Sender<u64>,
    stop: CancellationToken,
    /// The one task that serves.
    task: JoinSet<()>,
}

/// What a server is made from, again should it end.
#[derive(Debug)]
pub(super) struct Blueprint {
    pub(super) plugin: super::DevicePlugin,
    pub(super) streams: watch::Sender<Streams>,
}

impl Blueprint {
    pub(super) fn serve(&self) -> Server {
        let (connections, waiting) = mpsc::channel(WAITING);
        let (epoch, epochs) = watch::channel(0);
        let service = Service {
            resource: self.plugin.resource.clone(),
            devices: self.plugin.devices.clone(),
            answers: self.plugin.answers.clone(),
            streams: self.streams.clone(),
            epoch: epochs,
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let incoming = ReceiverStream::new(waiting).map(Ok::<_, Infallible>);
            let server = Transport::builder().add_service(DevicePluginServer::new(service));
            if let Err(error) = server.serve_with_incoming_shutdown(incoming, stopped).await {
                tracing::error!(%error, "the gRPC server ended");
            }
        });
        Server { connections, epoch, stop, task }
    }
}

impl Server {
    pub(super) fn take(&self, connection: UnixStream) {
        if self.connections.try_send(connection).is_err() {
            tracing::warn!("too many connections wait for the device plugin; one was closed");
        }
    }

    /// Ends every `ListAndWatch` stream that is open now.
    pub(super) fn end_streams(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// Waits until the server has ended, which it does not do by itself.
    pub(super) async fn ended(&mut self) {
        while self.task.join_next().await.is_some() {}
    }

    /// Lets calls end, but not for ever.
    pub(super) async fn stop(mut self) {
        self.end_streams();
        self.stop.cancel();
        if timeout(GRACE, self.ended()).await.is_err() {
            tracing::warn!("a client of the device plugin did not hang up in time");
        }
    }
}
