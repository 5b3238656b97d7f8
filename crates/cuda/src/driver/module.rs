//! PTX loaded into a context, and its entries.

use std::ffi::CString;
use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::context::driver_version;
use super::{Context, Named as _, View, log_failure};
use crate::CudaError;

/// What a kernel takes in one place of its parameter list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parameter {
    /// 64 bits: a number or the address of device memory.
    Wide,
    /// 32 bits, a whole number.
    Narrow,
    /// 32 bits, a float.
    Float,
}

/// An entry of a PTX file and what it takes; a test holds these against the PTX.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Name in the PTX.
    pub(crate) name: &'static str,
    /// Parameters in order.
    pub(crate) parameters: &'static [Parameter],
}

/// What a kernel is given in one place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument {
    /// For [`Parameter::Wide`].
    Wide(u64),
    /// For [`Parameter::Narrow`].
    Narrow(u32),
    /// For [`Parameter::Float`].
    Float(f32),
}

impl From<View<'_>> for Argument {
    fn from(view: View<'_>) -> Self {
        Self::Wide(view.address)
    }
}

impl Argument {
    const fn parameter(self) -> Parameter {
        match self {
            Self::Wide(_) => Parameter::Wide,
            Self::Narrow(_) => Parameter::Narrow,
            Self::Float(_) => Parameter::Float,
        }
    }

    /// The bits, in the low end where the parameter is narrower than 64.
    fn bits(self) -> u64 {
        match self {
            Self::Wide(value) => value,
            Self::Narrow(value) => u64::from(value),
            Self::Float(value) => u64::from(value.to_bits()),
        }
    }
}

/// A PTX file compiled by the driver for the context's card.
#[derive(Debug)]
pub(crate) struct Module {
    context: Arc<Context>,
    raw: sys::CUmodule,
}

// SAFETY: a module may be used from any thread in which its context is current.
unsafe impl Send for Module {}
// SAFETY: it is never changed after loading.
unsafe impl Sync for Module {}

impl Module {
    /// Has the driver compile PTX; it keeps the result in its own cache on disk.
    pub(crate) fn load(context: &Arc<Context>, ptx: &str) -> Result<Arc<Self>, CudaError> {
        context.bind()?;
        let ptx = CString::new(ptx).unwrap_or_default();
        // SAFETY: the image ends in a NUL and lives through the call.
        match unsafe { result::module::load_data(ptx.as_ptr().cast()) } {
            Ok(raw) => Ok(Arc::new(Self { context: Arc::clone(context), raw })),
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
                Err(CudaError::DriverTooOld { driver: driver_version()? })
            }
            Err(error) => Err(error).named("load the kernels"),
        }
    }

    /// Looks up an entry, to be launched with `threads` a block and `shared` bytes of dynamic shared memory.
    pub(crate) fn function(
        self: &Arc<Self>,
        entry: &'static Entry,
        threads: u32,
        shared: u32,
    ) -> Result<Function, CudaError> {
        let name = CString::new(entry.name).unwrap_or_default();
        // SAFETY: the module is loaded as long as self lives.
        let raw = unsafe { result::module::get_function(self.raw, name) }.named("look up a kernel")?;
        let function = Function { module: Arc::clone(self), raw, entry, threads, shared };
        if shared > 0 {
            function.allow_shared(shared)?;
        }
        Ok(function)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if self.context.bind().is_err() {
            return;
        }
        // SAFETY: loaded once, unloaded once; its functions held an Arc of self.
        log_failure("unload the kernels", unsafe { result::module::unload(self.raw) });
    }
}

/// A kernel with its block shape.
#[derive(Debug)]
pub(crate) struct Function {
    module: Arc<Module>,
    raw: sys::CUfunction,
    entry: &'static Entry,
    threads: u32,
    shared: u32,
}

// SAFETY: a function may be launched from any thread in which its context is current.
unsafe impl Send for Function {}

/// Most parameters a kernel of this room takes.
const MOST_PARAMETERS: usize = 8;

impl Function {
    /// Blocks of the kernel that fit on one multiprocessor at once.
    pub(crate) fn blocks_per_multiprocessor(&self) -> Result<u32, CudaError> {
        self.module.context.bind()?;
        let threads = i32::try_from(self.threads).unwrap_or(i32::MAX);
        // SAFETY: the function lives as long as its module.
        let blocks =
            unsafe { result::occupancy::max_active_block_per_multiprocessor(self.raw, threads, self.shared as usize) };
        Ok(blocks.named("read the occupancy")?.unsigned_abs())
    }

    /// Threads of a block.
    pub(crate) const fn threads(&self) -> u32 {
        self.threads
    }

    /// Raises the kernel's limit of dynamic shared memory above the 48 KiB every card allows.
    fn allow_shared(&self, bytes: u32) -> Result<(), CudaError> {
        let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        // SAFETY: the function lives as long as its module.
        unsafe { result::function::set_function_attribute(self.raw, attribute, bytes) }.named("reserve shared memory")
    }

    /// Puts one launch into the stream.
    ///
    /// # Safety
    /// Every address among the arguments must be device memory of this context that is as long as the kernel reads or
    /// writes with this grid, and must stay allocated until the stream has been synchronised.
    pub(super) unsafe fn launch(
        &self,
        stream: sys::CUstream,
        grid: (u32, u32),
        arguments: &[Argument],
    ) -> Result<(), CudaError> {
        let fits = arguments.iter().map(|argument| argument.parameter()).eq(self.entry.parameters.iter().copied());
        if !fits || arguments.len() > MOST_PARAMETERS {
            return Err(CudaError::Launch { entry: self.entry.name, mismatch: "other arguments than it takes" });
        }
        let mut slots = [0_u64; MOST_PARAMETERS];
        for (slot, argument) in slots.iter_mut().zip(arguments) {
            *slot = argument.bits();
        }
        // A parameter of 32 bits is read from the first four bytes, the low end on the little-endian hosts CUDA has.
        let mut pointers = slots.each_mut().map(|slot| std::ptr::from_mut(slot).cast());
        let (grid, block) = ((grid.0, grid.1, 1), (self.threads, 1, 1));
        // SAFETY: the arguments have the number and widths the entry takes (above; the entry's list is tested against
        // the PTX), the driver copies them before it returns, and the caller vouches for the addresses.
        unsafe { result::launch_kernel(self.raw, grid, block, self.shared, stream, &mut pointers) }
            .named(self.entry.name)
    }
}
