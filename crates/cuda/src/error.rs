//! What can go wrong between this program and a GPU.

use cotenant_model::Bytes;

/// Why a GPU did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// The driver's library is not on this machine.
    #[error("no CUDA driver library (libcuda.so.1) was found")]
    LibraryMissing,
    /// The driver shows no such device.
    #[error("no CUDA device {wanted}; {visible} visible")]
    UnknownDevice {
        /// Ordinal or UUID.
        wanted: String,
        /// Devices the driver shows, after `CUDA_VISIBLE_DEVICES`.
        visible: u32,
    },
    /// The card has too little memory left.
    #[error("out of GPU memory: wants {wants}, {free} free")]
    OutOfMemory {
        /// Bytes of the allocation that failed.
        wants: Bytes,
        /// Bytes free at that moment, as the driver tells.
        free: Bytes,
    },
    /// The driver is too old for the kernels' PTX (ISA 8.2).
    #[error("the driver runs CUDA {}.{}; the kernels need 12.2 (driver 535) or newer", driver.0, driver.1)]
    DriverTooOld {
        /// Newest CUDA version the driver runs, major and minor.
        driver: (u32, u32),
    },
    /// The card is older than any the kernels are compiled for.
    #[error("compute capability {}.{} is below 7.5", capability.0, capability.1)]
    DeviceTooOld {
        /// Compute capability, major and minor.
        capability: (u32, u32),
    },
    /// The driver refused.
    #[error("{operation}: {name} ({text})")]
    Driver {
        /// What was asked of the driver.
        operation: &'static str,
        /// The driver's name of the error, such as `CUDA_ERROR_ILLEGAL_ADDRESS`.
        name: String,
        /// The driver's text for it.
        text: String,
    },
    /// The kernel's sizes cannot be run.
    #[error("{what} is {value}, not {wanted}")]
    Size {
        /// Which size.
        what: &'static str,
        /// Its value.
        value: u64,
        /// What was wanted.
        wanted: &'static str,
    },
    /// The kernel has no steps.
    #[error("{kind} has no steps to run")]
    NoSteps {
        /// Kind of the kernel.
        kind: &'static str,
    },
    /// The kernel cannot fault on command.
    #[error("{kind} does not write to foreign addresses")]
    NoFault {
        /// Kind of the kernel.
        kind: &'static str,
    },
    /// A kernel would have been launched on buffers or arguments that do not fit it: a bug of this room.
    #[error("{entry} was launched with {mismatch}")]
    Launch {
        /// Entry of the PTX.
        entry: &'static str,
        /// What does not fit.
        mismatch: &'static str,
    },
}
