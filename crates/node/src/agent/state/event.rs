//! What happens to a node, and what is to be done about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cotenant_model::sharing::config::{Drain, Faults};
use cotenant_model::sharing::{DeviceId, Offer};
use cotenant_model::{GpuUuid, Nanoseconds};
use cotenant_mps::Identity;
use serde::{Deserialize, Serialize};

use crate::keeper::protocol::DaemonSettings;

/// A moment on both clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    /// The host's monotonic clock: deadlines.
    pub monotonic: Nanoseconds,
    /// Seconds since 1970: what is remembered across reboots.
    pub unix: u64,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid, where it is known.
    pub uid: Option<String>,
}

impl std::fmt::Display for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What users deployed, such as `Deployment/default/chat`: the unit in which offences are counted, since a pod that is
/// replaced has a new name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Workload(pub String);

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who was given a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The pod.
    pub pod: Pod,
    /// Name of the container.
    pub container: String,
    /// What made the pod.
    pub workload: Workload,
}

/// A process that uses a GPU under MPS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Client {
    /// The process.
    pub process: Identity,
    /// Process id of its server, where the dialogue named it.
    pub server: Option<u32>,
    /// Its pod, where it is in one.
    pub holder: Option<Holder>,
}

/// Who broke a GPU, as a log named it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Culprit {
    /// Process id.
    pub pid: u32,
    /// Its command, where it was seen.
    pub command: Option<String>,
    /// Its pod, where it is or was in one.
    pub holder: Option<Holder>,
}

/// What a control daemon says of its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It serves, or will with the first client.
    Serving,
    /// A server is starting.
    Initializing,
    /// A server is in fault.
    Fault,
    /// No usable answer; why.
    Silent(String),
}

/// What happens to one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuEvent {
    /// The driver reported an XID, of an application perhaps: under MPS a sign that its server is in fault.
    Xid(u64),
    /// The card itself must not be given to anybody; why.
    Ill(String),
    /// The card is well again.
    Well {
        /// Whether it was gone or reset meanwhile, so that nothing on it lives.
        anew: bool,
    },
    /// Its control daemon runs with the wanted settings.
    DaemonUp {
        /// Whether it ran already.
        adopted: bool,
    },
    /// Its control daemon died.
    DaemonDown {
        /// How.
        how: String,
        /// Clients that the driver still names.
        clients: Vec<Client>,
    },
    /// Its control daemon cannot be started, or must not be replaced now; why.
    DaemonRefused(String),
    /// What its control daemon answered, with its clients; with those that the driver names where it was silent.
    Status(Answer, Vec<Client>),
    /// The server's log told of a fatal fault: a hint, since its clients can write there too.
    Reported {
        /// Whom it named.
        culprit: Option<Culprit>,
        /// Whom it reached.
        affected: Vec<Client>,
    },
    /// A process that was watched is gone.
    Gone(Identity),
    /// MIG devices were made as asked, or why not.
    MigApplied(Result<(), String>),
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// To a GPU.
    Gpu(GpuUuid, GpuEvent),
    /// A MIG device must not be given to anybody, or may again; why.
    MigDevice(GpuUuid, Result<(), String>),
    /// Configuration or inventory now want this.
    Proposed(Box<Proposal>),
    /// Who holds which device, read afresh from the kubelet.
    Holders(BTreeMap<DeviceId, Holder>),
    /// The kubelet was given these devices for a pod that it is admitting.
    Allocated(Vec<DeviceId>),
    /// The keeper can be spoken to; the GPUs that have a daemon.
    KeeperUp(BTreeSet<GpuUuid>),
    /// The keeper cannot be spoken to; why.
    KeeperDown(String),
    /// A deadline may have passed.
    Tick,
}

/// What a configuration makes of the present GPUs.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// Resources and devices.
    pub offer: Arc<Offer>,
    /// Control daemons, by GPU.
    pub daemons: BTreeMap<GpuUuid, DaemonSettings>,
    /// MIG devices to make before the offer can be what the file wants, by GPU.
    pub mig: BTreeMap<GpuUuid, BTreeMap<String, u32>>,
    /// What to do about faults.
    pub faults: Faults,
    /// Whether pods may be evicted for it.
    pub drain: Drain,
}

impl Eq for Proposal {}

/// What an [`Action::Tell`] is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The node.
    Node,
    /// A pod.
    Pod(Pod),
}

/// Something that people should know: becomes an Event in the cluster and a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub subject: Subject,
    /// Whether something is wrong.
    pub warning: bool,
    /// One word, such as `GpuFault`.
    pub reason: &'static str,
    /// A sentence.
    pub text: String,
}

/// How a process is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Force {
    /// SIGTERM.
    Ask,
    /// SIGKILL.
    Kill,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the kubelet that every device of a GPU, or of a MIG device, is healthy, or is not. A device of a MIG device is
    /// healthy when both are.
    SetHealth {
        /// The GPU or MIG device.
        uuid: GpuUuid,
        /// Whether it is.
        healthy: bool,
    },
    /// Offer these devices from now on.
    Publish(Arc<Offer>),
    /// Devices that take no new pod, because an edit waits for them; replaces the former set.
    Cordon(BTreeSet<DeviceId>),
    /// See to it that a GPU has a control daemon with these settings.
    Ensure(GpuUuid, DaemonSettings),
    /// Replace a GPU's control daemon, or what is left of it.
    Restart(GpuUuid, DaemonSettings),
    /// End a GPU's control daemon.
    Stop(GpuUuid),
    /// End a GPU's control daemon once it has no client.
    StopIdle(GpuUuid),
    /// Ask a GPU's control daemon how it is.
    AskStatus(GpuUuid),
    /// Say when a process is gone.
    Watch(GpuUuid, Identity),
    /// End the servers of a GPU's control daemon by force, whatever their clients do; then ask its status.
    ShutServers(GpuUuid),
    /// Signal a process.
    Signal(Identity, Force),
    /// Tell people.
    Tell(Note),
    /// Bring the node's labels up to date.
    SetLabels,
    /// Evict a pod; why.
    Evict(Pod, String),
    /// Make MIG devices.
    ApplyMig(GpuUuid, BTreeMap<String, u32>),
    /// Write down what must outlive this process.
    Save,
    /// A GPU failed.
    Faulted(GpuUuid, &'static str),
    /// A GPU that failed is healthy again after so long.
    Recovered(GpuUuid, Nanoseconds),
}
