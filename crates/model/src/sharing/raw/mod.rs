//! The configuration file as it is written: NVIDIA's keys as its plugin and feature discovery read them (`api/config/v1` of
//! k8s-device-plugin 0.20.0), and this program's own under `cotenant` ([`own`]).
//!
//! NVIDIA's reader passes over what it does not know, so types without `deny_unknown_fields` are read that way and noted;
//! under `cotenant` an unknown key is a problem.

pub mod own;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::document::Items;

pub use own::{Cotenant, MigFile};

/// The configuration of a node: NVIDIA's device-plugin file `version: v1`, and what is added to it under `cotenant`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "Node configuration")]
pub struct Config {
    /// `v1`, also when left out.
    pub version: Option<String>,
    /// How GPUs are found, named and handed to containers.
    pub flags: Option<Flags>,
    /// Names by product pattern; NVIDIA's plugin reads and drops them, and so does cotenant.
    pub resources: Option<Resources>,
    /// How many shares each GPU or MIG device has.
    pub sharing: Option<Shared>,
    /// IMEX channels given to every container with a GPU.
    pub imex: Option<Imex>,
    /// What cotenant adds: a strategy per GPU, size classes, MPS settings, faults, MIG layouts.
    pub cotenant: Option<Cotenant>,
}

/// Settings that NVIDIA's programs also take as options and environment variables.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Flags {
    /// `none` (the default): GPUs in MIG mode are offered whole; `single`: equal MIG devices as `nvidia.com/gpu`; `mixed`:
    /// MIG devices by profile.
    pub mig_strategy: Option<MigStrategy>,
    /// End when there is no driver (`true`, the default) or wait for one.
    pub fail_on_init_error: Option<bool>,
    /// Where MPS daemons have their folders on the host (`/run/nvidia/mps`).
    pub mps_root: Option<String>,
    /// Where the driver is installed on the host (`/`).
    pub nvidia_driver_root: Option<String>,
    /// Where the device nodes are on the host (as `nvidiaDriverRoot`).
    pub nvidia_dev_root: Option<String>,
    /// Give containers GDRCopy's device (`false`).
    pub gdrcopy_enabled: Option<bool>,
    /// Give containers the devices of GPUDirect Storage (`false`).
    pub gds_enabled: Option<bool>,
    /// Give containers the devices of Mellanox OFED (`false`).
    pub mofed_enabled: Option<bool>,
    /// Whether labels go through a `NodeFeature` object; cotenant always writes them to the node.
    #[serde(rename = "useNodeFeatureAPI")]
    pub use_node_feature_api: Option<bool>,
    /// How GPUs are found: `auto`, `nvml` or `tegra`; cotenant always asks NVML.
    pub device_discovery_strategy: Option<DiscoveryStrategy>,
    /// Settings of the device plugin alone.
    pub plugin: Option<Plugin>,
    /// Settings of GPU feature discovery, which writes the labels.
    pub gfd: Option<FeatureDiscovery>,
}

/// What becomes of GPUs in MIG mode.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "documented where the checked type is")]
pub enum MigStrategy {
    None,
    Single,
    Mixed,
}

/// How GPUs are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are NVIDIA's")]
pub enum DiscoveryStrategy {
    Auto,
    Nvml,
    Tegra,
}

/// `flags.plugin`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// Name device nodes to the kubelet too (`false`); needed with its CPU manager.
    pub pass_device_specs: Option<bool>,
    /// How a container is told its devices, one or a list: `envvar` (the default), `volume-mounts`, `cdi-annotations`,
    /// `cdi-cri`.
    pub device_list_strategy: Option<DeviceLists>,
    /// What names a device in `NVIDIA_VISIBLE_DEVICES`: `uuid` (the default) or `index`.
    #[serde(rename = "deviceIDStrategy")]
    pub device_id_strategy: Option<DeviceId>,
    /// Prefix of CDI annotations (`cdi.k8s.io/`).
    #[serde(rename = "cdiAnnotationPrefix")]
    pub cdi_annotation_prefix: Option<String>,
    /// Program that CDI hooks call on the host (`/usr/bin/nvidia-ctk`).
    #[serde(rename = "nvidiaCTKPath")]
    pub nvidia_ctk_path: Option<String>,
    /// Where the driver's files are mounted in the plugin's own container (`/driver-root`).
    pub container_driver_root: Option<String>,
    /// Which GPU the next share comes from: `distributed` (the default), `packed` or, of cotenant, `free-memory`.
    pub shared_devices_allocation_policy: Option<AllocationPolicy>,
}

/// One strategy or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DeviceLists {
    /// One.
    One(DeviceList),
    /// Several at once.
    Several(Vec<DeviceList>),
}

/// How a container is told its devices.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "documented where the checked type is")]
pub enum DeviceList {
    Envvar,
    VolumeMounts,
    CdiAnnotations,
    CdiCri,
}

/// What names a device.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "documented where the checked type is")]
pub enum DeviceId {
    Uuid,
    Index,
}

/// Which GPU the next share comes from.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "documented where the checked type is")]
pub enum AllocationPolicy {
    Distributed,
    Packed,
    FreeMemory,
}

/// `flags.gfd`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeatureDiscovery {
    /// Label once and end; cotenant keeps labels true as long as it runs.
    pub oneshot: Option<bool>,
    /// Leave out the label `nvidia.com/gfd.timestamp` (`false`).
    pub no_timestamp: Option<bool>,
    /// Time between two looks at what the labels say, such as `60s` (the default), or `infinite`.
    pub sleep_interval: Option<Interval>,
    /// File that labels are written to; cotenant writes them to the node.
    pub output_file: Option<String>,
    /// File that names the machine's type; cotenant reads the DMI product name.
    pub machine_type_file: Option<String>,
}

/// A duration as Go writes it, or a number of nanoseconds.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Interval {
    /// Nanoseconds.
    Nanoseconds(f64),
    /// `60s`, `1m30s`, `infinite`.
    Text(String),
}

/// `resources`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct Resources {
    /// Of whole GPUs.
    pub gpus: Option<Vec<Named>>,
    /// Of MIG devices.
    pub mig: Option<Vec<Named>>,
}

/// A name for products that fit a pattern.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(extend("x-exact-keys" = true))]
pub struct Named {
    /// Product, with `*` for any text.
    pub pattern: String,
    /// Resource name.
    pub name: String,
}

/// `sharing`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shared {
    /// Containers take turns on a GPU, without limits.
    pub time_slicing: Option<Replicas>,
    /// Containers share a GPU through MPS, with equal limits; wins over `timeSlicing` where both are there.
    pub mps: Option<Replicas>,
}

/// `sharing.timeSlicing` and `sharing.mps`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-exact-keys" = true))]
pub struct Replicas {
    /// Offer shares as `NAME.shared` (`false`).
    pub rename_by_default: Option<bool>,
    /// Refuse a container that asks for more than one share (`false` for time slicing, `true` for MPS).
    pub fail_requests_greater_than_one: Option<bool>,
    /// The resources whose devices are shared, at least one: `- {name: nvidia.com/gpu, replicas: 4}`.
    pub resources: Items<Replicated>,
}

/// One entry of `sharing.*.resources`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(extend("x-exact-keys" = true))]
pub struct Replicated {
    /// The resource whose devices are shared, such as `nvidia.com/gpu` or `nvidia.com/mig-1g.10gb`.
    pub name: String,
    /// Shares of each device, 2 and more (1 and more for MPS).
    pub replicas: u32,
    /// Which devices: `all` (the default), how many, or a list of indices (`0`, MIG `0:1`) and UUIDs. NVIDIA's plugin
    /// ignores it.
    pub devices: Option<Devices>,
    /// Name that the shares are offered under. NVIDIA's plugin ignores it.
    pub rename: Option<String>,
}

/// Which devices.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Devices {
    /// `all`.
    Word(String),
    /// The first so many.
    Count(u32),
    /// These.
    List(Vec<Device>),
}

/// One device of a list.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Device {
    /// A GPU by index.
    Index(u32),
    /// An index (`0`), a MIG device by two indices (`0:1`) or a UUID; under `cotenant` also a part of a product name.
    Name(String),
}

/// `imex`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Imex {
    /// `[]` (the default) or `[0]`.
    #[serde(rename = "channelIDs")]
    pub channel_ids: Option<Vec<u32>>,
    /// Whether a node without the channel must not serve (`false`).
    pub required: Option<bool>,
}
