//! Load kernels: synthetic GPU work with the shape of what models do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Bytes;

/// A load kernel with every size settled, as a tenant process runs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kernel {
    /// Token generation: a chain of matrix–vector layers, replayed as one CUDA graph per token.
    Decode(Decode),
    /// Prompt processing: `products` square tensor-core matrix products a request.
    Prefill(Products),
    /// Embedding: short bursts of `products` mid-size tensor-core products a request.
    Embed(Products),
    /// Hundreds of tiny kernels launched one by one: bound by the launch path, not the GPU.
    LaunchBound(LaunchBound),
    /// A device-to-device copy of `size` bytes a request.
    Bandwidth(Buffer),
    /// Holds `size` bytes of device memory and does nothing else; it serves no requests.
    Memory(Buffer),
    /// Writes to an address it does not own when told to; it serves no requests.
    Fault,
}

/// Sizes of a [`Kernel::Decode`].
///
/// One layer multiplies four fp16 matrices by a vector of each of `batch` sequences: `width × 3·width` (query, key,
/// value), `width × width` (output), `width × 2·hidden` (gate and up) and `hidden × width` (down).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decode {
    /// Layers of the chain.
    pub layers: u32,
    /// Width of the residual stream; a multiple of 128.
    pub width: u32,
    /// Width of the feed-forward part; a multiple of 128.
    pub hidden: u32,
    /// Sequences decoded together, 1 to 8; every weight is read once a token whatever the batch.
    pub batch: u32,
    /// Tokens a request generates.
    pub tokens: u32,
}

/// Sizes of a [`Kernel::Prefill`] or [`Kernel::Embed`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Products {
    /// Rows and columns of each square matrix; a multiple of 128.
    pub size: u32,
    /// Matrix products a request.
    pub products: u32,
}

/// Sizes of a [`Kernel::LaunchBound`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LaunchBound {
    /// Kernel launches a request.
    pub launches: u32,
}

/// Size of a [`Kernel::Bandwidth`] or [`Kernel::Memory`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Buffer {
    /// Bytes.
    pub size: Bytes,
}

/// What a tenant's throughput counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WorkUnit {
    /// A generated token.
    Token,
    /// A tensor-core matrix product.
    Product,
    /// A burst of launches.
    Burst,
    /// A copy.
    Copy,
    /// Nothing: the tenant serves no requests.
    None,
}

impl WorkUnit {
    /// The plural for tables: `tokens`, `products`, …
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Token => "tokens",
            Self::Product => "products",
            Self::Burst => "bursts",
            Self::Copy => "copies",
            Self::None => "nothing",
        }
    }
}

impl Decode {
    /// Bytes of fp16 weights in one layer: `2·(4·width² + 3·width·hidden)`.
    #[must_use]
    pub fn layer_bytes(&self) -> u64 {
        let (width, hidden) = (u64::from(self.width), u64::from(self.hidden));
        2 * (4 * width * width + 3 * width * hidden)
    }

    /// Bytes of fp16 weights, all of which one token reads.
    #[must_use]
    pub fn weight_bytes(&self) -> Bytes {
        Bytes(u64::from(self.layers) * self.layer_bytes())
    }

    /// The smallest feed-forward width, a multiple of 128, with which the weights take at least `weights` bytes.
    #[must_use]
    pub fn hidden_for(layers: u32, width: u32, weights: Bytes) -> u32 {
        let wide = u64::from(width.max(1));
        let layer = weights.0.div_ceil(u64::from(layers.max(1)));
        let hidden = layer.saturating_sub(8 * wide * wide).div_ceil(6 * wide);
        u32::try_from(hidden.div_ceil(128).max(1) * 128).unwrap_or(u32::MAX)
    }
}

impl Kernel {
    /// What one step of the kernel completes.
    #[must_use]
    pub const fn unit(&self) -> WorkUnit {
        match self {
            Self::Decode(_) => WorkUnit::Token,
            Self::Prefill(_) | Self::Embed(_) => WorkUnit::Product,
            Self::LaunchBound(_) => WorkUnit::Burst,
            Self::Bandwidth(_) => WorkUnit::Copy,
            Self::Memory(_) | Self::Fault => WorkUnit::None,
        }
    }

    /// Steps of one request: tokens of a decode, products of a prefill or embed, otherwise 1; 0 where nothing is served.
    #[must_use]
    pub const fn steps_per_request(&self) -> u32 {
        match self {
            Self::Decode(decode) => decode.tokens,
            Self::Prefill(products) | Self::Embed(products) => products.products,
            Self::LaunchBound(_) | Self::Bandwidth(_) => 1,
            Self::Memory(_) | Self::Fault => 0,
        }
    }

    /// Units of throughput that one step completes: the sequences of a decode's batch, otherwise 1.
    #[must_use]
    pub const fn units_per_step(&self) -> u32 {
        match self {
            Self::Decode(decode) => decode.batch,
            Self::Prefill(_) | Self::Embed(_) | Self::LaunchBound(_) | Self::Bandwidth(_) => 1,
            Self::Memory(_) | Self::Fault => 0,
        }
    }

    /// Floating-point operations of one step (a multiply and an add count as two).
    #[must_use]
    pub fn flop_per_step(&self) -> f64 {
        match self {
            Self::Decode(decode) => decode.weight_bytes().0 as f64 * f64::from(decode.batch),
            Self::Prefill(products) | Self::Embed(products) => 2.0 * f64::from(products.size).powi(3),
            Self::LaunchBound(_) | Self::Bandwidth(_) | Self::Memory(_) | Self::Fault => 0.0,
        }
    }

    /// Fewest bytes of device memory that one step reads and writes: weights of a decode, three matrices of a product,
    /// a copy's source and destination.
    #[must_use]
    pub fn bytes_per_step(&self) -> u64 {
        match self {
            Self::Decode(decode) => decode.weight_bytes().0,
            Self::Prefill(products) | Self::Embed(products) => 6 * u64::from(products.size).pow(2),
            Self::Bandwidth(copy) => 2 * copy.size.0,
            Self::LaunchBound(_) | Self::Memory(_) | Self::Fault => 0,
        }
    }

    /// Device memory the kernel's buffers take, without the CUDA context.
    #[must_use]
    pub fn device_bytes(&self) -> Bytes {
        match self {
            Self::Decode(decode) => decode.weight_bytes(),
            Self::Prefill(products) | Self::Embed(products) => Bytes(6 * u64::from(products.size).pow(2)),
            Self::Bandwidth(copy) => Bytes(2 * copy.size.0),
            Self::Memory(memory) => memory.size,
            Self::LaunchBound(_) | Self::Fault => Bytes::mebibytes(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_is_the_smallest_that_reaches_the_weights() {
        let weights = Bytes(2 << 30);
        let hidden = Decode::hidden_for(24, 2048, weights);
        let of = |hidden| Decode { layers: 24, width: 2048, hidden, batch: 1, tokens: 128 }.weight_bytes();
        assert_eq!(hidden % 128, 0);
        assert!(of(hidden) >= weights);
        assert!(of(hidden - 128) < weights);
    }
}
