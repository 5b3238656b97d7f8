//! Token generation: a chain of matrix–vector layers, one graph launch a token.

use std::ops::Range;

use cotenant_model::Bytes;
use cotenant_model::kernel::Decode;

use super::reference::{self, Matrix};
use super::{Occupancy, require_tiles};
use crate::driver::{Buffer, Graph, Stream, View};
use crate::kernels::{DecodeKernels, FillKernels};
use crate::random::{Draws, Format};
use crate::{Check, CudaError};

/// The weights and vectors of a chain, and the graph of one token.
#[derive(Debug)]
pub(super) struct DecodeLoad {
    chain: Chain,
    token: Graph,
}

/// The weights and vectors of a chain.
#[derive(Debug)]
struct Chain {
    kernels: DecodeKernels,
    shape: Decode,
    seed: u64,
    weights: Buffer,
    /// fp32 `[sequences][width]`.
    residual: Buffer,
    /// fp16 `[sequences][width]`: the residual, normalised.
    normal: Buffer,
    /// fp16 `[sequences][3·width]`: query, key and value.
    projected: Buffer,
    /// fp16 `[sequences][width]`: query, key and value, mixed.
    mixed: Buffer,
    /// fp16 `[sequences][hidden]`.
    active: Buffer,
}

/// Multiplications a check does on the CPU, all sequences together; a layer that needs more is still checked whole.
const CHECK_BUDGET: u64 = 1 << 28;

impl DecodeLoad {
    pub(super) fn prepare(stream: &Stream, shape: &Decode, seed: u64) -> Result<Self, CudaError> {
        let chain = Chain::prepare(stream, shape, seed)?;
        // The driver loads a kernel into the context when it is first launched, which must not fall into the capture.
        chain.upload_residual(stream, seed)?;
        chain.enqueue(stream, 0..1)?;
        chain.upload_residual(stream, seed)?;
        let token = stream.capture(|| chain.enqueue(stream, 0..shape.layers))?;
        Ok(Self { chain, token })
    }

    pub(super) fn enqueue(&self, stream: &Stream) -> Result<(), CudaError> {
        stream.replay(&self.token)
    }

    pub(super) fn occupancy(&self) -> Result<Occupancy, CudaError> {
        let Decode { width, hidden, .. } = self.chain.shape;
        let (entry, function) = self.chain.kernels.matrix_vector_function();
        Occupancy::of(entry, function, self.chain.kernels.blocks((3 * width).max(2 * hidden)))
    }

    /// A fresh residual through whole layers of the real weights, and the whole token by graph and by single launches.
    pub(super) fn verify(&self, stream: &Stream, fresh: u64) -> Result<Check, CudaError> {
        let layers = self.chain.layers_to_check(fresh);
        let starts = self.chain.upload_residual(stream, fresh)?;
        self.chain.poison(stream)?;
        self.chain.enqueue(stream, layers.clone())?;
        let results = self.chain.download_residual(stream)?;
        let expected = starts.into_iter().flat_map(|mut residual| {
            reference::chain(&self.chain.shape, self.chain.seed, layers.clone(), &mut residual);
            residual
        });
        let pairs = results.into_iter().zip(expected);
        let bound = f64::from(layers.end - layers.start).sqrt() / 1024.0;
        let check = Check::of(pairs.map(|(result, expected)| (f64::from(result), f64::from(expected))), bound);
        Ok(check.spoiled_if(!self.graph_equals_launches(stream, fresh)?))
    }

    /// Whether a token by the graph is bit by bit the token by single launches: no kernel's sums depend on timing.
    fn graph_equals_launches(&self, stream: &Stream, fresh: u64) -> Result<bool, CudaError> {
        let token = |run: &dyn Fn() -> Result<(), CudaError>| {
            self.chain.upload_residual(stream, fresh)?;
            self.chain.poison(stream)?;
            run()?;
            self.chain.download_residual(stream)
        };
        let launched = token(&|| self.chain.enqueue(stream, 0..self.chain.shape.layers))?;
        let replayed = token(&|| self.enqueue(stream))?;
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        Ok(bits(&launched) == bits(&replayed) && launched.iter().all(|value| value.is_finite()))
    }
}

impl Chain {
    fn prepare(stream: &Stream, shape: &Decode, seed: u64) -> Result<Self, CudaError> {
        require_shape(shape)?;
        let context = stream.context();
        let kernels = DecodeKernels::load(context, shape.batch)?;
        let sequences = u64::from(kernels.sequences());
        let vectors =
            |elements: u32, size: u64| Buffer::allocate(context, Bytes(size * sequences * u64::from(elements)));
        let weights = Buffer::allocate(context, shape.weight_bytes())?;
        FillKernels::load(context)?.numbers(stream, weights.view(), Format::F16, seed)?;
        stream.synchronize()?;
        Ok(Self {
            kernels,
            shape: shape.clone(),
            seed,
            weights,
            residual: vectors(shape.width, 4)?,
            normal: vectors(shape.width, 2)?,
            projected: vectors(3 * shape.width, 2)?,
            mixed: vectors(shape.width, 2)?,
            active: vectors(shape.hidden, 2)?,
        })
    }

    /// Puts one token through some layers into the stream, kernel by kernel.
    fn enqueue(&self, stream: &Stream, layers: Range<u32>) -> Result<(), CudaError> {
        let (kernels, width) = (&self.kernels, self.shape.width);
        let (residual, normal) = (self.residual.view(), self.normal.view());
        let (projected, mixed, active) = (self.projected.view(), self.mixed.view(), self.active.view());
        kernels.feed_back(stream, residual, width)?;
        for layer in layers {
            let [projection, output, gate_up, down] = reference::matrices(&self.shape, layer);
            kernels.normalize(stream, residual, normal, width)?;
            self.multiply(stream, projection, normal, projected)?;
            kernels.mix(stream, projected, mixed, width)?;
            self.multiply(stream, output, mixed, residual)?;
            kernels.normalize(stream, residual, normal, width)?;
            self.multiply(stream, gate_up, normal, active)?;
            self.multiply(stream, down, active, residual)?;
        }
        Ok(())
    }

    fn multiply(&self, stream: &Stream, matrix: Matrix, vectors: View<'_>, out: View<'_>) -> Result<(), CudaError> {
        let Matrix { first, rows, inner, epilogue } = matrix;
        let weights = self.weights.part(2 * first, 2 * u64::from(rows) * u64::from(inner));
        self.kernels.multiply(stream, [weights, vectors, out], (rows, inner), epilogue)
    }

    /// As many consecutive layers as the budget allows, at least one, from a random one on.
    fn layers_to_check(&self, fresh: u64) -> Range<u32> {
        let per_layer = self.shape.layer_bytes() / 2 * u64::from(self.shape.batch);
        let count = u32::try_from(CHECK_BUDGET / per_layer).unwrap_or(u32::MAX).clamp(1, self.shape.layers);
        let first = Draws::new(fresh).below(u64::from(self.shape.layers - count) + 1);
        let first = u32::try_from(first).unwrap_or_default();
        first..first + count
    }

    /// Writes a residual by seed for every sequence and returns those of the batch.
    fn upload_residual(&self, stream: &Stream, seed: u64) -> Result<Vec<Vec<f32>>, CudaError> {
        let width = self.shape.width as usize;
        let mut values = vec![0.0; width * self.kernels.sequences() as usize];
        Format::F16.fill(Draws::new(seed).draw(), 0, &mut values);
        stream.upload(self.residual.view(), &values)?;
        Ok(values.chunks(width).take(self.shape.batch as usize).map(<[f32]>::to_vec).collect())
    }

    fn download_residual(&self, stream: &Stream) -> Result<Vec<f32>, CudaError> {
        stream.download(self.residual.view(), (self.shape.width * self.shape.batch) as usize)
    }

    fn poison(&self, stream: &Stream) -> Result<(), CudaError> {
        let outputs = [&self.normal, &self.projected, &self.mixed, &self.active];
        outputs.into_iter().try_for_each(|buffer| stream.poison(buffer.view()))
    }
}

fn require_shape(shape: &Decode) -> Result<(), CudaError> {
    require_tiles("width", shape.width)?;
    require_tiles("hidden", shape.hidden)?;
    // Element counts of one matrix row block stay within the kernels' 32-bit arithmetic.
    for (what, value, most) in [("width", shape.width, 1 << 20), ("hidden", shape.hidden, 1 << 20)] {
        if value > most {
            return Err(CudaError::Size { what, value: u64::from(value), wanted: "at most 1048576" });
        }
    }
    if shape.layers == 0 {
        return Err(CudaError::Size { what: "layers", value: 0, wanted: "at least 1" });
    }
    if !(1..=8).contains(&shape.batch) {
        return Err(CudaError::Size { what: "batch", value: u64::from(shape.batch), wanted: "1 to 8" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_cannot_run_are_refused_by_name() {
        let shape = Decode { layers: 2, width: 256, hidden: 384, batch: 8, tokens: 1 };
        assert!(require_shape(&shape).is_ok());
        for (wrong, named) in [
            (Decode { layers: 0, ..shape.clone() }, "layers"),
            (Decode { batch: 9, ..shape.clone() }, "batch"),
            (Decode { batch: 0, ..shape.clone() }, "batch"),
            (Decode { width: 100, ..shape.clone() }, "width"),
            (Decode { hidden: u32::MAX - 127, ..shape }, "hidden"),
        ] {
            let error = require_shape(&wrong).expect_err(named).to_string();
            assert!(error.starts_with(named), "{error}");
        }
    }
}
