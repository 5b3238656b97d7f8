//! One resource towards the kubelet: keeps its socket in place, itself registered, and says how that stands.

use std::ffi::OsString;
use std::future::pending;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use cotenant_model::cause::chain;
use cotenant_model::sharing::ResourceName;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::answer::Answers;
use super::device::DeviceList;
use super::folder::Folder;
use super::register::{RegisterError, register};
use super::server::{Blueprint, Server};
use super::session::{Seen, Session, Streams};
use super::socket::{Identity, Socket, file_name, peer_name};

/// The kubelet's socket, in the folder of all plugins.
const KUBELET: &str = "kubelet.sock";
/// Rest after a connection that could not be taken, since the next one will fail the same way (no free descriptor).
const REST: Duration = Duration::from_millis(100);

/// How a resource stands with the kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// Pods cannot get it.
    Waiting {
        /// Why, for people.
        why: String,
    },
    /// The kubelet has registered it and watches its devices.
    Registered {
        /// How often that has come about since the start, 1 and more.
        times: u64,
    },
}

/// One resource that the kubelet is offered.
#[derive(Debug)]
pub struct DevicePlugin {
    /// The kubelet's folder, `/var/lib/kubelet/device-plugins`.
    pub directory: PathBuf,
    /// The resource.
    pub resource: ResourceName,
    /// Its devices; every change reaches the kubelet.
    pub devices: watch::Receiver<DeviceList>,
    /// Who answers for it.
    pub answers: Answers,
    /// Where it is told how things stand.
    pub registration: watch::Sender<Registration>,
}

impl DevicePlugin {
    /// Offers the resource until `stop`, whatever the kubelet does, then removes its socket and ends.
    pub async fn run(self, stop: CancellationToken) {
        let mut running = Running::new(self);
        while running.turn(&stop).await {}
        running.finish().await;
    }
}

/// A registration under way.
type Attempt = Pin<Box<dyn Future<Output = Result<(), RegisterError>> + Send>>;

enum Event {
    Stop,
    /// Something may have changed.
    Look,
    Connection(std::io::Result<UnixStream>),
    Answered(Result<(), RegisterError>),
    ServerEnded,
}

struct Running {
    blueprint: Blueprint,
    folder: Folder,
    name: String,
    peer: String,
    server: Server,
    socket: Option<Socket>,
    /// Why there is no socket.
    trouble: Option<String>,
    streams: watch::Receiver<Streams>,
    session: Session,
    attempt: Option<Attempt>,
}

impl Running {
    fn new(plugin: DevicePlugin) -> Self {
        let name = file_name(&plugin.resource);
        let peer = peer_name(&plugin.resource);
        let names = [KUBELET, &name, &peer].map(OsString::from);
        let folder = Folder::new(&plugin.directory, names);
        let (streams, opened) = watch::channel(Streams::default());
        let blueprint = Blueprint { plugin, streams };
        let server = blueprint.serve();
        Self {
            blueprint,
            folder,
            name,
            peer,
            server,
            socket: None,
            trouble: None,
            streams: opened,
            session: Session::new(Instant::now()),
            attempt: None,
        }
    }

    /// Looks, acts, and waits for what comes next. Answers whether to go on.
    async fn turn(&mut self, stop: &CancellationToken) -> bool {
        self.folder.arm();
        self.keep_socket().await;
        self.keep_registered();
        self.tell();
        match self.next(stop).await {
            Event::Stop => return false,
            Event::Look => {}
            Event::Connection(Ok(connection)) => self.server.take(connection),
            Event::Connection(Err(error)) => {
                tracing::warn!(socket = %self.name, %error, "cannot take a connection");
                sleep(REST).await;
            }
            Event::Answered(answer) => self.answered(answer),
            Event::ServerEnded => {
                self.socket = None;
                self.server = self.blueprint.serve();
            }
        }
        true
    }

    async fn keep_socket(&mut self) {
        if self.socket.as_ref().is_some_and(Socket::is_in_place) {
            return;
        }
        self.socket = None;
        match Socket::bind(&self.blueprint.plugin.directory.join(&self.name)).await {
            Ok(socket) => {
                self.trouble = None;
                self.socket = Some(socket);
            }
            Err(error) => self.trouble = Some(chain(&error, ": ")),
        }
    }

    fn keep_registered(&mut self) {
        let kubelet = self.blueprint.plugin.directory.join(KUBELET);
        // Without a socket of one's own there is nothing to register.
        let seen = self.socket.as_ref().and_then(|_socket| Identity::at(&kubelet));
        let peer = self.blueprint.plugin.directory.join(&self.peer).exists();
        let streams = &self.streams.borrow_and_update().clone();
        if self.session.step(Seen { now: Instant::now(), kubelet: seen, peer, streams }) {
            // What an earlier kubelet watches would confuse the next.
            self.server.end_streams();
            let (resource, name) = (self.blueprint.plugin.resource.clone(), self.name.clone());
            self.attempt = Some(Box::pin(async move { register(&kubelet, resource, name).await }));
        }
    }

    fn answered(&mut self, answer: Result<(), RegisterError>) {
        self.attempt = None;
        let trouble = answer.err().map(|error| chain(&error, ": "));
        self.session.answered(Instant::now(), trouble.as_deref());
    }

    /// Publishes how things stand, when that has changed.
    fn tell(&self) {
        let plugin = &self.blueprint.plugin;
        let now = match (self.session.watched(), &self.trouble) {
            (Some(times), None) => Registration::Registered { times },
            (_, Some(trouble)) => Registration::Waiting { why: trouble.clone() },
            (None, None) => Registration::Waiting { why: self.why_waiting() },
        };
        plugin.registration.send_if_modified(|told| {
            let is_new = *told != now;
            if is_new {
                tracing::info!(resource = %plugin.resource, registration = ?now, "registration");
                *told = now;
            }
            is_new
        });
    }

    fn why_waiting(&self) -> String {
        let socket = self.blueprint.plugin.directory.join(KUBELET);
        if !socket.exists() {
            return format!("{} is not there: no kubelet runs", socket.display());
        }
        self.session.trouble().map_or_else(|| "the kubelet is being asked".to_owned(), str::to_owned)
    }

    async fn next(&mut self, stop: &CancellationToken) -> Event {
        let deadline = self.session.deadline();
        tokio::select! {
            () = stop.cancelled() => Event::Stop,
            connection = accept(self.socket.as_ref()) => Event::Connection(connection),
            answer = answer(&mut self.attempt) => Event::Answered(answer),
            () = self.folder.changed() => Event::Look,
            Ok(()) = self.streams.changed() => Event::Look,
            () = alarm(deadline) => Event::Look,
            () = self.server.ended() => Event::ServerEnded,
        }
    }

    async fn finish(self) {
        drop(self.socket);
        self.server.stop().await;
        let why = "the plugin was stopped".to_owned();
        self.blueprint.plugin.registration.send_replace(Registration::Waiting { why });
    }
}

async fn accept(socket: Option<&Socket>) -> std::io::Result<UnixStream> {
    match socket {
        Some(socket) => socket.listener.accept().await.map(|(connection, _address)| connection),
        None => pending().await,
    }
}

async fn answer(attempt: &mut Option<Attempt>) -> Result<(), RegisterError> {
    match attempt {
        Some(attempt) => attempt.await,
        None => pending().await,
    }
}

async fn alarm(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
