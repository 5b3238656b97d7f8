//! CDI specifications: what a container runtime adds to a container for a GPU, in files that it reads.
//!
//! Vendor, classes and file names are those of NVIDIA's plugin, so that the two never stand beside each other with the
//! same device twice, which a runtime refuses.

mod driver;
mod file;
mod layout;
mod spec;

pub use file::{FileError, remove, write};
pub use layout::{Layout, specifications};
pub use spec::{Device, DeviceNode, Edits, Hook, Mount, Specification};

/// Where container runtimes look for generated specifications.
pub const DIRECTORY: &str = "/var/run/cdi";
/// The vendor of every specification.
pub const VENDOR: &str = "k8s.device-plugin.nvidia.com";
/// The class of GPUs and MIG devices.
pub const GPU: &str = "gpu";

/// The classes besides [`GPU`]; their one device is `all`, but for an IMEX channel, whose name is its number.
const GDRCOPY: &str = "gdrcopy";
const GDS: &str = "gds";
const MOFED: &str = "mofed";
const IMEX: &str = "imex-channel";
const CLASSES: [&str; 5] = [GPU, IMEX, GDRCOPY, GDS, MOFED];

/// The qualified name of a device, `vendor/class=name`.
#[must_use]
pub fn qualified(class: &str, name: &str) -> String {
    format!("{VENDOR}/{class}={name}")
}
