//! A server tenant: a real model server and its load generator.
//!
//! The server runs already, or is started here and stopped when the tenant ends. Requests are sent from one thread; a
//! latency counts from when its request was due, and a token is done when the piece of the answer that holds it has
//! arrived here.

mod child;
mod client;
mod dispatch;
mod exchange;
mod variables;

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use cotenant_llm::Facts;
use cotenant_model::kernel::WorkUnit;
use cotenant_model::run::{Process, Window};
use cotenant_model::workload::{Load, Server};
use cotenant_model::{Clock as _, Nanoseconds};
use tokio::runtime::Runtime;

use self::child::{ServerProcess, StartError};
use self::client::Client;
use self::variables::{VariableError, fill};
use super::process;
use super::stop::Stop;
use crate::clock::MonotonicClock;
use crate::protocol::{Ready, TenantPlan, WindowPlan};

/// Time between two looks at a server's process while it gets ready.
const LOOK: Duration = Duration::from_millis(50);
/// Longest wait for an answer to whether somebody listens at the endpoint already.
const KNOCK: Duration = Duration::from_millis(500);

/// Why a server tenant cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A variable of its command, environment or endpoint cannot be filled in.
    #[error("tenant {tenant} cannot be started")]
    Variable {
        /// The tenant.
        tenant: String,
        /// Which, and why.
        #[source]
        source: VariableError,
    },
    /// Somebody else answers where the server is to listen.
    #[error(
        "something listens at {endpoint} already, so the server's own command cannot; stop it, or leave out `command`"
    )]
    Taken {
        /// The endpoint.
        endpoint: String,
    },
    /// The server's process could not be started.
    #[error("tenant {tenant} cannot be started")]
    Start {
        /// The tenant.
        tenant: String,
        /// Why.
        #[source]
        source: StartError,
    },
    /// The load generator could not be set up.
    #[error("cannot set up the load generator")]
    Runtime(#[source] io::Error),
    /// No client of the server could be made.
    #[error("the server cannot be asked: {reason}")]
    Client {
        /// The endpoint, why, and the fix where it is known.
        reason: String,
    },
    /// The server was not ready in time, or never will be.
    #[error("the server did not become ready: {reason}{}", quoted(lines.as_deref()))]
    NotReady {
        /// The endpoint, what it answered last, and the fix where it is known.
        reason: String,
        /// Its last log lines, where it was started here.
        lines: Option<String>,
    },
    /// The server's process ended by itself.
    #[error("{how}")]
    Ended {
        /// How, with its last log lines.
        how: String,
    },
}

fn quoted(lines: Option<&str>) -> String {
    lines.map(|lines| format!("; its last lines: {lines}")).unwrap_or_default()
}

/// A client's error with its causes and its hint, on one line.
fn reason(error: &cotenant_llm::Error) -> String {
    let hint = error.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{}{hint}", error.one_line())
}

/// A model server that answers, its model loaded.
#[derive(Debug)]
pub(super) struct ServerTenant {
    tenant: String,
    load: Option<Load>,
    runtime: Runtime,
    client: Client,
    process: Option<ServerProcess>,
    startup: Nanoseconds,
    notes: Vec<String>,
}

impl ServerTenant {
    /// Starts the server where it has a command, and waits until it is ready or the order to stop comes.
    ///
    /// # Errors
    /// When the server cannot be started, dies, or is not ready in time; with its last log lines.
    pub(super) fn start(
        plan: &TenantPlan,
        server: &Server,
        launcher: &[String],
        stop: &Stop,
    ) -> Result<Self, ServerError> {
        let tenant = plan.tenant.name.clone();
        let server = fill(server, &|name| std::env::var(name).ok())
            .map_err(|source| ServerError::Variable { tenant: tenant.clone(), source })?;
        let process = start_process(plan, &server, launcher)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServerError::Runtime)?;
        let client = Client::new(&server).map_err(|error| ServerError::Client { reason: reason(&error) })?;
        let facts = runtime.block_on(wait_until_ready(&client, process.as_ref(), stop))?;
        let startup = Nanoseconds(MonotonicClock.monotonic().0.saturating_sub(plan.spawned.0));
        let notes = facts.iter().filter_map(|facts| note(&tenant, facts)).collect();
        Ok(Self { tenant, load: plan.tenant.load.clone(), runtime, client, process, startup, notes })
    }

    pub(super) fn ready(&self) -> Ready {
        let notes = self.notes.clone();
        Ready { process: self.process(), unit: WorkUnit::Token, relative_error: None, notes }
    }

    /// The server's process with everything it started, where it was started here; otherwise this one.
    pub(super) fn process(&self) -> Process {
        let (pid, memory) = match &self.process {
            Some(server) => (server.pid(), process::family_memory(server.pid())),
            None => (std::process::id(), process::memory(std::process::id()).unwrap_or_default()),
        };
        Process {
            pid,
            startup: self.startup,
            resident: memory.resident,
            own: Some(memory.own),
            device_memory: None,
            multiprocessors: None,
        }
    }

    /// Loads the server and records the window.
    ///
    /// # Errors
    /// When the server's process ended by the window's close. Requests that fail are counted, not errors.
    pub(super) fn measure(&self, plan: &WindowPlan, stop: &Stop) -> Result<Window, ServerError> {
        let load = self.load.as_ref();
        let window = self.runtime.block_on(dispatch::serve(&self.client, &self.tenant, load, plan, stop));
        match self.process.as_ref().and_then(ServerProcess::ended) {
            Some(how) => Err(ServerError::Ended { how }),
            None => Ok(window),
        }
    }
}

/// What a reader must know of a server: a model that does not run where it is measured.
fn note(tenant: &str, facts: &Facts) -> Option<String> {
    let residency = facts.residency.filter(cotenant_llm::Residency::is_partly_on_cpu)?;
    let (on_gpu, size) = (residency.on_gpu, residency.size);
    Some(format!(
        "{tenant}: the server says that {on_gpu} of its model's {size} are on the GPU; the rest runs on the CPU"
    ))
}

fn start_process(
    plan: &TenantPlan,
    server: &Server,
    launcher: &[String],
) -> Result<Option<ServerProcess>, ServerError> {
    if server.command.is_none() {
        return Ok(None);
    }
    if is_taken(&server.endpoint) {
        return Err(ServerError::Taken { endpoint: server.endpoint.clone() });
    }
    ServerProcess::start(server, launcher, plan.server_log.as_deref())
        .map(Some)
        .map_err(|source| ServerError::Start { tenant: plan.tenant.name.clone(), source })
}

/// Whether somebody accepts connections at the endpoint. The server about to be started would die of that, and the
/// stranger would be measured in its place.
fn is_taken(endpoint: &str) -> bool {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("http", endpoint));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let port = if scheme == "https" { 443 } else { 80 };
    let addresses = authority.to_socket_addrs().or_else(|_no_port| (authority, port).to_socket_addrs());
    addresses.into_iter().flatten().any(|address| TcpStream::connect_timeout(&address, KNOCK).is_ok())
}

/// Waits for the first of: the server is ready, its process ends, the order to stop (`None`).
async fn wait_until_ready(
    client: &Client,
    process: Option<&ServerProcess>,
    stop: &Stop,
) -> Result<Option<Facts>, ServerError> {
    let ended = async {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(how) = process.and_then(ServerProcess::ended) {
                return how;
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.told() => Ok(None),
        how = ended => Err(ServerError::Ended { how }),
        answer = client.ready() => match process.and_then(ServerProcess::ended) {
            Some(how) => Err(ServerError::Ended { how }),
            None => answer.map(Some).map_err(|error| ServerError::NotReady {
                reason: reason(&error),
                lines: process.and_then(ServerProcess::last_lines),
            }),
        },
    }
}
