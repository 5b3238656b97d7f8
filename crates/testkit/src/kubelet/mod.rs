//! A fake kubelet: it registers device plugins, watches them, hands their devices to pods, and tells who holds what.
//!
//! It stands on the real wire: `device-plugins/kubelet.sock` and `pod-resources/kubelet.sock` below a folder. What it does
//! is what the source of kubelet 1.34 does: it wipes the sockets of its folder when it comes up, dials a plugin back before
//! it answers a registration, reads at most 4 MiB of a list, marks every device of a plugin unhealthy when its stream ends,
//! and then hangs up on whoever is registered for that resource *now*, be it the same plugin or its successor. Pods keep
//! their devices over a restart, as by the kubelet's checkpoint.
//!
//! It has no scheduler, no admission beyond devices and no NUMA alignment.

mod authority;
mod plugins;
mod pod_resources;
mod pods;
mod registration;
mod state;
#[path = "../../../kubelet/src/wire/mod.rs"]
mod wire;

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

pub use self::authority::Reply;
pub use self::pods::{Container, Given, Refused};
use self::state::State;
pub use self::state::{Behaviour, Device, Registered};
use self::wire::v1::pod_resources_lister_server::PodResourcesListerServer;
use self::wire::v1beta1::registration_server::RegistrationServer;

/// How long [`Kubelet::until`] waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// A fake kubelet; it is killed when dropped.
#[derive(Debug)]
pub struct Kubelet {
    root: PathBuf,
    state: Arc<State>,
    running: Option<Running>,
}

/// A life of the kubelet, from start to stop.
#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    runtime: Handle,
}

impl Kubelet {
    /// A kubelet that keeps its folders below `root`, and does not run yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), state: Arc::default(), running: None }
    }

    /// A kubelet that runs.
    ///
    /// # Errors
    /// As [`Kubelet::start`].
    pub fn started(root: &Path) -> anyhow::Result<Self> {
        let mut kubelet = Self::new(root);
        kubelet.start()?;
        Ok(kubelet)
    }

    /// The folder of device plugins.
    #[must_use]
    pub fn device_plugins(&self) -> PathBuf {
        self.root.join("device-plugins")
    }

    /// The socket that tells who holds what.
    #[must_use]
    pub fn pod_resources(&self) -> PathBuf {
        self.root.join("pod-resources/kubelet.sock")
    }

    /// Comes up: makes its folders, wipes every socket of the plugins' folder, listens.
    ///
    /// # Errors
    /// When a folder, a socket or a thread cannot be made.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.kill();
        let sockets = [self.device_plugins().join("kubelet.sock"), self.pod_resources()];
        for socket in &sockets {
            let folder = socket.parent().context("a socket has a folder")?;
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            wipe(folder)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let listeners = {
            let _entered = runtime.enter();
            let [plugins, pods] = sockets.map(UnixListener::bind);
            (plugins?, pods?)
        };
        let (stop, stopped) = oneshot::channel();
        let (state, directory) = (Arc::clone(&self.state), self.device_plugins());
        let thread = std::thread::Builder::new().name("kubelet".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _served = serve(state, directory, listeners) => {}
                    _asked = stopped => {}
                }
            });
        })?;
        self.running = Some(Running { stop, thread, runtime: handle });
        Ok(())
    }

    /// Goes as one that is killed: connections break, its sockets stay behind.
    pub fn kill(&mut self) {
        let Some(Running { stop, thread, runtime: _ }) = self.running.take() else { return };
        // The receiver is gone only when the server has ended already.
        stop.send(()).unwrap_or_default();
        drop(thread.join());
        self.state.forget_plugins();
    }

    /// Goes as one that is asked to: its sockets go with it.
    ///
    /// # Errors
    /// When a socket cannot be removed.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.kill();
        for socket in [self.device_plugins().join("kubelet.sock"), self.pod_resources()] {
            fs::remove_file(&socket).with_context(|| format!("cannot remove {}", socket.display()))?;
        }
        Ok(())
    }

    /// Is killed and comes up again.
    ///
    /// # Errors
    /// As [`Kubelet::start`].
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.start()
    }

    /// Behaves so from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state.change(|inner| inner.behaviour = behaviour);
    }

    /// Every registration that was asked for, over all restarts.
    #[must_use]
    pub fn registrations(&self) -> Vec<Registered> {
        self.state.read(|inner| inner.registrations.clone())
    }

    /// The devices of a resource as last heard; `None` while no plugin of this life has told any.
    #[must_use]
    pub fn devices(&self, resource: &str) -> Option<Vec<Device>> {
        self.state.read(|inner| inner.devices.get(resource).cloned())
    }

    /// How many devices of a resource a pod could get now, taken ones included.
    #[must_use]
    pub fn healthy(&self, resource: &str) -> usize {
        self.devices(resource).map_or(0, |devices| devices.iter().filter(|device| device.healthy).count())
    }

    /// How many lists of a resource were received, over all restarts.
    #[must_use]
    pub fn lists(&self, resource: &str) -> u64 {
        self.state.read(|inner| inner.lists.get(resource).copied().unwrap_or_default())
    }

    /// Hangs up on a resource's plugin, as after an error of the connection.
    pub fn hang_up(&self, resource: &str) {
        let plugin = self.state.change(|inner| inner.plugins.remove(resource));
        if let Some(plugin) = plugin {
            plugin.watching.cancel();
        }
    }

    /// Dials a plugin of the folder as if it had asked to be registered.
    ///
    /// # Errors
    /// When the kubelet does not run or cannot reach the plugin.
    pub async fn connect(&self, resource: &str, endpoint: &str) -> anyhow::Result<()> {
        let running = self.running.as_ref().context("the kubelet does not run")?;
        let (state, socket) = (Arc::clone(&self.state), self.device_plugins().join(endpoint));
        let (resource, endpoint) = (resource.to_owned(), endpoint.to_owned());
        let dialled = async move { plugins::connect(&state, &resource, &socket, &endpoint).await };
        running.runtime.spawn(dialled).await?.map(drop).map_err(|status| anyhow::anyhow!(status.message().to_owned()))
    }

    /// Waits until `condition` holds.
    ///
    /// # Errors
    /// When it does not within 10 s.
    pub async fn until(&self, condition: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let mut changes = self.state.changes();
        let waiting = async {
            while !condition(self) {
                // The sender lives as long as this kubelet.
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .with_context(|| format!("not within {} s; the kubelet knows {:?}", PATIENCE.as_secs(), self.state))
    }

    /// Asks a resource's plugin for its options with `authority` for the name of the host, below any gRPC library.
    ///
    /// # Errors
    /// When the plugin is not known or its socket cannot be reached.
    pub async fn options_with_authority(&self, resource: &str, authority: &str) -> anyhow::Result<Reply> {
        let endpoint = self.state.read(|inner| inner.plugins.get(resource).map(|plugin| plugin.endpoint.clone()));
        let endpoint = endpoint.with_context(|| format!("no plugin is registered for {resource}"))?;
        authority::options(&self.device_plugins().join(endpoint), authority).await
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Removes the sockets of a folder, and nothing else.
fn wipe(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_socket() {
            fs::remove_file(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

async fn serve(
    state: Arc<State>,
    directory: PathBuf,
    (plugins, pods): (UnixListener, UnixListener),
) -> Result<(), tonic::transport::Error> {
    let registration = registration::Registration { state: Arc::clone(&state), directory };
    let registration = Server::builder()
        .add_service(RegistrationServer::new(registration))
        .serve_with_incoming(UnixListenerStream::new(plugins));
    let pod_resources = Server::builder()
        .add_service(PodResourcesListerServer::new(pod_resources::PodResources { state }))
        .serve_with_incoming(UnixListenerStream::new(pods));
    tokio::try_join!(registration, pod_resources).map(|((), ())| ())
}
