//! The daemon of a node: what a GPU offers, served to the kubelet and kept true.

pub mod agent;
mod clock;
pub mod keeper;
pub mod serve;
pub mod usage;
