//! Sharing of a node's GPUs: the configuration file that NVIDIA's device plugin reads (`version: v1`), what is added to it
//! under `cotenant:`, and what follows for each GPU.
//!
//! ```text
//! file ── raw ──▶ Sharing ──(inventory)──▶ Offer: resources with devices ──▶ kubelet
//!                                           │
//!                                           ├─ explain      what each GPU offers, and why
//!                                           ├─ label        what the node says of itself
//!                                           ├─ change       what an edit would disturb
//!                                           ├─ preferred    which free devices suit a container best
//!                                           └─ allocation   what a container is given
//! layout of a rule, or by name ──(profiles)──▶ mig::Plan: what stays, what is destroyed and created
//! ```
//!
//! Everything here is a function of its arguments: files, GPUs and pods are read elsewhere.

pub mod allocation;
pub mod change;
mod check;
pub mod compute;
pub mod config;
pub mod explain;
pub mod label;
pub mod layout;
pub mod mig;
pub mod offer;
pub mod preferred;
pub mod raw;

#[cfg(test)]
mod fixture;

pub use config::Sharing;
pub use offer::{Device, DeviceId, GpuOffer, Offer, Resource, ResourceName, Share, Strategy};
