//! Does what the state wants. What takes time is done by tasks that report back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cotenant_cluster::{Client as ApiClient, Event as ClusterEvent, EventKind, Events, Eviction, Pods, Regarding};
use cotenant_gpu::MigOutcome;
use cotenant_model::GpuUuid;
use cotenant_model::cause::chain;
use cotenant_model::sharing::mig::{Layout, plan};
use cotenant_mps::{Dialect, Dialogue, Identity, Place, ServerStatus, find_program};
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;

use super::hardware::Hardware;
use super::people::People;
use super::watchers::{Tell, Told, mps_clients, tell, tell_gpu};
use crate::agent::state::event::{Answer, Client, Force, GpuEvent, Note, Pod, Subject};
use crate::keeper::client::{KeeperCallError, KeeperClient};
use crate::keeper::protocol::Ask;

/// How long the keeper may take to start a daemon, or to end one whose clients stay.
const KEEPING: Duration = Duration::from_secs(45);
/// How long one question to a daemon may take: three, so that two in a row fit before the state calls it silent.
const DIALOGUE: Duration = Duration::from_secs(3);

/// The hands of the agent.
#[derive(Debug, Clone)]
pub(super) struct Hands {
    pub(super) node: String,
    pub(super) hardware: Hardware,
    pub(super) keeper: Option<KeeperClient>,
    pub(super) people: People,
    pub(super) api: Option<(ApiClient, Pods)>,
    pub(super) events: Option<Events>,
    pub(super) tasks: TaskTracker,
    pub(super) to: Tell,
    /// Requests to the keeper about one GPU are made one after the other, in the order in which they are wanted.
    pub(super) queues: Queues,
}

/// One place in the queue for each GPU.
pub(super) type Queues = Arc<std::sync::Mutex<BTreeMap<GpuUuid, Arc<tokio::sync::Mutex<()>>>>>;

impl Hands {
    /// Asks the keeper for a daemon.
    pub(super) fn keep(&self, gpu: GpuUuid, ask: Ask) {
        let (keeper, to) = (self.keeper.clone(), self.to.clone());
        let queue =
            Arc::clone(self.queues.lock().unwrap_or_else(PoisonError::into_inner).entry(gpu.clone()).or_default());
        self.tasks.spawn(async move {
            // Tasks are first polled in the order in which they were spawned, and this lock is fair.
            let _turn = queue.lock().await;
            let Some(keeper) = keeper else {
                let why = "this agent was started without a keeper, so no GPU can be shared by MPS".to_owned();
                return tell_gpu(&to, gpu, GpuEvent::DaemonRefused(why));
            };
            let wants_daemon = matches!(ask, Ask::Ensure { .. } | Ask::Restart { .. });
            match keeper.ask(ask, KEEPING).await {
                Ok(crate::keeper::protocol::Answer::Runs(kept)) => {
                    let adopted = kept.adopted;
                    tell(&to, Told::Kept(vec![kept]));
                    tell_gpu(&to, gpu, GpuEvent::DaemonUp { adopted });
                }
                Ok(_) => {}
                // The watch of the keeper says so, and greets it when it is back.
                Err(KeeperCallError::Away { .. }) => {}
                Err(error) if wants_daemon => tell_gpu(&to, gpu, GpuEvent::DaemonRefused(chain(&error, ": "))),
                Err(error) => tracing::warn!(%gpu, error = chain(&error, ": "), "the keeper does not end a daemon"),
            }
        });
    }

    /// Asks a GPU's control daemon how it is.
    pub(super) fn ask_status(&self, gpu: GpuUuid, daemon: Daemon) {
        let (people, to, hardware) = (self.people.clone(), self.to.clone(), self.hardware.clone());
        self.tasks.spawn(async move {
            let asking = people.clone();
            let asked = spawn_blocking(move || ask(&asking, &daemon)).await;
            let (answer, clients) = match asked {
                Ok(Ok(heard)) => heard,
                Ok(Err(why)) => (Answer::Silent(why), mps_clients(&hardware, &people, gpu.clone()).await),
                Err(_ends) => return,
            };
            tell_gpu(&to, gpu, GpuEvent::Status(answer, clients));
        });
    }

    /// Ends the servers of a GPU by force, then asks its status.
    pub(super) fn shut_servers(&self, gpu: GpuUuid, daemon: Daemon) {
        let hands = self.clone();
        self.tasks.spawn(async move {
            let shut = match &hands.keeper {
                Some(keeper) => keeper.ask(Ask::ShutServers { gpu: gpu.clone() }, KEEPING).await,
                None => return,
            };
            if let Err(error) = shut {
                tracing::warn!(%gpu, error = chain(&error, ": "), "the servers of a GPU cannot be ended");
            }
            hands.ask_status(gpu, daemon);
        });
    }

    /// Says when a process is gone.
    pub(super) fn watch(&self, gpu: GpuUuid, process: Identity) {
        let to = self.to.clone();
        self.tasks.spawn(async move {
            #[expect(deprecated, reason = "the descriptor is owned, and so open, as long as it is registered")]
            let ended = async {
                let Some(handle) = process.handle()? else { return Ok(()) };
                AsyncFd::new(handle)?.readable().await.map(drop)
            };
            let ended: std::io::Result<()> = ended.await;
            if let Err(error) = ended {
                tracing::warn!(pid = process.pid, %error, "a process cannot be watched");
                while process.is_alive() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            tell_gpu(&to, gpu, GpuEvent::Gone(process));
        });
    }

    /// Signals a process.
    pub(super) fn signal(process: &Identity, force: Force) {
        match force {
            Force::Ask => process.terminate(),
            Force::Kill => process.kill(),
        }
    }

    /// Tells people.
    pub(super) fn say(&self, note: Note) {
        let Note { subject, warning, reason, text } = note;
        let regarding = match &subject {
            Subject::Node => Regarding::node(self.node.clone()),
            Subject::Pod(pod) => {
                Regarding::Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: self.uid(pod) }
            }
        };
        let about = match &subject {
            Subject::Node => "node".to_owned(),
            Subject::Pod(pod) => format!("pod {pod}"),
        };
        // Whoever reports an Event logs it too.
        match &self.events {
            Some(events) => {
                let kind = if warning { EventKind::Warning } else { EventKind::Normal };
                events.report(ClusterEvent { regarding, kind, reason, action: "SharingGpus", note: text });
            }
            None => log(warning, reason, &about, &text),
        }
    }

    fn uid(&self, pod: &Pod) -> String {
        let known = || self.api.as_ref()?.1.by_name(&pod.namespace, &pod.name).map(|pod| pod.uid.clone());
        pod.uid.clone().or_else(known).unwrap_or_default()
    }

    /// Evicts a pod.
    pub(super) fn evict(&self, pod: Pod, why: String) {
        let Some((client, pods)) = self.api.clone() else {
            tracing::warn!(%pod, why, "a pod cannot be evicted without an API server");
            return;
        };
        let uid = self.uid(&pod);
        self.tasks.spawn(async move {
            let known = pods.by_name(&pod.namespace, &pod.name);
            let target = known.map_or_else(
                || cotenant_cluster::Pod {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                    uid,
                    ..cotenant_cluster::Pod::default()
                },
                |known| (*known).clone(),
            );
            match client.evict(&target, None).await {
                Ok(Eviction::Accepted | Eviction::Gone) => tracing::info!(%pod, why, "evicted"),
                Ok(Eviction::Blocked { why: block, .. }) => tracing::warn!(%pod, why, block, "eviction is blocked"),
                Err(error) => tracing::warn!(%pod, why, error = chain(&error, ": "), "eviction failed"),
            }
        });
    }

    /// Makes MIG devices; an empty layout is MIG mode off.
    pub(super) fn apply_mig(&self, gpu: GpuUuid, profiles: BTreeMap<String, u32>) {
        let (hardware, to) = (self.hardware.clone(), self.to.clone());
        self.tasks.spawn(async move {
            let layout = if profiles.is_empty() { Layout::Disabled } else { Layout::Enabled(profiles) };
            let result = apply_layout(&hardware, &gpu, &layout).await;
            tell_gpu(&to, gpu, GpuEvent::MigApplied(result));
            tell(&to, Told::Look);
        });
    }
}

fn log(warning: bool, reason: &str, about: &str, text: &str) {
    match warning {
        true => log_warning(reason, about, text),
        false => tracing::info!(reason, about, "{text}"),
    }
}

fn log_warning(reason: &str, about: &str, text: &str) {
    tracing::warn!(reason, about, "{text}");
}

/// Drivers before 550 tell the profiles in MIG mode only, so that a second plan follows the first.
const PLANS: usize = 2;

async fn apply_layout(hardware: &Hardware, gpu: &GpuUuid, layout: &Layout) -> Result<(), String> {
    for _ in 0..PLANS {
        let (gpus, _driver) = hardware.inventory().await.map_err(|error| chain(&error, ": "))?;
        let card = gpus.iter().find(|card| card.uuid == *gpu).ok_or_else(|| format!("no GPU has the UUID {gpu}"))?;
        let plan = plan(card, layout, &[]).map_err(|error| chain(&error, ": "))?;
        if plan.steps.is_empty() {
            return Ok(());
        }
        let outcome = hardware.apply_mig(gpu.clone(), plan.steps).await.map_err(|error| chain(&error, ": "))?;
        if matches!(outcome, MigOutcome::WaitsForReset(_)) {
            return Err(format!("MIG mode of {gpu} changes with its next reset"));
        }
        if !plan.again {
            return Ok(());
        }
    }
    Ok(())
}

/// A control daemon to speak to.
#[derive(Debug, Clone)]
pub(super) struct Daemon {
    pub(super) pipe: PathBuf,
    /// Its program; `None` finds it.
    pub(super) program: Option<PathBuf>,
    /// Whether it speaks protocol 3.
    pub(super) three: bool,
}

fn ask(people: &People, daemon: &Daemon) -> Result<(Answer, Vec<Client>), String> {
    let said = |error: &dyn std::error::Error| chain(error, ": ");
    let program = daemon.program.clone().map_or_else(find_program, Ok).map_err(|error| said(&error))?;
    let dialect = if daemon.three { Dialect::Three } else { Dialect::Two };
    let dialogue = Dialogue::new(&program, &daemon.pipe, DIALOGUE, dialect);
    let servers = dialogue.examine().map_err(|error| said(&error))?;
    let any = |status: fn(&ServerStatus) -> bool| servers.iter().any(|server| status(&server.status));
    let answer = if any(|status| *status == ServerStatus::Fault) {
        Answer::Fault
    } else if any(|status| *status == ServerStatus::Initializing) {
        Answer::Initializing
    } else {
        Answer::Serving
    };
    let clients =
        servers.iter().flat_map(|server| server.clients.iter().filter_map(|pid| people.client(*pid, Some(server.pid))));
    Ok((answer, clients.collect()))
}

/// The pipe folder of a GPU under an MPS root.
pub(super) fn pipe(root: &std::path::Path, gpu: &GpuUuid) -> Option<PathBuf> {
    Place::new(root, gpu.clone()).ok().map(|place| place.pipe())
}
