//! What the agent tells others: metrics and probes over HTTP, its status over a local socket.
//!
//! All of it is read from the newest [`View`]; a scrape never asks the driver, the kubelet or a daemon anything.

mod metrics;
mod router;
#[cfg(test)]
mod tests;
mod view;

pub use metrics::{Format, text};
pub use router::{ServeError, local, probes, serve_local, serve_probes};
pub use view::{Configuration, GpuView, ResourceView, TenantView, View};
