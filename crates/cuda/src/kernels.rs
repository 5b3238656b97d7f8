//! The kernels behind safe calls: each checks that its buffers are as long as the kernel reads and writes.
#![expect(unsafe_code, reason = "a kernel launch hands addresses to code the compiler does not see")]

mod decode;
mod fill;
mod product;
#[cfg(test)]
mod ptx;
mod tiny;

pub(crate) use decode::{DecodeKernels, Epilogue};
pub(crate) use fill::FillKernels;
pub(crate) use product::ProductKernel;
pub use product::ProductPath;
pub(crate) use tiny::TinyKernels;

use crate::CudaError;
use crate::driver::{Entry, View};

/// Refuses a buffer shorter than a kernel needs.
fn require(entry: &Entry, view: View<'_>, bytes: u64) -> Result<(), CudaError> {
    if view.bytes >= bytes {
        return Ok(());
    }
    Err(CudaError::Launch { entry: entry.name, mismatch: "a buffer shorter than it needs" })
}
