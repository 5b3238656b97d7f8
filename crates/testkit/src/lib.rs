//! Fakes on the real wire, for tests only.
//!
//! This room owns stand-ins for what a test machine lacks, each reached the way the real thing is: a shared library with
//! NVML's symbols, programs that speak a daemon's dialogue, servers on loopback sockets. It refuses to stand in for our own
//! code: nothing here implements a trait of ours. `unsafe` is confined to the C symbols of [`nvml`].

pub mod api_server;
pub mod kubelet;
mod loopback;
pub mod model_server;
pub mod mps;
pub mod nvml;
mod program;

pub use self::program::program;
