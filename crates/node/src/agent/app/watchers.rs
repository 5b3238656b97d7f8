//! Tasks that watch one outside world each and tell the dispatcher what happens there.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cotenant_kubelet::pod_resources;
use cotenant_model::cause::chain;
use cotenant_model::gpu::{Gpu, GpuProcess, ProcessList};
use cotenant_model::sharing::config::Flags;
use cotenant_model::{Bytes, GpuUuid};
use cotenant_mps::log::{Entry, LogWatch, News};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::chosen::Chosen;
use super::hands::Hands;
use super::hardware::Hardware;
use super::people::People;
use super::propose::{Handing, handing, propose};
use crate::agent::options::Overrides;
use crate::agent::source::Source;
use crate::agent::state::event::{Client, Culprit, Event, GpuEvent, Proposal};
use crate::keeper::client::{Happenings, KeeperClient};
use crate::keeper::protocol::{Happening, Kept};
use crate::keeper::spawn::Spawner;
use crate::usage::attribution::Seen;

/// What the dispatcher hears.
#[derive(Debug)]
pub(super) enum Told {
    /// Something for the state.
    Event(Event),
    /// A configuration was read.
    Wish(Box<Wish>),
    /// A configuration was read and cannot be had; why.
    Refused(String),
    /// The watch of the GPUs saw something.
    Notice(cotenant_gpu::Notice),
    /// Daemons that the keeper keeps.
    Kept(Vec<Kept>),
    /// Who uses how much.
    Usage(Vec<GpuUsage>),
    /// The API server asks for the node to be cleaned up.
    Uninstall,
    /// Something of the picture has changed outside.
    Look,
}

/// What a configuration wants of this node.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) name: Option<String>,
    pub(super) flags: Flags,
    pub(super) gpus: Vec<Gpu>,
    pub(super) driver: cotenant_model::gpu::Driver,
    pub(super) handing: Handing,
    pub(super) proposal: Proposal,
    pub(super) policy: cotenant_model::sharing::config::AllocationPolicy,
    pub(super) mount_shm: bool,
}

/// What is on a GPU.
#[derive(Debug, Clone)]
pub(super) struct GpuUsage {
    pub(super) gpu: GpuUuid,
    pub(super) used: Option<Bytes>,
    pub(super) processes: Vec<Seen>,
}

pub(super) type Tell = mpsc::UnboundedSender<Told>;

/// Tells; at the end of the agent nobody listens.
pub(super) fn tell(to: &Tell, news: Told) {
    drop(to.send(news));
}

pub(super) fn tell_gpu(to: &Tell, gpu: GpuUuid, event: GpuEvent) {
    tell(to, Told::Event(Event::Gpu(gpu, event)));
}

/// Reads the configuration whenever its file, the node's labels or the GPUs change.
pub(super) struct Wishes {
    pub(super) source: Source,
    pub(super) overrides: Overrides,
    pub(super) chosen: Chosen,
    pub(super) again: watch::Receiver<u64>,
    pub(super) hardware: Hardware,
    pub(super) root: PathBuf,
    pub(super) to: Tell,
}

/// After a change, before it is read: an editor or the kubelet may still be at it.
const SETTLE: Duration = Duration::from_millis(100);
/// A folder that cannot be watched is looked at so often.
const UNWATCHED: Duration = Duration::from_secs(10);

impl Wishes {
    pub(super) async fn run(mut self) {
        let mut last = None;
        self.chosen.await_first().await;
        loop {
            let mut changes = self.source.watch().ok().flatten();
            let labels = self.chosen.labels();
            let wish = self.wish(labels.config.as_deref(), labels.mig.as_deref()).await;
            match wish {
                Ok(wish) => {
                    last = None;
                    tell(&self.to, Told::Wish(Box::new(wish)));
                }
                Err(why) if last.as_ref() != Some(&why) => {
                    last = Some(why.clone());
                    tell(&self.to, Told::Refused(why));
                }
                Err(_told) => {}
            }
            let has_file = self.source.path.is_some();
            tokio::select! {
                _ = async { match &mut changes { Some(changes) => changes.next().await, None => {
                    if has_file { sleep(UNWATCHED).await } else { std::future::pending::<()>().await }
                    Ok(())
                } } } => {}
                () = self.chosen.changed() => {}
                changed = self.again.changed() => if changed.is_err() { return },
            }
            sleep(SETTLE).await;
        }
    }

    async fn wish(&self, label: Option<&str>, mig: Option<&str>) -> Result<Wish, String> {
        let said = |error: &dyn std::error::Error| chain(error, ": ");
        let mut read = self.source.read(label).map_err(|error| said(&error))?;
        for note in &read.sharing.notes {
            tracing::info!("configuration: {note}");
        }
        read.sharing.flags = self.overrides.over(&read.sharing.flags);
        let (gpus, driver) = self.hardware.inventory().await.map_err(|error| said(&error))?;
        let proposal = propose(&read.sharing, &gpus, &driver, mig).map_err(|error| said(&error))?;
        let flags = read.sharing.flags;
        Ok(Wish {
            name: read.name,
            handing: handing(&flags, &gpus, &self.root),
            policy: flags.allocation,
            mount_shm: read.sharing.mps.mount_shm,
            flags,
            gpus,
            driver,
            proposal,
        })
    }
}

/// Between two attempts to reach the keeper.
const KEEPER_PAUSE: Duration = Duration::from_millis(500);

/// Hears of the daemons' deaths. Where no keeper answers, one is started, if that is wanted.
pub(super) async fn watch_keeper(keeper: KeeperClient, mut spawner: Option<Spawner>, hands: Hands, to: Tell) {
    loop {
        let why = match keeper.watch().await {
            Ok((kept, happenings)) => follow_keeper(kept, happenings, &hands, &to).await,
            Err(error) => chain(&error, ": "),
        };
        tell(&to, Told::Event(Event::KeeperDown(why)));
        if let Some(spawner) = &mut spawner
            && let Err(error) = spawner.ensure()
        {
            tracing::warn!(%error, "a keeper cannot be started");
        }
        sleep(KEEPER_PAUSE).await;
    }
}

/// Tells what a keeper tells, until it is gone; says how.
async fn follow_keeper(kept: Vec<Kept>, mut happenings: Happenings, hands: &Hands, to: &Tell) -> String {
    let living = kept.iter().filter(|kept| kept.pid.is_some()).map(|kept| kept.gpu.clone()).collect();
    tell(to, Told::Kept(kept));
    tell(to, Told::Event(Event::KeeperUp(living)));
    loop {
        match happenings.next().await {
            Ok(Happening::Died { gpu, how }) => {
                let clients = mps_clients(&hands.hardware, &hands.people, gpu.clone()).await;
                tell_gpu(to, gpu, GpuEvent::DaemonDown { how, clients });
            }
            Ok(Happening::Started(kept)) => tell(to, Told::Kept(vec![kept])),
            Ok(Happening::Stopped { .. }) => {}
            Err(error) => return chain(&error, ": "),
        }
    }
}

/// MPS clients of a GPU, as the driver names them.
pub(super) async fn mps_clients(hardware: &Hardware, people: &People, gpu: GpuUuid) -> Vec<Client> {
    let processes = hardware.processes(gpu).await.unwrap_or_default();
    let clients = processes.iter().filter(|process| process.list == ProcessList::MpsClient);
    clients.filter_map(|client| people.client(client.pid, None)).collect()
}

/// Between two attempts to follow a log whose folder is not there yet.
const LOG_PAUSE: Duration = Duration::from_millis(200);

/// Follows the logs of a GPU's control daemon.
pub(super) async fn watch_log(gpu: GpuUuid, folder: PathBuf, people: People, to: Tell) {
    loop {
        if let Err(error) = follow_log(&gpu, &folder, &people, &to).await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%gpu, %error, "the logs of an MPS control daemon cannot be followed");
        }
        sleep(LOG_PAUSE).await;
    }
}

async fn follow_log(gpu: &GpuUuid, folder: &Path, people: &People, to: &Tell) -> io::Result<()> {
    let mut log = LogWatch::open(folder)?;
    #[expect(deprecated, reason = "the descriptor is owned, and so open, as long as it is registered")]
    // The watch wakes through a descriptor of its own, so that it can be read meanwhile.
    let wakes = AsyncFd::new(log.as_fd().try_clone_to_owned()?)?;
    // What was written before is not read: the daemon is asked instead.
    tell_gpu(to, gpu.clone(), GpuEvent::Reported { culprit: None, affected: Vec::new() });
    loop {
        wakes.readable().await?.clear_ready();
        report(gpu, &log.read()?, people, to);
    }
}

fn report(gpu: &GpuUuid, news: &News, people: &People, to: &Tell) {
    let (mut named, mut affected, mut sign) = (None, Vec::new(), news.gap);
    for line in &news.lines {
        match &line.entry {
            // The cgroup is read while the process lives.
            Entry::ClientConnected { client, .. } => drop(people.holder(*client)),
            Entry::Fault { named: client } => named = Some(*client),
            Entry::Affected { client } => affected.extend(people.client(*client, Some(line.pid))),
            Entry::LogBroken | Entry::FaultCleared | Entry::ServerEnded { .. } | Entry::ServerFailed => sign = true,
            Entry::DaemonStarted
            | Entry::DaemonExits
            | Entry::ClientAsks { .. }
            | Entry::ClientLeft { .. }
            | Entry::ClientRefused { .. }
            | Entry::ClientAskedToLeave { .. }
            | Entry::ServerStarts { .. }
            | Entry::ServerReady { .. }
            | Entry::ServerBusy { .. }
            | Entry::UserRefused { .. }
            | Entry::MemoryLimit { .. }
            | Entry::NotPermitted => {}
        }
    }
    if named.is_some() || !affected.is_empty() {
        let culprit = named.map(|pid| Culprit { pid, command: command(pid), holder: people.holder(pid) });
        tell_gpu(to, gpu.clone(), GpuEvent::Reported { culprit, affected });
    } else if sign {
        tell_gpu(to, gpu.clone(), GpuEvent::Reported { culprit: None, affected: Vec::new() });
    }
}

fn command(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned())
}

/// How often the kubelet is asked who holds what: while somebody waits for the answer, and else.
const HOLDERS_SOON: Duration = Duration::from_secs(1);
const HOLDERS_LATER: Duration = Duration::from_secs(15);

/// Asks the kubelet who holds which device.
pub(super) async fn watch_holders(socket: PathBuf, people: People, mut wanted: watch::Receiver<bool>, to: Tell) {
    let mut told: Option<String> = None;
    let mut last = None;
    loop {
        let soon = *wanted.borrow_and_update();
        match pod_resources::list(&socket).await {
            Ok(list) => {
                told = None;
                let holders = people.holders(list);
                if soon || last.as_ref() != Some(&holders) {
                    tell(&to, Told::Event(Event::Holders(holders.clone())));
                    last = Some(holders);
                }
            }
            Err(error) => warn_once(&mut told, chain(&error, ": ")),
        }
        let pause = if soon { HOLDERS_SOON } else { HOLDERS_LATER };
        if timeout(pause, wanted.changed()).await.is_ok_and(|changed| changed.is_err()) {
            return;
        }
        if !soon {
            // A wish that has just come: not twice at once.
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Warns when it is not what was warned of last.
fn warn_once(told: &mut Option<String>, why: String) {
    if told.as_ref() != Some(&why) {
        tracing::warn!("{why}");
        *told = Some(why);
    }
}

/// How often the use of GPUs is read.
const USAGE: Duration = Duration::from_secs(10);

/// Reads who uses how much of the GPUs.
pub(super) async fn watch_usage(
    hardware: Hardware,
    people: People,
    gpus: watch::Receiver<Arc<Vec<GpuUuid>>>,
    to: Tell,
) {
    loop {
        let all = Arc::clone(&gpus.borrow());
        let mut usage = Vec::with_capacity(all.len());
        for gpu in all.iter() {
            let Ok(processes) = hardware.processes(gpu.clone()).await else { continue };
            let seen = |process: GpuProcess| Seen { holder: people.holder(process.pid), process, warnings: Vec::new() };
            let processes = processes.into_iter().map(seen).collect();
            usage.push(GpuUsage { gpu: gpu.clone(), used: hardware.memory_used(gpu.clone()).await, processes });
        }
        tell(&to, Told::Usage(usage));
        sleep(USAGE).await;
    }
}
