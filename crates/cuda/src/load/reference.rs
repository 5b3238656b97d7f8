//! What the device should have computed, on the CPU, from seeds alone.

use std::ops::Range;

use cotenant_model::kernel::Decode;

use crate::CudaError;
use crate::driver::{Stream, View};
use crate::kernels::Epilogue;
use crate::random::{Draws, Format, splitmix64};

/// Stretches and words of each that a check of a buffer of words compares.
const STRETCHES: u64 = 64;
const STRETCH: u64 = 64;

/// How many words of random stretches of a view differ from the sequence of the seed.
pub(super) fn wrong_words(stream: &Stream, view: View<'_>, seed: u64) -> Result<u64, CudaError> {
    let (words, mut draws, mut wrong) = (view.bytes / 8, Draws::new(seed), 0);
    for _ in 0..STRETCHES {
        let first = draws.below(words.saturating_sub(STRETCH) + 1);
        let count = STRETCH.min(words - first);
        let part = view.part(8 * first, 8 * count);
        let found: Vec<u64> = stream.download(part, usize::try_from(count).unwrap_or_default())?;
        wrong += (first..).zip(found).filter(|(index, word)| splitmix64(seed, *index) != *word).count() as u64;
    }
    Ok(wrong)
}

/// Rounds as the device does where it stores fp16.
fn rounded(value: f64) -> f32 {
    half::f16::from_f64(value).to_f32()
}

/// Rounds as the device does where it stores fp32.
#[expect(clippy::cast_possible_truncation, reason = "rounding is what it is for")]
const fn single(value: f64) -> f32 {
    value as f32
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn inverse_rms(row: &[f32]) -> f64 {
    let squares: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
    1.0 / (squares / row.len() as f64 + 1e-6).sqrt()
}

/// One matrix of a chain: its first element in the weights, its rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Matrix {
    pub(super) first: u64,
    pub(super) rows: u32,
    pub(super) inner: u32,
    pub(super) epilogue: Epilogue,
}

/// The four matrices of a layer in the order they are multiplied, which is the order they lie in.
pub(super) fn matrices(shape: &Decode, layer: u32) -> [Matrix; 4] {
    let (width, hidden) = (shape.width, shape.hidden);
    let mut first = u64::from(layer) * shape.layer_bytes() / 2;
    let sizes = [
        (3 * width, width, Epilogue::Project),
        (width, width, Epilogue::Residual),
        (2 * hidden, width, Epilogue::GateUp),
        (width, hidden, Epilogue::Residual),
    ];
    sizes.map(|(rows, inner, epilogue)| {
        let matrix = Matrix { first, rows, inner, epilogue };
        first += u64::from(rows) * u64::from(inner);
        matrix
    })
}

/// A chain's residual of one sequence after one token through some of its layers.
pub(super) fn chain(shape: &Decode, seed: u64, layers: Range<u32>, residual: &mut [f32]) {
    let scale = inverse_rms(residual);
    residual.iter_mut().for_each(|value| *value = single(f64::from(*value) * scale));
    for layer in layers {
        let [projection, output, gate_up, down] = matrices(shape, layer);
        let projected: Vec<f32> = multiply(seed, projection, &normal(residual)).map(rounded).collect();
        let mixed = mix(&projected, residual.len());
        add(residual, multiply(seed, output, &mixed));
        let both: Vec<f64> = multiply(seed, gate_up, &normal(residual)).collect();
        let active: Vec<f32> = both.chunks_exact(2).map(|pair| rounded(pair[0] * sigmoid(pair[0]) * pair[1])).collect();
        add(residual, multiply(seed, down, &active));
    }
}

fn normal(residual: &[f32]) -> Vec<f32> {
    let scale = inverse_rms(residual);
    residual.iter().map(|value| rounded(f64::from(*value) * scale)).collect()
}

fn add(residual: &mut [f32], sums: impl Iterator<Item = f64>) {
    residual.iter_mut().zip(sums).for_each(|(value, sum)| *value = single(f64::from(*value) + sum));
}

fn mix(projected: &[f32], width: usize) -> Vec<f32> {
    let (query, rest) = projected.split_at(width);
    let (key, value) = rest.split_at(width);
    let mixed = query
        .iter()
        .zip(key)
        .zip(value)
        .map(|((query, key), value)| rounded(f64::from(*value) * sigmoid(f64::from(*query) * f64::from(*key))));
    mixed.collect()
}

/// A matrix of weights times a vector, times `sqrt(3 / inner)`, summed in f64, row by row.
fn multiply(seed: u64, matrix: Matrix, vector: &[f32]) -> impl Iterator<Item = f64> {
    let scale = f64::from((3.0 / matrix.inner as f32).sqrt());
    let inner = u64::from(matrix.inner);
    let mut weights = vec![0.0; vector.len()];
    (0..u64::from(matrix.rows)).map(move |row| {
        Format::F16.fill(seed, matrix.first + row * inner, &mut weights);
        scale * dot(&weights, vector)
    })
}

/// Four sums side by side, which the compiler can keep in one vector register.
fn dot(left: &[f32], right: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 4];
    for (left, right) in left.chunks_exact(4).zip(right.chunks_exact(4)) {
        for (sum, (left, right)) in sums.iter_mut().zip(left.iter().zip(right)) {
            *sum += f64::from(*left) * f64::from(*right);
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Decode = Decode { layers: 2, width: 128, hidden: 256, batch: 1, tokens: 1 };

    fn weight(seed: u64, index: usize) -> f64 {
        let bits = splitmix64(seed, index as u64 / 4) >> (16 * (index % 4)) & 0xFFFF;
        (2.0 * ((bits >> 5) as f64 - 1024.0) + 1.0) / 2048.0
    }

    /// The chain once more, index by index and without rounding to fp16.
    fn plain_chain(seed: u64, mut x: Vec<f64>) -> Vec<f64> {
        let (width, hidden) = (128, 256);
        let rms = |x: &[f64]| (x.iter().map(|v| v * v).sum::<f64>() / 128.0 + 1e-6).sqrt();
        let product = |first: usize, rows: usize, v: &[f64]| -> Vec<f64> {
            let inner = v.len();
            let scale = (3.0 / inner as f64).sqrt();
            (0..rows)
                .map(|r| scale * (0..inner).map(|k| weight(seed, first + r * inner + k) * v[k]).sum::<f64>())
                .collect()
        };
        let norm = rms(&x);
        x.iter_mut().for_each(|v| *v /= norm);
        for layer in 0..2 {
            let base = layer * (4 * width * width + 3 * width * hidden);
            let normal: Vec<f64> = x.iter().map(|v| v / rms(&x)).collect();
            let qkv = product(base, 3 * width, &normal);
            let mixed: Vec<f64> =
                (0..width).map(|i| qkv[2 * width + i] / (1.0 + (-qkv[i] * qkv[width + i]).exp())).collect();
            let out = product(base + 3 * width * width, width, &mixed);
            x.iter_mut().zip(out).for_each(|(x, out)| *x += out);
            let normal: Vec<f64> = x.iter().map(|v| v / rms(&x)).collect();
            let both = product(base + 4 * width * width, 2 * hidden, &normal);
            let active: Vec<f64> =
                (0..hidden).map(|j| both[2 * j] / (1.0 + (-both[2 * j]).exp()) * both[2 * j + 1]).collect();
            let down = product(base + 4 * width * width + 2 * width * hidden, width, &active);
            x.iter_mut().zip(down).for_each(|(x, down)| *x += down);
        }
        x
    }

    #[test]
    fn the_reference_is_the_textbook_chain_up_to_fp16_rounding() {
        let mut residual = vec![0.0; 128];
        Format::F16.fill(5, 0, &mut residual);
        let plain = plain_chain(9, residual.iter().copied().map(f64::from).collect());
        chain(&SHAPE, 9, 0..2, &mut residual);
        let check = crate::Check::of(residual.iter().copied().map(f64::from).zip(plain), 2e-3);
        assert!(check.passed() && check.compared == 128, "{check:?}");
    }

    #[test]
    fn the_matrices_of_all_layers_cover_the_weights_without_a_gap() {
        let mut next = 0;
        for matrix in (0..2).flat_map(|layer| matrices(&SHAPE, layer)) {
            assert_eq!(matrix.first, next);
            next += u64::from(matrix.rows) * u64::from(matrix.inner);
        }
        assert_eq!(2 * next, SHAPE.weight_bytes().0);
    }

    #[test]
    fn tokens_in_a_row_stay_bounded() {
        let mut residual = vec![0.0; 128];
        Format::F16.fill(5, 0, &mut residual);
        for _ in 0..20 {
            chain(&SHAPE, 9, 0..2, &mut residual);
        }
        assert!(residual.iter().all(|value| value.abs() < 100.0), "a token begins from its root mean square of 1");
    }
}
