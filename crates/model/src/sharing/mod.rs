//! Sharing of a node's GPUs: the configuration file that NVIDIA's device plugin reads (`version: v1`), what is added to it
//! under `cotenant:`, and what follows for each GPU.
//!
//! ```text
//! file ── raw ──▶ Sharing ──(inventory)──▶ Offer: resources with devices ──▶ kubelet
//!                                           │
//!                                           ├─ label::labels   what the node says of itself
//!                                           └─ change::between what an edit would disturb
//! ```
//!
//! Everything here is a function of its arguments: files, GPUs and pods are read elsewhere.

mod check;
pub mod compute;
pub mod config;
pub mod explain;
pub mod layout;
pub mod mig;
pub mod offer;
pub mod raw;

#[cfg(test)]
mod fixture;

pub use config::Sharing;
pub use offer::{Device, DeviceId, GpuOffer, Offer, Resource, ResourceName, Share, Strategy};
