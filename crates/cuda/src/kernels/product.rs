//! Square tensor-core products (`kernels/product_sm80.cu`, `kernels/product_sm75.cu`).

use crate::driver::{Argument, Entry, Function, Module, Parameter, Stream, View};
use crate::kernels::require;
use crate::random::Format;
use crate::{CudaError, Device};

pub(super) const PTX_80: &str = include_str!("../../ptx/product_sm80.ptx");
pub(super) const PTX_75: &str = include_str!("../../ptx/product_sm75.ptx");

const PRODUCT: &[Parameter] = &[Parameter::Wide, Parameter::Wide, Parameter::Wide, Parameter::Narrow];
pub(super) static PRODUCT_WIDE: Entry = Entry { name: "product_wide", parameters: PRODUCT };
pub(super) static PRODUCT_NARROW: Entry = Entry { name: "product_narrow", parameters: PRODUCT };
pub(super) static PRODUCT_PLAIN: Entry = Entry { name: "product_plain", parameters: PRODUCT };

/// Which kernel computes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProductPath {
    /// bf16, 128 × 256 of the result a block: compute capability 8.0 and newer, for matrices with a tile for every
    /// multiprocessor, where a block may have 144 KiB of shared memory.
    Wide,
    /// bf16, 128 × 128 of the result a block: compute capability 8.0 and newer.
    Narrow,
    /// fp16 without asynchronous copies: compute capability 7.5.
    Plain,
}

impl ProductPath {
    /// The path for products of `size` on a device.
    pub(crate) const fn choose(device: &Device, size: u32) -> Self {
        if device.compute_capability().0 < 8 {
            return Self::Plain;
        }
        let tiles = Self::Wide.grid(size).0;
        if tiles >= device.multiprocessors() && device.shared_memory() >= Self::Wide.shared() {
            return Self::Wide;
        }
        Self::Narrow
    }

    /// Format of the operands and the result; sums are fp32.
    pub(crate) const fn format(self) -> Format {
        match self {
            Self::Wide | Self::Narrow => Format::Bf16,
            Self::Plain => Format::F16,
        }
    }

    const fn entry(self) -> &'static Entry {
        match self {
            Self::Wide => &PRODUCT_WIDE,
            Self::Narrow => &PRODUCT_NARROW,
            Self::Plain => &PRODUCT_PLAIN,
        }
    }

    const fn ptx(self) -> &'static str {
        match self {
            Self::Wide | Self::Narrow => PTX_80,
            Self::Plain => PTX_75,
        }
    }

    const fn threads(self) -> u32 {
        match self {
            Self::Wide | Self::Plain => 256,
            Self::Narrow => 128,
        }
    }

    /// Dynamic shared memory: three stages of 64 columns of the left and right tile.
    const fn shared(self) -> u32 {
        match self {
            Self::Wide => 3 * (128 + 256) * 64 * 2,
            Self::Narrow => 3 * (128 + 128) * 64 * 2,
            Self::Plain => 0,
        }
    }

    /// Blocks of a product of `size`.
    pub(crate) const fn grid(self, size: u32) -> (u32, u32) {
        let tiles = size / 128;
        match self {
            Self::Wide => (tiles * size.div_ceil(256), 1),
            Self::Narrow => (tiles * tiles, 1),
            Self::Plain => (tiles, tiles),
        }
    }
}

/// A product kernel.
#[derive(Debug)]
pub(crate) struct ProductKernel {
    function: Function,
    path: ProductPath,
}

impl ProductKernel {
    /// Loads the kernel of a path.
    pub(crate) fn load(device: &Device, path: ProductPath) -> Result<Self, CudaError> {
        let module = Module::load(device.context(), path.ptx())?;
        let function = module.function(path.entry(), path.threads(), path.shared())?;
        Ok(Self { function, path })
    }

    /// The path.
    pub(crate) const fn path(&self) -> ProductPath {
        self.path
    }

    /// The entry and the kernel, for its occupancy.
    pub(crate) const fn function(&self) -> (&'static Entry, &Function) {
        (self.path.entry(), &self.function)
    }

    /// `out = left · rightᵀ`, all row-major and square; `size` is a multiple of 128.
    pub(crate) fn multiply(
        &self,
        stream: &Stream,
        [left, right, out]: [View<'_>; 3],
        size: u32,
    ) -> Result<(), CudaError> {
        for view in [left, right, out] {
            require(self.path.entry(), view, 2 * u64::from(size) * u64::from(size))?;
        }
        if size == 0 || !size.is_multiple_of(128) {
            return Err(CudaError::Launch { entry: self.path.entry().name, mismatch: "a size it has no tiles for" });
        }
        let arguments = [left.into(), right.into(), out.into(), Argument::Narrow(size)];
        // SAFETY: the grid's tiles lie inside size × size (a half tile's outer columns are read clamped and not stored),
        // which the three views hold.
        unsafe { stream.launch(&self.function, self.path.grid(size), &arguments) }
    }
}
