//! Loading the driver library, and why that failed.

use std::path::{Path, PathBuf};

use nvml_wrapper::error::NvmlError;

/// Why the driver library cannot be used; each reason has its own [fix](Self::fix).
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no driver library, or the linker cannot load it.
    #[error("the NVIDIA driver library `{library}` cannot be loaded")]
    NoLibrary {
        /// The library as asked for.
        library: PathBuf,
        /// What the dynamic linker said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The library loads but is not a working NVML: a stub of the CUDA toolkit, for example.
    #[error("`{library}` is not a working NVML library")]
    NotNvml {
        /// The library as asked for.
        library: PathBuf,
        /// What it answered.
        #[source]
        source: NvmlError,
    },
    /// The devices exist, but this user or container may not use them.
    #[error("no permission to use the NVIDIA devices")]
    NoPermission {
        /// What the driver answered.
        #[source]
        source: NvmlError,
    },
    /// The kernel driver is not loaded, or its device files are not here.
    #[error("the NVIDIA kernel driver is not loaded here")]
    NoDriver {
        /// What the library answered.
        #[source]
        source: NvmlError,
    },
    /// The library is of another version than the loaded kernel driver.
    #[error("the NVIDIA library `{library}` is of another version than the loaded kernel driver")]
    VersionMismatch {
        /// The library as asked for.
        library: PathBuf,
        /// What the library answered.
        #[source]
        source: NvmlError,
    },
    /// The driver works and shows no GPU.
    #[error("the NVIDIA driver is loaded but shows no GPU")]
    NoGpu,
    /// Anything else the driver answers to the very first call.
    #[error("the NVIDIA driver does not answer")]
    Failed {
        /// What it answered.
        #[source]
        source: NvmlError,
    },
}

impl OpenError {
    /// What the user can do about it, in a sentence.
    #[must_use]
    pub const fn fix(&self) -> &'static str {
        match self {
            Self::NoLibrary { .. } => {
                "install the NVIDIA driver; in a container, run with the NVIDIA container runtime \
                 (NVIDIA_DRIVER_CAPABILITIES must contain `utility`), or name the library in COTENANT_NVML"
            }
            Self::NotNvml { .. } => {
                "use the driver's own libnvidia-ml.so.1, not the stub of the CUDA toolkit; check LD_LIBRARY_PATH and COTENANT_NVML"
            }
            Self::NoPermission { .. } => {
                "allow this user to read and write /dev/nvidiactl and /dev/nvidia0; in a container, give it the devices"
            }
            Self::NoDriver { .. } => {
                "load the kernel module (`modprobe nvidia`), or in a container pass the NVIDIA devices in; `nvidia-smi` must work"
            }
            Self::VersionMismatch { .. } => {
                "the driver was updated under the running kernel module: reboot, or reload the nvidia kernel modules"
            }
            Self::NoGpu => "check `lspci | grep -i nvidia`, and in a container NVIDIA_VISIBLE_DEVICES",
            Self::Failed { .. } => {
                "look into the kernel log (`dmesg | grep -i -e nvrm -e xid`); a container that lost its devices must be restarted"
            }
        }
    }
}

/// Sorts the error of loading and initializing a library.
pub(crate) fn sort(library: &Path, source: NvmlError) -> OpenError {
    let library = library.to_owned();
    #[expect(clippy::wildcard_enum_match_arm, reason = "NVML's errors that say nothing about opening are one kind")]
    match source {
        NvmlError::LibloadingError(source) => OpenError::NoLibrary { library, source: Box::new(source) },
        NvmlError::FailedToLoadSymbol(_) | NvmlError::LibraryNotFound | NvmlError::FunctionNotFound => {
            OpenError::NotNvml { library, source }
        }
        NvmlError::NoPermission | NvmlError::OperatingSystem => OpenError::NoPermission { source },
        NvmlError::DriverNotLoaded => OpenError::NoDriver { source },
        NvmlError::LibRmVersionMismatch => OpenError::VersionMismatch { library, source },
        NvmlError::NotFound => OpenError::NoGpu,
        _ => OpenError::Failed { source },
    }
}
