//! The form of a CDI specification, as far as it is used here.

use serde::Serialize;

/// The oldest version of the format that has all that is used: `hostPath` of device files and names that begin with a
/// digit came with 0.5.0.
const VERSION: &str = "0.5.0";

/// A specification: the devices of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Specification {
    cdi_version: &'static str,
    /// `vendor/class`.
    pub kind: String,
    /// Devices; a specification without any is not valid.
    pub devices: Vec<Device>,
    /// What every container with any of the devices gets.
    #[serde(skip_serializing_if = "Edits::is_empty")]
    pub container_edits: Edits,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its name, unique in its kind.
    pub name: String,
    /// What a container with it gets; may not be empty.
    pub container_edits: Edits,
}

/// What a container gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Edits {
    /// Variables, `NAME=VALUE`.
    #[serde(rename = "env", skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// Device files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_nodes: Vec<DeviceNode>,
    /// Programs of the host that prepare it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// Files and folders of the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
}

/// A device file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceNode {
    /// Path in the container.
    pub path: String,
    /// Path on the host, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
}

/// A program of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// When it runs.
    pub hook_name: &'static str,
    /// The program, on the host.
    pub path: String,
    /// Its arguments, its own name first.
    #[serde(rename = "args")]
    pub arguments: Vec<String>,
}

/// A file or folder of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Path on the host.
    pub host_path: String,
    /// Path in the container.
    pub container_path: String,
    /// Options of the mount.
    pub options: Vec<&'static str>,
}

impl Specification {
    /// A specification of the class; `None` when no device has anything to give.
    #[must_use]
    pub fn new(class: &str, devices: Vec<Device>, container_edits: Edits) -> Option<Self> {
        let devices: Vec<Device> = devices.into_iter().filter(|device| !device.container_edits.is_empty()).collect();
        let kind = format!("{}/{class}", super::VENDOR);
        (!devices.is_empty()).then_some(Self { cdi_version: VERSION, kind, devices, container_edits })
    }

    /// The qualified names of its devices.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.devices.iter().map(|device| format!("{}={}", self.kind, device.name))
    }
}

impl Edits {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
