//! A device-to-device copy.

use cotenant_model::Bytes;

use super::{reference, require_words};
use crate::driver::{Buffer, Stream};
use crate::kernels::FillKernels;
use crate::{Check, CudaError};

/// A source, a target, and the driver's own copy (`cuMemcpyDtoDAsync`) between them.
#[derive(Debug)]
pub(super) struct CopyLoad {
    fill: FillKernels,
    from: Buffer,
    to: Buffer,
}

impl CopyLoad {
    pub(super) fn prepare(stream: &Stream, size: Bytes, seed: u64) -> Result<Self, CudaError> {
        require_words("size", size)?;
        let context = stream.context();
        let (from, to) = (Buffer::allocate(context, size)?, Buffer::allocate(context, size)?);
        let fill = FillKernels::load(context)?;
        fill.words(stream, from.view(), seed)?;
        Ok(Self { fill, from, to })
    }

    pub(super) fn enqueue(&self, stream: &Stream) -> Result<(), CudaError> {
        stream.copy(&self.to, &self.from)
    }

    /// Every word of the target is the source's, by the device's count and by a sample on the CPU.
    pub(super) fn verify(&self, stream: &Stream, fresh: u64) -> Result<Check, CudaError> {
        self.fill.words(stream, self.from.view(), fresh)?;
        stream.poison(self.to.view())?;
        self.enqueue(stream)?;
        let wrong = self.fill.wrong_words(stream, self.to.view(), fresh)?;
        let sampled = reference::wrong_words(stream, self.to.view(), fresh)?;
        Ok(Check::exact(wrong + sampled, self.to.view().bytes / 8))
    }
}
