//! NVML's C symbols, answered by the simulation.
//!
//! Layouts come from `nvml-wrapper-sys`, which was generated from NVIDIA's header. A caller that breaks NVML's own contract
//! (a pointer that is neither null nor valid for the documented type) has undefined behaviour here as there.
#![expect(unsafe_code, reason = "a C library exports symbols and writes through the caller's pointers")]

/// Defines exported functions: the C name, the parameters, and what they do to the simulation.
macro_rules! exports {
    ($($symbol:literal => fn $name:ident($($argument:ident: $kind:ty),*) |$simulation:ident| $body:expr;)*) => {$(
        #[unsafe(export_name = $symbol)]
        extern "C" fn $name($($argument: $kind),*) -> u32 {
            $crate::nvml::simulation::answer($symbol, |$simulation| $body)
        }
    )*};
}

mod bus;
mod device;
mod events;
mod gauges;
mod instance;
mod mig;
mod monitoring;
mod pointer;
mod processes;
mod system;
