//! Fills buffers with numbers by seed and counts what is not as it should be (`kernels/fill.cu`).

use crate::CudaError;
use crate::driver::{Argument, Buffer, Context, Entry, Function, Module, Parameter, Stream, View};
use crate::random::Format;
use cotenant_model::Bytes;
use std::sync::Arc;

pub(super) const PTX: &str = include_str!("../../ptx/fill.ptx");

const FILL: &[Parameter] = &[Parameter::Wide, Parameter::Wide, Parameter::Wide];
pub(super) static FILL_F16: Entry = Entry { name: "fill_f16", parameters: FILL };
pub(super) static FILL_BF16: Entry = Entry { name: "fill_bf16", parameters: FILL };
pub(super) static FILL_WORDS: Entry = Entry { name: "fill_words", parameters: FILL };
pub(super) static COUNT_WRONG_WORDS: Entry = Entry {
    name: "count_wrong_words",
    parameters: &[Parameter::Wide, Parameter::Wide, Parameter::Wide, Parameter::Wide],
};
pub(super) static COUNT_NOT_FINITE: Entry = Entry {
    name: "count_not_finite",
    parameters: &[Parameter::Wide, Parameter::Narrow, Parameter::Wide, Parameter::Wide],
};

const THREADS: u32 = 256;
/// Blocks enough to fill any card; a longer buffer is walked in strides.
const MOST_BLOCKS: u32 = 4096;

/// The fill and count kernels with the word they count into.
#[derive(Debug)]
pub(crate) struct FillKernels {
    f16: Function,
    bf16: Function,
    words: Function,
    wrong_words: Function,
    not_finite: Function,
    count: Buffer,
}

fn blocks(items: u64) -> (u32, u32) {
    let blocks = u32::try_from(items.div_ceil(u64::from(THREADS))).unwrap_or(u32::MAX);
    (blocks.clamp(1, MOST_BLOCKS), 1)
}

impl FillKernels {
    /// Loads the kernels.
    pub(crate) fn load(context: &Arc<Context>) -> Result<Self, CudaError> {
        let module = Module::load(context, PTX)?;
        let function = |entry| module.function(entry, THREADS, 0);
        Ok(Self {
            f16: function(&FILL_F16)?,
            bf16: function(&FILL_BF16)?,
            words: function(&FILL_WORDS)?,
            wrong_words: function(&COUNT_WRONG_WORDS)?,
            not_finite: function(&COUNT_NOT_FINITE)?,
            count: Buffer::allocate(context, Bytes(8))?,
        })
    }

    /// Fills whole 16-byte groups of a view with the format's numbers (see [`Format::fill`]).
    pub(crate) fn numbers(&self, stream: &Stream, to: View<'_>, format: Format, seed: u64) -> Result<(), CudaError> {
        let function = match format {
            Format::F16 => &self.f16,
            Format::Bf16 => &self.bf16,
        };
        let groups = to.bytes / 16;
        let arguments = [to.into(), Argument::Wide(seed), Argument::Wide(groups)];
        // SAFETY: the kernel writes `groups` times 16 bytes, which the view holds; the caller's buffer outlives the stream's
        // work because every load waits for it before it returns.
        unsafe { stream.launch(function, blocks(groups), &arguments) }
    }

    /// Fills whole 8-byte words of a view with the sequence of the seed.
    pub(crate) fn words(&self, stream: &Stream, to: View<'_>, seed: u64) -> Result<(), CudaError> {
        let words = to.bytes / 8;
        let arguments = [to.into(), Argument::Wide(seed), Argument::Wide(words)];
        // SAFETY: as in `numbers`, with 8 bytes a word.
        unsafe { stream.launch(&self.words, blocks(words), &arguments) }
    }

    /// How many whole words of a view differ from the sequence of the seed.
    pub(crate) fn wrong_words(&self, stream: &Stream, view: View<'_>, seed: u64) -> Result<u64, CudaError> {
        let words = view.bytes / 8;
        stream.set(self.count.view(), 0)?;
        let arguments = [view.into(), Argument::Wide(seed), Argument::Wide(words), self.count.view().into()];
        // SAFETY: the kernel reads the words of the view and writes the one word of the counter.
        unsafe { stream.launch(&self.wrong_words, blocks(words), &arguments) }?;
        self.counted(stream)
    }

    /// How many 16-bit numbers of a view are infinite or not a number.
    pub(crate) fn not_finite(&self, stream: &Stream, view: View<'_>, format: Format) -> Result<u64, CudaError> {
        let values = view.bytes / 2;
        stream.set(self.count.view(), 0)?;
        let infinity = Argument::Narrow(format.infinity());
        let arguments = [view.into(), infinity, Argument::Wide(values), self.count.view().into()];
        // SAFETY: the kernel reads the values of the view and writes the one word of the counter.
        unsafe { stream.launch(&self.not_finite, blocks(values), &arguments) }?;
        self.counted(stream)
    }

    fn counted(&self, stream: &Stream) -> Result<u64, CudaError> {
        let counted: Vec<u64> = stream.download(self.count.view(), 1)?;
        Ok(counted.first().copied().unwrap_or(u64::MAX))
    }
}
