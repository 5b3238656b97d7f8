//! The process of one tenant.

pub mod arrivals;
pub mod kernel;
pub mod recorder;
pub mod stop;
