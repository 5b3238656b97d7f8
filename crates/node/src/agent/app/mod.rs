//! The agent as a whole: every outside world with its task, and one loop that owns the state.
//!
//! ```text
//!  configuration, labels, GPUs ──▶ Wish ─┐                           ┌─▶ device plugins, CDI files
//!  GPU watch, logs, keeper, kubelet ─────┼─▶ turn: State::step ──────┼─▶ keeper, dialogue, signals (tasks that report back)
//!  deadlines ────────────────────────────┘   one after the other     └─▶ labels, Events, evictions, state file, picture
//! ```

mod build;
mod cards;
mod chosen;
mod daemons;
mod hands;
mod hardware;
mod memory;
mod people;
mod picture;
mod propose;
mod removal;
mod tenants;
mod turn;
mod watchers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cotenant_cluster::{ClientError, Reachability};
use cotenant_gpu::{Health, OpenError, WatchError, XidWatch};
use cotenant_kubelet::device_plugin::DeviceList;
use cotenant_model::GpuUuid;
use cotenant_model::sharing::ResourceName;
use cotenant_model::sharing::label::Labels;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::options::Options;
use super::plugins::Plugins;
use super::served::Served;
use super::state::State;
use crate::clock;
use crate::keeper::protocol::Kept;
use crate::serve::{ServeError, View};
use hands::Hands;
pub use memory::MemoryError;
use picture::Facts;
use watchers::{Tell, Told};

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// There is no driver, and the configuration says not to wait for one.
    #[error("the GPUs of this node cannot be read")]
    Driver(#[source] OpenError),
    /// There is no way to the API server.
    #[error("there is no way to the API server")]
    Api(#[source] ClientError),
    /// The first configuration cannot be had, and none was in force before.
    #[error("the configuration cannot be used: {0}")]
    Configuration(String),
    /// A door cannot be opened, or closed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The folder of what must outlive the agent cannot be used.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The GPUs cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// This program cannot start a keeper.
    #[error("a keeper of MPS control daemons cannot be started")]
    Spawn(#[source] std::io::Error),
    /// A task ended that must not.
    #[error("the task `{0}` has ended")]
    Task(&'static str),
}

/// How long tasks may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the agent until `stop`.
///
/// What it leaves behind then is what running pods need: folders, CDI files, daemons in the keeper's hands. After an
/// uninstallation nothing is left.
///
/// # Errors
/// When it cannot begin, or a part of it ends by itself.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), AgentError> {
    let parts = TaskTracker::new();
    let ended = match stop.run_until_cancelled(build::build(options, &parts)).await {
        None => Ok(()),
        Some(Err(error)) => Err(error),
        Some(Ok(agent)) => agent.run(&stop).await,
    };
    parts.close();
    if tokio::time::timeout(GRACE, parts.wait()).await.is_err() {
        tracing::warn!("some tasks have not ended in {GRACE:?}");
    }
    ended
}

/// The agent.
struct Agent {
    options: Options,
    state: State,
    hands: Hands,
    facts: Facts,
    health: Health,
    plugins: Plugins,
    served: watch::Sender<Arc<Served>>,
    /// The lists that follow from what is served, made when that changes: every turn looks at them.
    lists: BTreeMap<ResourceName, DeviceList>,
    view: watch::Sender<Arc<View>>,
    labels: watch::Sender<Option<Labels>>,
    reachability: Option<watch::Receiver<Reachability>>,
    holders_wanted: watch::Sender<bool>,
    gpus: watch::Sender<Arc<Vec<GpuUuid>>>,
    again: watch::Sender<u64>,
    heard: mpsc::UnboundedReceiver<Told>,
    handed_out: mpsc::UnboundedReceiver<Vec<cotenant_model::sharing::DeviceId>>,
    failed: mpsc::UnboundedReceiver<AgentError>,
    to: Tell,
    /// Stops every task of this agent.
    tasks_stop: CancellationToken,
    /// Log watches by GPU.
    logs: BTreeMap<GpuUuid, CancellationToken>,
    /// Daemons as the keeper last told of them.
    kept: BTreeMap<GpuUuid, Kept>,
    /// GPUs that are offered and that the last inventory did not have.
    missing: BTreeSet<GpuUuid>,
    /// Warnings about tenants that were told already.
    warned: BTreeSet<String>,
    /// The last wish, for labels and pipes.
    wish: Option<Box<watchers::Wish>>,
    uninstalled: bool,
    /// Seconds since 1970 at the start: the timestamp of labels.
    started: u64,
    /// Watches the GPUs as long as it lives.
    _watch: XidWatch,
    /// Keeps other agents away.
    _lock: std::fs::File,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("node", &self.options.node).finish_non_exhaustive()
    }
}

impl Agent {
    async fn run(mut self, stop: &CancellationToken) -> Result<(), AgentError> {
        let ended = loop {
            self.show();
            let deadline = self.state.deadline();
            let mut registrations = self.plugins.changes();
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                error = self.failed.recv() => break error.map_or(Ok(()), Err),
                told = self.heard.recv() => match told {
                    Some(told) => if let Err(error) = self.hear(told).await { break Err(error) },
                    None => break Err(AgentError::Task("dispatcher")),
                },
                Some(devices) = self.handed_out.recv() => self.turn(super::state::event::Event::Allocated(devices)),
                Ok(()) = registrations.changed() => {}
                () = reached(&mut self.reachability) => {}
                () = until(deadline) => self.turn(super::state::event::Event::Tick),
            }
        };
        self.finish().await;
        ended
    }

    /// Stops what is the agent's own; after an uninstallation everything else too.
    async fn finish(mut self) {
        if !self.uninstalled && self.is_removed().await {
            self.uninstall().await;
        }
        self.tasks_stop.cancel();
        self.plugins.finish().await;
    }
}

/// Waits until what is known of the API server changes.
async fn reached(reachability: &mut Option<watch::Receiver<Reachability>>) {
    let Some(reachability) = reachability else { return std::future::pending().await };
    if reachability.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn until(deadline: Option<cotenant_model::Nanoseconds>) {
    match deadline {
        Some(deadline) => {
            let left = deadline.0.saturating_sub(clock::now().monotonic.0);
            tokio::time::sleep(Duration::from_nanos(left)).await;
        }
        None => std::future::pending().await,
    }
}
