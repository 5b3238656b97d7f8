//! Device files of GPUs and MIG devices, as the driver makes them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Where the driver says which capability has which device file.
pub const MIG_MINORS: &str = "/proc/driver/nvidia-caps/mig-minors";

/// Files that every process with a CUDA context opens, and two that some do. A host may lack any of them.
const CONTROL: [&str; 4] = ["/dev/nvidia-modeset", "/dev/nvidia-uvm-tools", "/dev/nvidia-uvm", "/dev/nvidiactl"];

/// Why the device files of a MIG device are not known.
#[derive(Debug, thiserror::Error)]
pub enum DeviceFileError {
    /// The driver's table cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The table.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The table has no such capability.
    #[error("the driver names no device file for {capability}")]
    Capability {
        /// The capability, such as `gpu0/gi1/access`.
        capability: String,
    },
}

/// The file of a GPU: `/dev/nvidia<minor>`.
#[must_use]
pub fn gpu(minor: u32) -> String {
    format!("/dev/nvidia{minor}")
}

/// The file of an IMEX channel.
#[must_use]
pub fn imex_channel(channel: u32) -> String {
    format!("/dev/nvidia-caps-imex-channels/channel{channel}")
}

/// The control files that exist, looked for below each of `roots`: `/` for what this process was given, and where it sees
/// the host's driver.
#[must_use]
pub fn control(roots: &[&Path]) -> Vec<String> {
    CONTROL.into_iter().filter(|path| exists(roots, path)).map(str::to_owned).collect()
}

/// Whether `path` exists below any of `roots`.
#[must_use]
pub fn exists(roots: &[&Path], path: &str) -> bool {
    roots.iter().any(|root| below(root, path).exists())
}

/// An absolute path as it is below another root.
pub(crate) fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The driver's table of MIG capabilities and the numbers of their device files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MigMinors(BTreeMap<String, u32>);

impl MigMinors {
    /// Reads the table at `path`; a driver without MIG has none, and so it is empty.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(path: &Path) -> Result<Self, DeviceFileError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(DeviceFileError::Read { path: path.to_owned(), source }),
        }
    }

    /// Reads lines such as `gpu0/gi1/ci0/access 13`; others are passed over.
    fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let (capability, minor) = line.trim().rsplit_once(' ')?;
            Some((capability.to_owned(), minor.parse().ok()?))
        };
        Self(text.lines().filter_map(entry).collect())
    }

    /// The files of a MIG device: its GPU's and those of its two capabilities.
    ///
    /// # Errors
    /// When the table lacks a capability.
    pub fn device(&self, minor: u32, instance: u32, compute_instance: u32) -> Result<Vec<String>, DeviceFileError> {
        let capability = |capability: String| match self.0.get(&capability) {
            Some(number) => Ok(format!("/dev/nvidia-caps/nvidia-cap{number}")),
            None => Err(DeviceFileError::Capability { capability }),
        };
        Ok(vec![
            gpu(minor),
            capability(format!("gpu{minor}/gi{instance}/access"))?,
            capability(format!("gpu{minor}/gi{instance}/ci{compute_instance}/access"))?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mig_device_has_three_files() {
        let table = MigMinors::parse("config 1\nmonitor 2\ngpu3/gi1/access 12\ngpu3/gi1/ci0/access 13\nnonsense\n");
        let files = table.device(3, 1, 0).expect("files");
        assert_eq!(files, ["/dev/nvidia3", "/dev/nvidia-caps/nvidia-cap12", "/dev/nvidia-caps/nvidia-cap13"]);
        let error = table.device(3, 1, 1).expect_err("no such instance").to_string();
        assert_eq!(error, "the driver names no device file for gpu3/gi1/ci1/access");
    }

    #[test]
    fn a_driver_without_mig_has_an_empty_table() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(MigMinors::read(&folder.path().join("mig-minors")).expect("none"), MigMinors::default());
        assert!(MigMinors::read(folder.path()).is_err());
    }

    #[test]
    fn only_control_files_that_exist_are_named() {
        let root = tempfile::tempdir().expect("folder");
        std::fs::create_dir(root.path().join("dev")).expect("folder");
        std::fs::write(root.path().join("dev/nvidiactl"), "").expect("file");
        assert_eq!(control(&[Path::new("/nowhere"), root.path()]), ["/dev/nvidiactl"]);
    }
}
