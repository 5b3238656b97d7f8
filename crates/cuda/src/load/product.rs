//! Square tensor-core products.

use cotenant_model::Bytes;

use super::{Occupancy, require_tiles};
use crate::driver::{Buffer, Stream};
use crate::kernels::{FillKernels, ProductKernel, ProductPath};
use crate::random::{Draws, Format};
use crate::{Check, CudaError, Device};

/// Two operands and a result on the device.
#[derive(Debug)]
pub(super) struct ProductLoad {
    kernel: ProductKernel,
    fill: FillKernels,
    size: u32,
    right_seed: u64,
    left: Buffer,
    right: Buffer,
    out: Buffer,
}

/// Rows and columns of the result that a check compares.
const SAMPLES: u64 = 64;

impl ProductLoad {
    pub(super) fn prepare(
        device: &Device,
        stream: &Stream,
        (size, path): (u32, ProductPath),
        seed: u64,
    ) -> Result<Self, CudaError> {
        require_tiles("size", size)?;
        let context = stream.context();
        let allocate = || Buffer::allocate(context, Bytes(2 * u64::from(size).pow(2)));
        let (left, right, out) = (allocate()?, allocate()?, allocate()?);
        let (kernel, fill) = (ProductKernel::load(device, path)?, FillKernels::load(context)?);
        let right_seed = seed.wrapping_add(1);
        fill.numbers(stream, left.view(), path.format(), seed)?;
        fill.numbers(stream, right.view(), path.format(), right_seed)?;
        Ok(Self { kernel, fill, size, right_seed, left, right, out })
    }

    pub(super) fn enqueue(&self, stream: &Stream) -> Result<(), CudaError> {
        self.kernel.multiply(stream, [self.left.view(), self.right.view(), self.out.view()], self.size)
    }

    pub(super) fn occupancy(&self) -> Result<Occupancy, CudaError> {
        let (entry, function) = self.kernel.function();
        let (columns, rows) = self.kernel.path().grid(self.size);
        Occupancy::of(entry, function, columns * rows)
    }

    /// A fresh left operand; the right one stays.
    pub(super) fn verify(&self, stream: &Stream, fresh: u64) -> Result<Check, CudaError> {
        let format = self.kernel.path().format();
        self.fill.numbers(stream, self.left.view(), format, fresh)?;
        stream.poison(self.out.view())?;
        self.enqueue(stream)?;
        let missing = self.fill.not_finite(stream, self.out.view(), format)?;
        let mut draws = Draws::new(fresh);
        let (rows, columns) = (self.sample(&mut draws), self.sample(&mut draws));
        let expected = products(format, self.size, (fresh, &rows), (self.right_seed, &columns));
        let results = self.read(stream, format, &rows, &columns)?;
        // Sums of products of 16 or 22 bits are all but exact in fp32: only rounding the result is off, by at most this.
        let check = Check::of(results.into_iter().zip(expected), format.unit_roundoff());
        Ok(check.spoiled_if(missing > 0))
    }

    /// One row or column in each of 64 bands, so that every tile of a large product is met.
    fn sample(&self, draws: &mut Draws) -> Vec<u64> {
        let band = u64::from(self.size) / SAMPLES;
        (0..SAMPLES).map(|index| index * band + draws.below(band)).collect()
    }

    fn read(&self, stream: &Stream, format: Format, rows: &[u64], columns: &[u64]) -> Result<Vec<f64>, CudaError> {
        let row_bytes = 2 * u64::from(self.size);
        let mut results = Vec::new();
        for row in rows {
            let values: Vec<u16> = stream.download(self.out.part(row * row_bytes, row_bytes), self.size as usize)?;
            let chosen = columns.iter().filter_map(|column| values.get(usize::try_from(*column).ok()?));
            results.extend(chosen.map(|bits| f64::from(format.read(*bits))));
        }
        Ok(results)
    }
}

/// Entries of `left · rightᵀ` at the crossings of rows and columns, row by row, summed in f64; each operand is a seed and
/// the rows taken from it.
fn products(format: Format, size: u32, left: (u64, &[u64]), right: (u64, &[u64])) -> Vec<f64> {
    let read = |(seed, rows): (u64, &[u64])| -> Vec<Vec<f32>> {
        let of = |row: &u64| {
            let mut values = vec![0.0; size as usize];
            format.fill(seed, row * u64::from(size), &mut values);
            values
        };
        rows.iter().map(of).collect()
    };
    let (left, right) = (read(left), read(right));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    left.iter().flat_map(|row| right.iter().map(move |column| dot(row, column))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::splitmix64;

    /// An element written out from the definition, without the library's fill.
    fn element(format: Format, seed: u64, index: u64) -> f64 {
        let bits = splitmix64(seed, index / 4) >> (16 * (index % 4)) & 0xFFFF;
        match format {
            Format::F16 => (2.0 * ((bits >> 5) as f64 - 1024.0) + 1.0) / 2048.0,
            Format::Bf16 => (2.0 * ((bits >> 8) as f64 - 128.0) + 1.0) / 256.0,
        }
    }

    #[test]
    fn the_reference_is_the_textbook_product() {
        for format in [Format::F16, Format::Bf16] {
            let (rows, columns) = ([3, 100], [0, 7, 127]);
            let got = products(format, 128, (11, &rows), (12, &columns));
            let mut entries = got.iter();
            for row in rows {
                for column in columns {
                    let expected: f64 = (0..128)
                        .map(|k| element(format, 11, row * 128 + k) * element(format, 12, column * 128 + k))
                        .sum();
                    assert!((entries.next().expect("entry") - expected).abs() < 1e-12);
                }
            }
        }
    }
}
