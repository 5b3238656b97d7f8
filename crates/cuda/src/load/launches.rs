//! Many tiny kernels, launched one by one.

use cotenant_model::Bytes;
use cotenant_model::kernel::LaunchBound;

use crate::driver::{Buffer, Stream};
use crate::kernels::TinyKernels;
use crate::random::Draws;
use crate::{Check, CudaError};

/// A burst of launches that each count up the same 32 counters.
#[derive(Debug)]
pub(super) struct LaunchLoad {
    kernels: TinyKernels,
    launches: u32,
    counters: Buffer,
}

impl LaunchLoad {
    pub(super) fn prepare(stream: &Stream, launches: &LaunchBound) -> Result<Self, CudaError> {
        let context = stream.context();
        let counters = Buffer::allocate(context, Bytes(4 * TinyKernels::COUNTERS as u64))?;
        stream.set(counters.view(), 0)?;
        Ok(Self { kernels: TinyKernels::load(context)?, launches: launches.launches, counters })
    }

    pub(super) fn enqueue(&self, stream: &Stream) -> Result<(), CudaError> {
        (0..self.launches).try_for_each(|_| self.kernels.count_up(stream, self.counters.view()))
    }

    /// From random starts, every counter is as many higher as there were launches.
    pub(super) fn verify(&self, stream: &Stream, fresh: u64) -> Result<Check, CudaError> {
        let mut draws = Draws::new(fresh);
        let starts: Vec<u32> = (0..TinyKernels::COUNTERS).map(|_| (draws.draw() >> 32) as u32).collect();
        stream.upload(self.counters.view(), &starts)?;
        self.enqueue(stream)?;
        let ends: Vec<u32> = stream.download(self.counters.view(), TinyKernels::COUNTERS)?;
        let wrong = starts.iter().zip(&ends).filter(|(start, end)| start.wrapping_add(self.launches) != **end).count();
        Ok(Check::exact(wrong as u64, TinyKernels::COUNTERS as u64))
    }
}
