//! Device memory held and written, so that it is truly there.

use cotenant_model::Bytes;

use super::{reference, require_words};
use crate::driver::{Buffer, Stream};
use crate::kernels::FillKernels;
use crate::{Check, CudaError};

/// A buffer full of numbers.
#[derive(Debug)]
pub(super) struct HoldLoad {
    fill: FillKernels,
    held: Buffer,
    seed: u64,
}

impl HoldLoad {
    pub(super) fn prepare(stream: &Stream, size: Bytes, seed: u64) -> Result<Self, CudaError> {
        require_words("size", size)?;
        let held = Buffer::allocate(stream.context(), size)?;
        let fill = FillKernels::load(stream.context())?;
        fill.words(stream, held.view(), seed)?;
        Ok(Self { fill, held, seed })
    }

    /// Every word is still what was written, then fresh ones take their place; a sample is compared on the CPU.
    pub(super) fn verify(&mut self, stream: &Stream, fresh: u64) -> Result<Check, CudaError> {
        let lost = self.fill.wrong_words(stream, self.held.view(), self.seed)?;
        stream.poison(self.held.view())?;
        self.fill.words(stream, self.held.view(), fresh)?;
        self.seed = fresh;
        let wrong = self.fill.wrong_words(stream, self.held.view(), fresh)?;
        let sampled = reference::wrong_words(stream, self.held.view(), fresh)?;
        Ok(Check::exact(lost + wrong + sampled, self.held.view().bytes / 8))
    }
}
