//! A write to an address the process does not own, on command.

use cotenant_model::Bytes;

use crate::driver::{Buffer, Stream};
use crate::kernels::TinyKernels;
use crate::{Check, CudaError};

/// The write, and a word of its own to try it on.
#[derive(Debug)]
pub(super) struct FaultLoad {
    kernels: TinyKernels,
    own: Buffer,
}

impl FaultLoad {
    pub(super) fn prepare(stream: &Stream) -> Result<Self, CudaError> {
        let context = stream.context();
        Ok(Self { kernels: TinyKernels::load(context)?, own: Buffer::allocate(context, Bytes(8))? })
    }

    pub(super) fn enqueue(&self, stream: &Stream) -> Result<(), CudaError> {
        self.kernels.write_foreign(stream)
    }

    /// The same store to an address it does own.
    pub(super) fn verify(&self, stream: &Stream, fresh: u64) -> Result<Check, CudaError> {
        stream.poison(self.own.view())?;
        self.kernels.write(stream, self.own.view(), fresh)?;
        let words: Vec<u64> = stream.download(self.own.view(), 1)?;
        Ok(Check::exact(u64::from(words != [fresh]), 1))
    }
}
