//! The driver's handles with owners, errors with names, and nothing else.
//!
//! Every handle keeps its context alive and is bound to the calling thread before use, so a [`crate::Load`] may move
//! between threads.
#![expect(unsafe_code, reason = "the driver is a C library")]

mod context;
mod memory;
mod module;
mod stream;

use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;

pub(crate) use context::{Context, device_count, start, uuid};
pub(crate) use memory::{Buffer, Plain, View};
pub(crate) use module::{Argument, Entry, Function, Module, Parameter};
pub(crate) use stream::{Graph, Stream};

use crate::CudaError;

/// Names what the driver refused.
pub(crate) trait Named<T> {
    /// Turns the driver's error into one that says what was asked.
    ///
    /// # Errors
    /// The driver's.
    fn named(self, operation: &'static str) -> Result<T, CudaError>;
}

impl<T> Named<T> for Result<T, DriverError> {
    fn named(self, operation: &'static str) -> Result<T, CudaError> {
        self.map_err(|error| {
            let text = |found: Result<&std::ffi::CStr, DriverError>, missing: String| {
                found.map_or(missing, |text| text.to_string_lossy().into_owned())
            };
            CudaError::Driver {
                operation,
                name: text(error.error_name(), format!("CUDA error {}", error.0 as u32)),
                text: text(error.error_string(), "the driver has no text for it".to_owned()),
            }
        })
    }
}

/// Logs what went wrong while a handle was given back; after a fault the driver refuses that too.
fn log_failure(operation: &'static str, result: Result<(), DriverError>) {
    if let Err(error) = result.named(operation) {
        tracing::debug!(%error, "not given back");
    }
}

/// Whether the driver says that memory ran out.
fn is_out_of_memory(error: DriverError) -> bool {
    error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY
}
