//! Numbers by seed and index, the same on host and device (`kernels/random.cuh`).

/// Element `index` of the [SplitMix64](https://prng.di.unimi.it/splitmix64.c) sequence that starts at `seed`.
pub(crate) const fn splitmix64(seed: u64, index: u64) -> u64 {
    let z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A 16-bit format the device is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// fp16: odd multiples of 1/2048 between -1 and 1, all exact in the format.
    F16,
    /// bf16: odd multiples of 1/256 between -1 and 1, all exact in the format.
    Bf16,
}

impl Format {
    /// Bits of the format's infinity.
    pub(crate) const fn infinity(self) -> u32 {
        match self {
            Self::F16 => 0x7C00,
            Self::Bf16 => 0x7F80,
        }
    }

    /// Half the distance from 1 to the next number: the largest relative error of rounding to the format.
    pub(crate) const fn unit_roundoff(self) -> f64 {
        match self {
            Self::F16 => 1.0 / 2048.0,
            Self::Bf16 => 1.0 / 256.0,
        }
    }

    /// The number of 16 random bits.
    fn value(self, bits: u16) -> f32 {
        match self {
            Self::F16 => (2.0 * (f32::from(bits >> 5) - 1024.0) + 1.0) / 2048.0,
            Self::Bf16 => (2.0 * (f32::from(bits >> 8) - 128.0) + 1.0) / 256.0,
        }
    }

    /// The number that 16 bits of memory stand for.
    pub(crate) fn read(self, bits: u16) -> f32 {
        match self {
            Self::F16 => half::f16::from_bits(bits).to_f32(),
            Self::Bf16 => half::bf16::from_bits(bits).to_f32(),
        }
    }

    /// Elements from `first` on, as the device's fill kernels write them: four of each number, lowest bits first.
    /// `first` and the length of `out` are multiples of 4.
    pub(crate) fn fill(self, seed: u64, first: u64, out: &mut [f32]) {
        for (number, group) in (first / 4..).zip(out.chunks_mut(4)) {
            let bits = splitmix64(seed, number).to_le_bytes();
            for (value, pair) in group.iter_mut().zip(bits.chunks_exact(2)) {
                *value = self.value(u16::from_le_bytes([pair[0], pair[1]]));
            }
        }
    }
}

/// A sequence of seeds and indices drawn from one seed: the host's own randomness, for what a check samples.
#[derive(Debug, Clone)]
pub(crate) struct Draws {
    seed: u64,
    next: u64,
}

impl Draws {
    /// A sequence that differs for every seed.
    pub(crate) const fn new(seed: u64) -> Self {
        // Kept apart from the sequences that fill buffers, which use the seed itself.
        Self { seed: seed ^ 0x5EED_0FD4_A3B1_C297, next: 0 }
    }

    /// The next number.
    pub(crate) const fn draw(&mut self) -> u64 {
        self.next += 1;
        splitmix64(self.seed, self.next)
    }

    /// The next number below `limit`, which is at least 1.
    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_published_splitmix64() {
        let published = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([0, 1, 2].map(|index| splitmix64(1_234_567, index)), published);
    }

    #[test]
    fn every_number_is_exact_in_its_format_and_inside_one() {
        for bits in 0..=u16::MAX {
            let (f16, bf16) = (Format::F16.value(bits), Format::Bf16.value(bits));
            assert_eq!(half::f16::from_f32(f16).to_f32().to_bits(), f16.to_bits());
            assert_eq!(half::bf16::from_f32(bf16).to_f32().to_bits(), bf16.to_bits());
            assert!(f16.abs() < 1.0 && bf16.abs() < 1.0);
        }
    }

    #[test]
    fn the_numbers_have_mean_zero_and_variance_a_third() {
        for format in [Format::F16, Format::Bf16] {
            let mut values = vec![0.0; 1 << 16];
            format.fill(7, 0, &mut values);
            let mean = values.iter().copied().map(f64::from).sum::<f64>() / 65536.0;
            let square = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 65536.0;
            assert!(mean.abs() < 0.01 && (square - 1.0 / 3.0).abs() < 0.01, "{mean} {square}");
        }
    }

    #[test]
    fn a_fill_from_the_middle_continues_the_sequence() {
        let (mut whole, mut tail) = (vec![0.0; 64], vec![0.0; 24]);
        Format::F16.fill(3, 0, &mut whole);
        Format::F16.fill(3, 40, &mut tail);
        assert_eq!(whole[40..], tail);
    }
}
