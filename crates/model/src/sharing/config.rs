//! The checked configuration of a node.

use std::collections::BTreeMap;

use super::offer::{ResourceName, Strategy};
use super::{check, raw};
use crate::document::{self, Dialect, Node, Problem, Problems};
use crate::{Bytes, GpuUuid, Nanoseconds, Percent};

/// A checked configuration: what the file says, defaults filled in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sharing {
    /// `flags`.
    pub flags: Flags,
    /// `sharing.timeSlicing.resources` or `sharing.mps.resources`, in file order.
    pub replicated: Vec<Replicated>,
    /// `cotenant.gpus`, in file order: the first rule that selects a GPU holds for it; a GPU that none selects follows
    /// `sharing`.
    pub rules: Vec<GpuRule>,
    /// `cotenant.classes` by name.
    pub classes: BTreeMap<String, SizeClass>,
    /// `cotenant.mps`.
    pub mps: Mps,
    /// `cotenant.faults`.
    pub faults: Faults,
    /// `cotenant.drain`.
    pub drain: Drain,
    /// `cotenant.mig-configs`: layouts by name, as mig-parted's files have them.
    pub mig_configs: BTreeMap<String, Vec<MigConfig>>,
    /// What is accepted but does not do what its writer may think: ignored or misplaced keys, values that NVIDIA's plugin
    /// takes and does not use.
    pub notes: Vec<Problem>,
}

impl Sharing {
    /// Reads a configuration file: NVIDIA's `version: v1` with what is added to it. An empty file is the default.
    ///
    /// # Errors
    /// Every problem of the file at once; what is only noted is with them ([`Problems::notes`]).
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        Self::of_documents(file, &document::documents(Dialect::Kubernetes, file, text)?)
    }

    /// Reads a configuration from the documents of its file; as in NVIDIA's plugin, the first counts.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn of_documents(file: &str, documents: &[Node]) -> Result<Self, Problems> {
        let empty = Node::empty();
        let (raw, mut lines) = document::typed::<raw::Config>(file, documents.first().unwrap_or(&empty))?;
        if let Some(second) = documents.get(1) {
            let message = "a second document begins, which is not read, as in NVIDIA's plugin";
            lines.note_at(second.position(), message, "remove the `---`, or the document".to_owned());
        }
        check::sharing(raw, lines)
    }

    /// The JSON schema of the file.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        document::schema::<raw::Config>()
    }
}

/// Reads a file of mig-parted (`version: v1`, `mig-configs`).
///
/// # Errors
/// Every problem of the file at once.
pub fn read_mig_configs(file: &str, text: &str) -> Result<BTreeMap<String, Vec<MigConfig>>, Problems> {
    let documents = document::documents(Dialect::Kubernetes, file, text)?;
    let (raw, lines) = document::typed::<raw::MigFile>(file, documents.first().unwrap_or(&Node::empty()))?;
    check::mig_file(&raw, lines)
}

/// `flags`, with NVIDIA's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    /// `migStrategy`.
    pub mig_strategy: MigStrategy,
    /// `failOnInitError`: end rather than wait for a driver.
    pub fail_on_init_error: bool,
    /// `nvidiaDriverRoot`.
    pub driver_root: String,
    /// `nvidiaDevRoot`.
    pub dev_root: String,
    /// `mpsRoot`; `/run/nvidia/mps` where the file says nothing.
    pub mps_root: String,
    /// `gdrcopyEnabled`, `gdsEnabled`, `mofedEnabled`.
    pub extras: Extras,
    /// `plugin.passDeviceSpecs`.
    pub pass_device_specs: bool,
    /// `plugin.deviceListStrategy`, without repeats.
    pub device_list: Vec<DeviceListStrategy>,
    /// `plugin.deviceIDStrategy`.
    pub device_id: DeviceIdStrategy,
    /// `plugin.cdiAnnotationPrefix`.
    pub cdi_annotation_prefix: String,
    /// `plugin.nvidiaCTKPath`.
    pub nvidia_ctk_path: String,
    /// `plugin.containerDriverRoot`.
    pub container_driver_root: String,
    /// `plugin.sharedDevicesAllocationPolicy`.
    pub allocation: AllocationPolicy,
    /// `gfd.noTimestamp`.
    pub no_timestamp: bool,
    /// `gfd.sleepInterval`; `None` is `infinite`.
    pub label_interval: Option<Nanoseconds>,
    /// `imex.channelIDs` and `imex.required`.
    pub imex: Option<Imex>,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            mig_strategy: MigStrategy::default(),
            fail_on_init_error: true,
            driver_root: "/".to_owned(),
            dev_root: "/".to_owned(),
            mps_root: "/run/nvidia/mps".to_owned(),
            extras: Extras::default(),
            pass_device_specs: false,
            device_list: vec![DeviceListStrategy::Envvar],
            device_id: DeviceIdStrategy::default(),
            cdi_annotation_prefix: "cdi.k8s.io/".to_owned(),
            nvidia_ctk_path: "/usr/bin/nvidia-ctk".to_owned(),
            container_driver_root: "/driver-root".to_owned(),
            allocation: AllocationPolicy::default(),
            no_timestamp: false,
            label_interval: Some(Nanoseconds(60_000_000_000)),
            imex: None,
        }
    }
}

/// Extra devices that containers may be given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extras {
    /// GDRCopy.
    pub gdrcopy: bool,
    /// GPUDirect Storage.
    pub gds: bool,
    /// Mellanox OFED.
    pub mofed: bool,
}

/// `imex`: channel 0, and whether its absence is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imex {
    /// Whether a node without the channel must not serve.
    pub required: bool,
}

/// `flags.migStrategy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum MigStrategy {
    /// GPUs in MIG mode are offered whole.
    #[default]
    None,
    /// Every GPU has the same MIG devices, offered as `nvidia.com/gpu`.
    Single,
    /// MIG devices are offered by their profile's name.
    Mixed,
}

/// How a container is told its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceListStrategy {
    /// `NVIDIA_VISIBLE_DEVICES` names them.
    Envvar,
    /// Mounts under `/var/run/nvidia-container-devices` name them.
    VolumeMounts,
    /// Annotations for the container runtime.
    CdiAnnotations,
    /// The kubelet's own CDI field.
    CdiCri,
}

/// What names a device in `NVIDIA_VISIBLE_DEVICES`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum DeviceIdStrategy {
    /// Its UUID.
    #[default]
    Uuid,
    /// Its index.
    Index,
}

/// Which GPU the next share comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum AllocationPolicy {
    /// The one with the fewest shares taken.
    #[default]
    Distributed,
    /// The one with the most shares taken.
    Packed,
    /// The one with the most free device memory (ours).
    FreeMemory,
}

/// One entry of `sharing.*.resources`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicated {
    /// `TimeSlicing` or `Mps`.
    pub strategy: Strategy,
    /// The resource whose devices are shared, such as `nvidia.com/gpu`.
    pub resource: ResourceName,
    /// The name they are offered under: the same, `….shared`, or `rename`.
    pub offered: ResourceName,
    /// Which of its devices.
    pub devices: Selector,
    /// Shares of each, 2 and more (1 is allowed under MPS).
    pub replicas: u32,
    /// Whether a container may ask for one at most.
    pub one_per_container: bool,
}

/// Which devices are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// All of them.
    All,
    /// The first so many.
    Count(u32),
    /// These.
    List(Vec<DeviceReference>),
}

/// A device as a file names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DeviceReference {
    /// A GPU by index.
    Index(u32),
    /// A MIG device by the index of its GPU and its own.
    MigIndex(u32, u32),
    /// A GPU or MIG device by UUID.
    Uuid(GpuUuid),
    /// Every GPU whose product name contains this text, letter case aside.
    Product(String),
}

/// One rule of `cotenant.gpus`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuRule {
    /// Which GPUs.
    pub devices: Selector,
    /// What they do.
    pub sharing: GpuSharing,
}

/// How the GPUs of a rule are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuSharing {
    /// One container each.
    Exclusive {
        /// Name offered.
        resource: ResourceName,
    },
    /// Equal turns.
    TimeSlicing {
        /// Name offered.
        resource: ResourceName,
        /// Shares of each GPU, 2 and more.
        replicas: u32,
        /// Whether a container may ask for one at most.
        one_per_container: bool,
    },
    /// Equal shares of one MPS server.
    Mps {
        /// Name offered.
        resource: ResourceName,
        /// Shares of each GPU, 1 and more.
        replicas: u32,
        /// Whether a container may ask for one at most.
        one_per_container: bool,
    },
    /// Unequal shares of one MPS server: how many of each class a GPU holds.
    MpsClasses {
        /// Count by class name; every name is a key of [`Sharing::classes`].
        counts: BTreeMap<String, u32>,
    },
    /// MIG devices.
    Mig {
        /// Profiles and how many of each; `None` takes the devices as they are.
        layout: Option<BTreeMap<String, u32>>,
        /// Time-sliced shares of each MIG device; 1 is none.
        replicas: u32,
    },
}

/// A size of share that pods ask for by resource name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeClass {
    /// Name offered, `nvidia.com/gpu.CLASS` unless the file says otherwise.
    pub resource: ResourceName,
    /// Device memory.
    pub memory: Bytes,
    /// Share of the streaming multiprocessors.
    pub percent: Percent,
}

/// `cotenant.mps`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mps {
    /// How often the streaming multiprocessors may be handed out, 1.0 and more: each of `n` equal shares may use
    /// `100 × factor ÷ n` percent. Memory is never oversubscribed.
    pub oversubscription: f64,
    /// Memory of each GPU that no share gets: the driver's own and the MPS server's context; `None` is this program's default.
    pub reserve: Option<Bytes>,
    /// One server for every user (`-multiuser-server`); clients then share logs and are not isolated by user.
    pub multi_user: bool,
    /// Whether the compute mode is set to exclusive-process while MPS shares a GPU, so that a process without MPS cannot slip in.
    pub exclusive_compute_mode: bool,
    /// The dialogue's protocol.
    pub protocol: MpsProtocol,
    /// Whether the host's `<mps root>/shm` is mounted over the container's `/dev/shm`, as NVIDIA's plugin does.
    pub mount_shm: bool,
}

impl Default for Mps {
    fn default() -> Self {
        Self {
            oversubscription: 1.0,
            reserve: None,
            multi_user: false,
            exclusive_compute_mode: true,
            protocol: MpsProtocol::default(),
            mount_shm: true,
        }
    }
}

/// The protocol of the MPS control dialogue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum MpsProtocol {
    /// 3 where the control program has it, else 2.
    #[default]
    Automatic,
    /// 2.
    Two,
    /// 3 (driver 615 and newer).
    Three,
}

/// `cotenant.faults`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// How long affected containers may take to end by themselves before they are ended.
    pub grace: Nanoseconds,
    /// When a repeat offender is kept off shared GPUs; `None` never.
    pub quarantine: Option<Quarantine>,
}

impl Default for Faults {
    /// Ten seconds: a client that sees the fault ends at once, one that ignores it holds the GPU for everybody.
    fn default() -> Self {
        Self { grace: Nanoseconds(10_000_000_000), quarantine: None }
    }
}

/// When a repeat offender is kept off shared GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// After so many faults …
    pub after: u32,
    /// … in this time.
    pub within: Nanoseconds,
    /// For how long.
    pub lasts: Nanoseconds,
    /// What is done about its pods meanwhile.
    pub action: QuarantineAction,
}

/// What is done about the pods of a repeat offender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum QuarantineAction {
    /// An Event says so.
    #[default]
    Report,
    /// They are evicted from shared GPUs of this node.
    Evict,
}

/// Whether an edit may evict the pods that it would disturb.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Drain {
    /// No: the edit waits until they are gone.
    #[default]
    Deny,
    /// Yes.
    Allow,
}

/// One entry of a mig-parted layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigConfig {
    /// `device-filter`: PCI device ids (`0xDDDDVVVV`); empty for every GPU.
    pub filter: Vec<String>,
    /// Which GPUs.
    pub devices: Selector,
    /// `mig-enabled`.
    pub enabled: bool,
    /// `mig-devices`: profiles and how many of each.
    pub layout: BTreeMap<String, u32>,
}
