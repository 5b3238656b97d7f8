//! Load kernels on the CUDA driver API.
//!
//! This room owns the synthetic GPU work of [`cotenant_model::Kernel`]: it opens a [`Device`], prepares a [`Load`], runs it
//! one step at a time and checks its sums against the CPU. It needs the driver (`libcuda.so.1`, 535 or newer) and no
//! toolkit: the kernels are CUDA C under `kernels/`, compiled ahead to the PTX under `ptx/` (`cargo xtask ptx`), which the
//! driver compiles for the card at hand. It is the only room with `unsafe`, all of it under `driver` and `kernels`.
//!
//! It refuses everything about sharing: it knows no tenants, arms, clocks or pacing, measures nothing, and changes no
//! setting of a GPU. Waiting for a step is the driver's default (`CU_CTX_SCHED_AUTO`): it spins while the host has more
//! processors than the process has contexts, so a tenant that waits for its GPU keeps a processor busy, as inference
//! servers do.
//!
//! ```text
//!            open                prepare               step, verify
//! (no GPU) ───────▶ Device ───────────────────▶ Load ◀─────────────┐
//!     │                                          │  └──────────────┘
//!     │ library, device or driver missing        │ fault, or a neighbour's under MPS
//!     ▼                                          ▼
//! CudaError                       every later call fails with the driver's error
//! ```
//!
//! What runs without a GPU: the tests compile the kernels' own source for the host and run it there thread by thread
//! (`tests/emulator`), which proves index arithmetic and results, not speed and not the hardware's instructions. The rest
//! is `cargo run --release -p cotenant-cuda --example probe` on a GPU; what an H200 answered is under `results/h200`. No
//! card older than Hopper has run the kernels.

mod check;
mod device;
mod driver;
mod error;
mod kernels;
mod load;
mod random;

pub use check::Check;
pub use device::Device;
pub use error::CudaError;
pub use kernels::ProductPath;
pub use load::{Load, Occupancy};
