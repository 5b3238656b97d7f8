//! The nouns of cotenant and their rules.
//!
//! This room owns what the other rooms talk about: units, load kernels, workload files, arms of a comparison, GPU
//! identity and telemetry samples, the record of a run, and the two ports to hardware and time ([`GpuReader`], [`Clock`]).
//! It refuses all input and output: reading a file, a clock or a GPU is the caller's business.

pub mod arm;
pub mod cause;
pub mod document;
pub mod gpu;
pub mod histogram;
pub mod kernel;
pub mod price;
pub mod run;
pub mod sharing;
pub mod unit;
pub mod workload;

pub use arm::Arm;
pub use gpu::{Clock, GpuReader, GpuUuid};
pub use histogram::Histogram;
pub use kernel::Kernel;
pub use unit::{Bytes, MicroUsd, Nanoseconds, Percent};
