//! Puts the agent together: opens every world and starts its task.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use cotenant_cluster::uninstall::NodeUninstall;
use cotenant_cluster::{Client as ApiClient, EventReporter, Events, LabelKeeper, NodeFacts, NodeWatch, PodWatch, Pods};
use cotenant_gpu::{Health, QUIET, XidPolicy, XidWatch};
use cotenant_model::GpuUuid;
use cotenant_model::sharing::label::{Labels, is_written};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::chosen::Chosen;
use super::hands::{Hands, Queues};
use super::hardware::Hardware;
use super::people::People;
use super::picture::Facts;
use super::watchers::{Tell, Told, Wishes, tell, watch_holders, watch_keeper, watch_usage};
use super::{Agent, AgentError, memory};
use crate::agent::options::{KeeperChoice, Options};
use crate::agent::plugins::Plugins;
use crate::agent::served::{Served, answers};
use crate::agent::state::State;
use crate::clock::{self, HostClock};
use crate::keeper::client::KeeperClient;
use crate::keeper::spawn::Spawner;
use crate::serve::{ServeError, View, serve_local, serve_probes};

/// Starts tasks that end when the agent does.
#[derive(Debug, Clone)]
struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: mpsc::UnboundedSender<AgentError>,
}

impl Tasks {
    fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// A door: its failure is the agent's.
    fn open(&self, door: impl Future<Output = Result<(), ServeError>> + Send + 'static) {
        let failed = self.failed.clone();
        self.tracker.spawn(async move {
            if let Err(error) = door.await {
                drop(failed.send(error.into()));
            }
        });
    }
}

/// What is asked of the API server.
struct Api {
    client: ApiClient,
    pods: Pods,
    facts: watch::Receiver<Option<NodeFacts>>,
    events: Events,
}

/// Everything that is asked, and the way back.
struct Worlds {
    hardware: Hardware,
    api: Option<Api>,
    people: People,
    root: PathBuf,
    to: Tell,
}

/// What the tasks are told by the agent.
struct Wires {
    again: watch::Sender<u64>,
    holders_wanted: watch::Sender<bool>,
    gpus: watch::Sender<Arc<Vec<GpuUuid>>>,
    labels: watch::Sender<Option<Labels>>,
}

/// Opens every world. Waits for the driver where the configuration says so, serving probes meanwhile.
pub(super) async fn build(options: Options, parts: &TaskTracker) -> Result<Agent, AgentError> {
    let lock = memory::lock(&options.paths.state)?;
    let (failed_to, failed) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let tasks = Tasks { tracker: parts.clone(), stop: stop.clone(), failed: failed_to };
    // A guard until the agent owns it: tasks of an agent that is not built end with it.
    let guard = stop.clone().drop_guard();
    let (view, shown) = watch::channel(Arc::new(waiting(&options, "the driver is being looked for".to_owned())));
    doors(&options, &tasks, &shown);
    let remembered = memory::read(&options.paths.state)?;
    let (to, heard) = mpsc::unbounded_channel();
    let worlds = Worlds::open(&options, &tasks, &view, to).await?;
    let hands = worlds.hands(&options, parts);
    let wires = worlds.start(&options, &tasks, &hands)?;
    let (served, receiver) = watch::channel(Arc::new(Served::default()));
    let (handed_to, handed_out) = mpsc::unbounded_channel();
    let plugins = Plugins::new(options.paths.device_plugins.clone(), answers(&receiver, handed_to));
    let watch = watch_gpus(&worlds.hardware, &worlds.to)?;
    let (state, first) = State::restore(remembered, clock::now());
    drop(guard.disarm());
    let mut agent = Agent {
        health: Health::new(policy(&options), QUIET),
        facts: Facts { node: options.node.clone(), ..Facts::default() },
        reachability: worlds.api.map(|api| api.client.reachability()),
        started: clock::now().unix,
        options,
        state,
        hands,
        plugins,
        served,
        lists: BTreeMap::new(),
        view,
        labels: wires.labels,
        holders_wanted: wires.holders_wanted,
        gpus: wires.gpus,
        again: wires.again,
        heard,
        handed_out,
        failed,
        to: worlds.to,
        tasks_stop: stop,
        logs: BTreeMap::new(),
        kept: BTreeMap::new(),
        missing: BTreeSet::new(),
        warned: BTreeSet::new(),
        wish: None,
        uninstalled: false,
        _watch: watch,
        _lock: lock,
    };
    agent.act(first);
    Ok(agent)
}

impl Worlds {
    async fn open(
        options: &Options,
        tasks: &Tasks,
        view: &watch::Sender<Arc<View>>,
        to: Tell,
    ) -> Result<Self, AgentError> {
        let hardware = open_hardware(options, view).await?;
        let api = open_api(options, tasks, &to).await?;
        let pods = api.as_ref().map(|api| api.pods.clone());
        let people = People::new(options.paths.proc.clone(), pods);
        Ok(Self { hardware, api, people, root: root(options), to })
    }

    fn hands(&self, options: &Options, parts: &TaskTracker) -> Hands {
        Hands {
            node: options.node.clone(),
            hardware: self.hardware.clone(),
            keeper: (options.keeper != KeeperChoice::None).then(|| KeeperClient::new(&self.root)),
            people: self.people.clone(),
            events: self.api.as_ref().map(|api| api.events.clone()),
            api: self.api.as_ref().map(|api| (api.client.clone(), api.pods.clone())),
            tasks: parts.clone(),
            to: self.to.clone(),
            queues: Queues::default(),
        }
    }

    /// Starts the task of each world.
    fn start(&self, options: &Options, tasks: &Tasks, hands: &Hands) -> Result<Wires, AgentError> {
        let (again, holders_wanted) = (watch::Sender::new(0), watch::Sender::new(true));
        let gpus = watch::Sender::new(Arc::new(Vec::new()));
        if let Some(keeper) = hands.keeper.clone() {
            let spawner = (options.keeper == KeeperChoice::Spawn).then(|| Spawner::new(&self.root)).transpose();
            let spawner = spawner.map_err(AgentError::Spawn)?;
            tasks.start(watch_keeper(keeper, spawner, hands.clone(), self.to.clone()));
        }
        let wishes = Wishes {
            source: options.source.clone(),
            overrides: options.overrides.clone(),
            chosen: Chosen::new(self.api.as_ref().map(|api| api.facts.clone()), &options.paths.state),
            again: again.subscribe(),
            hardware: self.hardware.clone(),
            root: "/".into(),
            to: self.to.clone(),
        };
        tasks.start(wishes.run());
        let socket = options.paths.pod_resources.clone();
        tasks.start(watch_holders(socket, self.people.clone(), holders_wanted.subscribe(), self.to.clone()));
        tasks.start(watch_usage(self.hardware.clone(), self.people.clone(), gpus.subscribe(), self.to.clone()));
        let labels = keep_labels(options, tasks, self.api.as_ref());
        Ok(Wires { again, holders_wanted, gpus, labels })
    }
}

/// The MPS root of the keeper: the command line's, or the usual one. A file that names another root is followed by daemons,
/// but the keeper has one root for its life.
fn root(options: &Options) -> PathBuf {
    let named = options.overrides.mps_root.clone();
    let of_file = || options.source.read(None).ok().map(|read| read.sharing.flags.mps_root);
    named.or_else(of_file).unwrap_or_else(|| "/run/nvidia/mps".to_owned()).into()
}

fn waiting(options: &Options, why: String) -> View {
    View {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: options.node.clone(),
        unready: vec![why],
        ..View::default()
    }
}

fn doors(options: &Options, tasks: &Tasks, shown: &watch::Receiver<Arc<View>>) {
    if let Some(address) = options.listen {
        tasks.open(serve_probes(address, shown.clone(), tasks.stop.clone()));
    }
    let (path, shown, stop) = (options.paths.socket.clone(), shown.clone(), tasks.stop.clone());
    tasks.open(async move { serve_local(&path, shown, stop).await });
}

async fn open_hardware(options: &Options, view: &watch::Sender<Arc<View>>) -> Result<Hardware, AgentError> {
    let file = options.source.read(None).map(|read| read.sharing.flags).unwrap_or_default();
    let fail = options.overrides.over(&file).fail_on_init_error;
    let say = |error: &cotenant_gpu::OpenError| {
        let why = cotenant_model::cause::chain(error, ": ");
        tracing::warn!(why, "waiting for a driver");
        view.send_replace(Arc::new(waiting(options, why)));
    };
    Hardware::open(options.paths.sys.clone(), fail, say).await.map_err(AgentError::Driver)
}

async fn open_api(options: &Options, tasks: &Tasks, to: &Tell) -> Result<Option<Api>, AgentError> {
    let Some(source) = &options.api else { return Ok(None) };
    let client = ApiClient::new(source).await.map_err(AgentError::Api)?;
    let node = NodeWatch::new(client.clone(), options.node.clone());
    let facts = node.facts();
    let watched = PodWatch::new(client.clone(), options.node.clone());
    let pods = watched.pods();
    let (reporter, events) = EventReporter::new(client.clone(), options.node.clone());
    let stop = tasks.stop.clone();
    tasks.tracker.spawn(node.run(stop.clone()));
    tasks.tracker.spawn(watched.run(stop.clone()));
    tasks.tracker.spawn(reporter.run(stop));
    tasks.start(hear_uninstall(facts.clone(), to.clone()));
    Ok(Some(Api { client, pods, facts, events }))
}

/// Hears when the node is to be cleaned up.
async fn hear_uninstall(mut facts: watch::Receiver<Option<NodeFacts>>, to: Tell) {
    let asks = |facts: &Option<NodeFacts>| {
        facts.as_ref().is_some_and(|facts| facts.uninstall == Some(NodeUninstall::Requested))
    };
    if facts.wait_for(asks).await.is_ok() {
        tell(&to, Told::Uninstall);
    }
}

fn keep_labels(options: &Options, tasks: &Tasks, api: Option<&Api>) -> watch::Sender<Option<Labels>> {
    let labels = watch::Sender::new(None);
    if let Some(api) = api.filter(|_| options.labels) {
        let keeper = LabelKeeper {
            client: api.client.clone(),
            node: options.node.clone(),
            facts: api.facts.clone(),
            wanted: labels.subscribe(),
            owned: is_written,
        };
        tasks.tracker.spawn(keeper.run(tasks.stop.clone()));
    }
    labels
}

fn watch_gpus(hardware: &Hardware, to: &Tell) -> Result<XidWatch, AgentError> {
    let to = to.clone();
    let watch = XidWatch::start(&hardware.share(), Arc::new(HostClock), move |notice| tell(&to, Told::Notice(notice)));
    Ok(watch?)
}

fn policy(options: &Options) -> XidPolicy {
    let (disable, enable) = &options.health_checks;
    let (policy, invalid) = XidPolicy::parse(disable.as_deref(), enable.as_deref());
    for entry in invalid {
        tracing::warn!("{entry}");
    }
    policy
}
