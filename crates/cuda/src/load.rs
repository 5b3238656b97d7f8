//! A load kernel with its buffers on a device.

mod copy;
mod decode;
mod fault;
mod hold;
mod launches;
mod product;
mod reference;

use cotenant_model::{Bytes, Kernel};

use self::copy::CopyLoad;
use self::decode::DecodeLoad;
use self::fault::FaultLoad;
use self::hold::HoldLoad;
use self::launches::LaunchLoad;
use self::product::ProductLoad;
use crate::driver::{Entry, Function, Stream};
use crate::kernels::ProductPath;
use crate::{Check, CudaError, Device};

/// How much of a GPU a kernel's blocks can fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupancy {
    /// The kernel's name in the PTX.
    pub entry: &'static str,
    /// Blocks that fit on one multiprocessor at once (`cuOccupancyMaxActiveBlocksPerMultiprocessor`).
    pub blocks_per_multiprocessor: u32,
    /// Threads of a block.
    pub threads_per_block: u32,
    /// Blocks of a launch; of a decode's, the largest of its matrices.
    pub grid_blocks: u32,
}

impl Occupancy {
    fn of(entry: &Entry, function: &Function, grid_blocks: u32) -> Result<Self, CudaError> {
        Ok(Self {
            entry: entry.name,
            blocks_per_multiprocessor: function.blocks_per_multiprocessor()?,
            threads_per_block: function.threads(),
            grid_blocks,
        })
    }
}

/// A load kernel with its buffers on a device, ready to run step by step.
///
/// It may move between threads. Dropping it frees its memory.
#[derive(Debug)]
pub struct Load {
    stream: Stream,
    work: Work,
    checks: u64,
}

#[derive(Debug)]
enum Work {
    Decode(DecodeLoad),
    Product(ProductLoad),
    Launches(LaunchLoad),
    Copy(CopyLoad),
    Hold(HoldLoad),
    Fault(FaultLoad),
}

impl Load {
    /// Allocates and fills the kernel's buffers on the device and waits until they are there. The same seed gives the same
    /// contents; nothing big is ever built on the host.
    ///
    /// # Errors
    /// When a size cannot be run, memory does not suffice, or the driver refuses.
    pub fn prepare(device: &Device, kernel: &Kernel, seed: u64) -> Result<Self, CudaError> {
        let stream = Stream::create(device.context())?;
        let work = match kernel {
            Kernel::Decode(decode) => Work::Decode(DecodeLoad::prepare(&stream, decode, seed)?),
            Kernel::Prefill(products) | Kernel::Embed(products) => {
                let path = ProductPath::choose(device, products.size);
                Work::Product(ProductLoad::prepare(device, &stream, (products.size, path), seed)?)
            }
            Kernel::LaunchBound(launches) => Work::Launches(LaunchLoad::prepare(&stream, launches)?),
            Kernel::Bandwidth(buffer) => Work::Copy(CopyLoad::prepare(&stream, buffer.size, seed)?),
            Kernel::Memory(buffer) => Work::Hold(HoldLoad::prepare(&stream, buffer.size, seed)?),
            Kernel::Fault => Work::Fault(FaultLoad::prepare(&stream)?),
        };
        stream.synchronize()?;
        Ok(Self { stream, work, checks: seed })
    }

    /// Prepares square products of `size` by a path other than the one [`Load::prepare`] chooses for the device, to try
    /// every path on one card.
    ///
    /// # Errors
    /// As [`Load::prepare`]; the driver refuses paths newer than the card.
    pub fn prepare_product(device: &Device, size: u32, path: ProductPath, seed: u64) -> Result<Self, CudaError> {
        let stream = Stream::create(device.context())?;
        let work = Work::Product(ProductLoad::prepare(device, &stream, (size, path), seed)?);
        stream.synchronize()?;
        Ok(Self { stream, work, checks: seed })
    }

    /// Runs one step and waits until the GPU is done with it: one token (one graph launch) of every sequence, one product,
    /// one burst of launches or one copy.
    ///
    /// # Errors
    /// When the kind has no steps or the driver refuses, as after a fault.
    pub fn step(&mut self) -> Result<(), CudaError> {
        self.stream.bind()?;
        match &self.work {
            Work::Decode(decode) => decode.enqueue(&self.stream)?,
            Work::Product(product) => product.enqueue(&self.stream)?,
            Work::Launches(launches) => launches.enqueue(&self.stream)?,
            Work::Copy(copy) => copy.enqueue(&self.stream)?,
            Work::Hold(_) | Work::Fault(_) => return Err(CudaError::NoSteps { kind: self.kind() }),
        }
        self.stream.synchronize()
    }

    /// Writes to an address nothing is mapped at, and returns the error the driver then has for it
    /// (`CUDA_ERROR_ILLEGAL_ADDRESS`). Every later call fails with it too, under MPS also those of the other clients.
    /// `Ok` would mean that the GPU let it pass.
    ///
    /// # Errors
    /// The driver's, as wanted; or that the load is not [`Kernel::Fault`].
    pub fn fault(&mut self) -> Result<(), CudaError> {
        self.stream.bind()?;
        let Work::Fault(fault) = &self.work else {
            return Err(CudaError::NoFault { kind: self.kind() });
        };
        fault.enqueue(&self.stream)?;
        self.stream.synchronize()
    }

    /// Runs the step's own device code on input that differs with every call, and compares what it writes with the CPU.
    /// Outputs are poisoned with not-a-number before, and every one is looked at.
    ///
    /// | kind | compared | bound |
    /// |---|---|---|
    /// | decode | the residual after as many whole layers as a CPU does in about a second, at least one; and the graph with the single launches, bit by bit | 2⁻¹⁰·√layers: fp16 rounds by 2⁻¹¹ at most, host and device round at the same places, and only sums near a tie round differently |
    /// | product | 64 × 64 entries, one in each of 64 bands of rows and columns; all for being finite | 2⁻⁸ (bf16; fp16: 2⁻¹¹), the largest relative error of rounding the result; the fp32 sums of such operands are all but exact |
    /// | launch-bound, bandwidth, memory, fault | every element, exactly | 0 |
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn verify(&mut self) -> Result<Check, CudaError> {
        self.stream.bind()?;
        self.checks = self.checks.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let fresh = self.checks;
        match &mut self.work {
            Work::Decode(decode) => decode.verify(&self.stream, fresh),
            Work::Product(product) => product.verify(&self.stream, fresh),
            Work::Launches(launches) => launches.verify(&self.stream, fresh),
            Work::Copy(copy) => copy.verify(&self.stream, fresh),
            Work::Hold(hold) => hold.verify(&self.stream, fresh),
            Work::Fault(fault) => fault.verify(&self.stream, fresh),
        }
    }

    /// Occupancy of the kernel that does the work; `None` for kinds without one that matters.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn occupancy(&self) -> Result<Option<Occupancy>, CudaError> {
        match &self.work {
            Work::Decode(decode) => decode.occupancy().map(Some),
            Work::Product(product) => product.occupancy().map(Some),
            Work::Launches(_) | Work::Copy(_) | Work::Hold(_) | Work::Fault(_) => Ok(None),
        }
    }

    const fn kind(&self) -> &'static str {
        match self.work {
            Work::Decode(_) => "decode",
            Work::Product(_) => "product",
            Work::Launches(_) => "launch-bound",
            Work::Copy(_) => "bandwidth",
            Work::Hold(_) => "memory",
            Work::Fault(_) => "fault",
        }
    }
}

/// Refuses a buffer that is not of whole 8-byte words.
fn require_words(what: &'static str, size: Bytes) -> Result<(), CudaError> {
    if size.0 > 0 && size.0.is_multiple_of(8) {
        return Ok(());
    }
    Err(CudaError::Size { what, value: size.0, wanted: "a multiple of 8 bytes, at least 8" })
}

/// Refuses a size that the tiles of the kernels do not divide.
fn require_tiles(what: &'static str, size: u32) -> Result<(), CudaError> {
    if size > 0 && size.is_multiple_of(128) {
        return Ok(());
    }
    Err(CudaError::Size { what, value: u64::from(size), wanted: "a multiple of 128, at least 128" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_the_kernels_have_no_tiles_for_are_refused() {
        assert!(require_tiles("size", 384).is_ok() && require_words("size", Bytes(24)).is_ok());
        let error = require_tiles("width", 200).expect_err("200 is no multiple of 128");
        assert_eq!(error.to_string(), "width is 200, not a multiple of 128, at least 128");
        assert!(require_tiles("width", 0).is_err());
        assert!(require_words("size", Bytes(0)).is_err() && require_words("size", Bytes(20)).is_err());
    }

    #[test]
    fn a_load_may_move_to_another_thread() {
        const fn is_send<T: Send>() {}
        is_send::<Load>();
        is_send::<Device>();
    }
}
