//! Matrix–vector products and the small kernels between them (`kernels/decode.cu`).

use std::sync::Arc;

use crate::CudaError;
use crate::driver::{Argument, Context, Entry, Function, Module, Parameter, Stream, View};
use crate::kernels::require;

pub(super) const PTX: &str = include_str!("../../ptx/decode.ptx");

const MATRIX_VECTOR: &[Parameter] =
    &[Parameter::Wide, Parameter::Wide, Parameter::Wide, Parameter::Narrow, Parameter::Float, Parameter::Narrow];
const ROWWISE: &[Parameter] = &[Parameter::Wide, Parameter::Wide, Parameter::Narrow];
pub(super) static MATRIX_VECTOR_1: Entry = Entry { name: "matrix_vector_1", parameters: MATRIX_VECTOR };
pub(super) static MATRIX_VECTOR_2: Entry = Entry { name: "matrix_vector_2", parameters: MATRIX_VECTOR };
pub(super) static MATRIX_VECTOR_4: Entry = Entry { name: "matrix_vector_4", parameters: MATRIX_VECTOR };
pub(super) static MATRIX_VECTOR_8: Entry = Entry { name: "matrix_vector_8", parameters: MATRIX_VECTOR };
pub(super) static NORMALIZE: Entry = Entry { name: "normalize", parameters: ROWWISE };
pub(super) static FEED_BACK: Entry = Entry { name: "feed_back", parameters: &[Parameter::Wide, Parameter::Narrow] };
pub(super) static MIX: Entry = Entry { name: "mix", parameters: ROWWISE };

/// Threads of a matrix–vector block: 4 warps.
const MATRIX_THREADS: u32 = 128;
const ROW_THREADS: u32 = 512;
const MIX_THREADS: u32 = 256;

/// What becomes of the sums of a matrix–vector product; the numbers are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Epilogue {
    /// Stored as fp16.
    Project = 0,
    /// Rows in pairs of gate and up; `silu(gate)·up` stored as fp16.
    GateUp = 1,
    /// Added to the fp32 residual.
    Residual = 2,
}

impl Epilogue {
    /// Bytes of output of one sequence for a matrix of `rows` rows.
    const fn output_bytes(self, rows: u64) -> u64 {
        match self {
            Self::Project => 2 * rows,
            Self::GateUp => rows,
            Self::Residual => 4 * rows,
        }
    }
}

/// The kernels of a decode chain for one number of sequences.
#[derive(Debug)]
pub(crate) struct DecodeKernels {
    matrix_vector: Function,
    entry: &'static Entry,
    normalize: Function,
    feed_back: Function,
    mix: Function,
    sequences: u32,
    rows_per_block: u32,
}

impl DecodeKernels {
    /// Loads the kernels for the smallest of 1, 2, 4 and 8 sequences that holds `batch`.
    pub(crate) fn load(context: &Arc<Context>, batch: u32) -> Result<Self, CudaError> {
        // Rows a warp are the template arguments in decode.cu; a block has four warps.
        let (sequences, entry, rows_per_block) = match batch {
            0 | 1 => (1, &MATRIX_VECTOR_1, 8),
            2 => (2, &MATRIX_VECTOR_2, 8),
            3 | 4 => (4, &MATRIX_VECTOR_4, 16),
            _ => (8, &MATRIX_VECTOR_8, 16),
        };
        let module = Module::load(context, PTX)?;
        Ok(Self {
            matrix_vector: module.function(entry, MATRIX_THREADS, 0)?,
            entry,
            normalize: module.function(&NORMALIZE, ROW_THREADS, 0)?,
            feed_back: module.function(&FEED_BACK, ROW_THREADS, 0)?,
            mix: module.function(&MIX, MIX_THREADS, 0)?,
            sequences,
            rows_per_block,
        })
    }

    /// Sequences every buffer must have room for; those above the batch are computed and not used.
    pub(crate) const fn sequences(&self) -> u32 {
        self.sequences
    }

    /// The matrix–vector kernel, for its occupancy.
    pub(crate) const fn matrix_vector_function(&self) -> (&'static Entry, &Function) {
        (self.entry, &self.matrix_vector)
    }

    /// Blocks of a matrix–vector product of `rows` rows.
    pub(crate) const fn blocks(&self, rows: u32) -> u32 {
        rows / self.rows_per_block
    }

    /// Multiplies `rows × inner` fp16 weights, times `sqrt(3 / inner)`, with a vector of each sequence. With weights
    /// uniform in (-1, 1), of variance 1/3, a vector of variance 1 gives sums of variance 1.
    pub(crate) fn multiply(
        &self,
        stream: &Stream,
        [weights, vectors, out]: [View<'_>; 3],
        (rows, inner): (u32, u32),
        epilogue: Epilogue,
    ) -> Result<(), CudaError> {
        let (sequences, long) = (u64::from(self.sequences), u64::from(rows));
        require(self.entry, weights, 2 * long * u64::from(inner))?;
        require(self.entry, vectors, 2 * sequences * u64::from(inner))?;
        require(self.entry, out, sequences * epilogue.output_bytes(long))?;
        let arguments = [
            weights.into(),
            vectors.into(),
            out.into(),
            Argument::Narrow(inner / 8),
            Argument::Float((3.0 / inner as f32).sqrt()),
            Argument::Narrow(epilogue as u32),
        ];
        // SAFETY: the grid covers at most `rows` rows, and the three views hold what those read and write (above).
        unsafe { stream.launch(&self.matrix_vector, (self.blocks(rows), 1), &arguments) }
    }

    /// Writes each sequence's residual over its root mean square as fp16.
    pub(crate) fn normalize(
        &self,
        stream: &Stream,
        residual: View<'_>,
        out: View<'_>,
        width: u32,
    ) -> Result<(), CudaError> {
        let elements = u64::from(self.sequences) * u64::from(width);
        require(&NORMALIZE, residual, 4 * elements)?;
        require(&NORMALIZE, out, 2 * elements)?;
        let arguments = [residual.into(), out.into(), Argument::Narrow(width)];
        // SAFETY: a block a sequence reads and writes `width` elements, which the views hold.
        unsafe { stream.launch(&self.normalize, (self.sequences, 1), &arguments) }
    }

    /// Divides each sequence's residual by its root mean square, in place.
    pub(crate) fn feed_back(&self, stream: &Stream, residual: View<'_>, width: u32) -> Result<(), CudaError> {
        require(&FEED_BACK, residual, 4 * u64::from(self.sequences) * u64::from(width))?;
        let arguments = [residual.into(), Argument::Narrow(width)];
        // SAFETY: a block a sequence reads and writes `width` elements, which the view holds.
        unsafe { stream.launch(&self.feed_back, (self.sequences, 1), &arguments) }
    }

    /// Mixes query, key and value of each sequence.
    pub(crate) fn mix(&self, stream: &Stream, projected: View<'_>, out: View<'_>, width: u32) -> Result<(), CudaError> {
        let elements = u64::from(self.sequences) * u64::from(width);
        require(&MIX, projected, 6 * elements)?;
        require(&MIX, out, 2 * elements)?;
        let arguments = [projected.into(), out.into(), Argument::Narrow(width)];
        // SAFETY: the kernel stops at `width`, and the views hold three and one element of each place.
        unsafe { stream.launch(&self.mix, (width.div_ceil(MIX_THREADS), self.sequences), &arguments) }
    }
}
