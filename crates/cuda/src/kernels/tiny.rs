//! The smallest kernels (`kernels/tiny.cu`).

use std::sync::Arc;

use crate::CudaError;
use crate::driver::{Argument, Context, Entry, Function, Module, Parameter, Stream, View};
use crate::kernels::require;

pub(super) const PTX: &str = include_str!("../../ptx/tiny.ptx");

pub(super) static COUNT_UP: Entry = Entry { name: "count_up", parameters: &[Parameter::Wide] };
pub(super) static WRITE_WORD: Entry = Entry { name: "write_word", parameters: &[Parameter::Wide, Parameter::Wide] };

/// An address in the first page, where the driver maps nothing.
const FOREIGN: u64 = 0x10;

/// The smallest kernels.
#[derive(Debug)]
pub(crate) struct TinyKernels {
    count_up: Function,
    write_word: Function,
}

impl TinyKernels {
    /// Counters one launch counts up, 32 bits each: one a thread of a warp.
    pub(crate) const COUNTERS: usize = 32;

    /// Loads the kernels.
    pub(crate) fn load(context: &Arc<Context>) -> Result<Self, CudaError> {
        let module = Module::load(context, PTX)?;
        Ok(Self { count_up: module.function(&COUNT_UP, 32, 0)?, write_word: module.function(&WRITE_WORD, 1, 0)? })
    }

    /// Adds 1 to every counter.
    pub(crate) fn count_up(&self, stream: &Stream, counters: View<'_>) -> Result<(), CudaError> {
        require(&COUNT_UP, counters, 4 * Self::COUNTERS as u64)?;
        // SAFETY: each of the 32 threads writes the counter of its number, which the view holds.
        unsafe { stream.launch(&self.count_up, (1, 1), &[counters.into()]) }
    }

    /// Writes a word to the start of a view.
    pub(crate) fn write(&self, stream: &Stream, to: View<'_>, word: u64) -> Result<(), CudaError> {
        require(&WRITE_WORD, to, 8)?;
        // SAFETY: one thread writes 8 bytes, which the view holds.
        unsafe { stream.launch(&self.write_word, (1, 1), &[to.into(), Argument::Wide(word)]) }
    }

    /// Writes a word where nothing is mapped: the context is lost, and under MPS every neighbour's.
    pub(crate) fn write_foreign(&self, stream: &Stream) -> Result<(), CudaError> {
        // SAFETY: nothing is mapped there, so no memory is changed: the GPU stops the context instead, as wanted.
        unsafe { stream.launch(&self.write_word, (1, 1), &[Argument::Wide(FOREIGN), Argument::Wide(0)]) }
    }
}
