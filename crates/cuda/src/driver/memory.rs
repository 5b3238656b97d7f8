//! Device memory with an owner.

use std::sync::Arc;

use cotenant_model::Bytes;
use cudarc::driver::{result, sys};

use super::{Context, Named as _, is_out_of_memory, log_failure};
use crate::CudaError;

/// Types of which every pattern of bits is a value and no byte is padding.
///
/// # Safety
/// Both must be true of the type.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for u16 {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}
// SAFETY: every pattern of bits is a float.
unsafe impl Plain for f32 {}

/// An allocation on the device; its contents are undefined until written.
#[derive(Debug)]
pub(crate) struct Buffer {
    context: Arc<Context>,
    address: sys::CUdeviceptr,
    bytes: u64,
}

/// A part of a [`Buffer`], as kernels get it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    owner: std::marker::PhantomData<&'a Buffer>,
    /// Address on the device.
    pub(crate) address: u64,
    /// Length.
    pub(crate) bytes: u64,
}

impl Buffer {
    /// Allocates; device memory is counted to the process from here on.
    pub(crate) fn allocate(context: &Arc<Context>, bytes: Bytes) -> Result<Self, CudaError> {
        context.bind()?;
        let length = usize::try_from(bytes.0).unwrap_or(usize::MAX).max(1);
        // SAFETY: the address is only read and written through views that stay inside the allocation.
        match unsafe { result::malloc_sync(length) } {
            Ok(address) => Ok(Self { context: Arc::clone(context), address, bytes: bytes.0 }),
            Err(error) if is_out_of_memory(error) => {
                Err(CudaError::OutOfMemory { wants: bytes, free: context.memory()?.0 })
            }
            Err(error) => Err(error).named("allocate memory"),
        }
    }

    /// The whole of it.
    pub(crate) const fn view(&self) -> View<'_> {
        View { owner: std::marker::PhantomData, address: self.address, bytes: self.bytes }
    }

    /// As [`View::part`] of the whole.
    pub(crate) fn part(&self, start: u64, bytes: u64) -> View<'_> {
        self.view().part(start, bytes)
    }
}

impl View<'_> {
    /// Bytes from `start` on; fewer than asked, down to none, where the view ends before.
    pub(crate) fn part(self, start: u64, bytes: u64) -> Self {
        let start = start.min(self.bytes);
        Self { address: self.address + start, bytes: bytes.min(self.bytes - start), ..self }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.context.bind().is_err() {
            return;
        }
        // SAFETY: allocated once in `allocate`, freed once here; a view cannot outlive it.
        log_failure("free memory", unsafe { result::free_sync(self.address) });
    }
}
