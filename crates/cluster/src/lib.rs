//! The Kubernetes API: labels, events, pods and the objects of an installation.
//!
//! This room owns everything that is asked of an API server: the labels of a node ([`Client::set_labels`],
//! [`LabelKeeper`]), what its labels and annotations ask of the agent ([`NodeWatch`]), the pods on it ([`PodWatch`]),
//! events ([`EventReporter`]), evictions ([`Client::evict`]), uninstalling ([`uninstall`]), and the objects of an
//! installation ([`install`]). It refuses to decide anything about GPUs, and to hold anybody up: whoever runs a watch, a
//! keeper or a reporter as a task gets channels, and an API server that is away changes nothing but
//! [`Reachability`]. Nothing here ends because the API server does.
//!
//! ```text
//!             an answer, also a refusal
//!          ┌────────────────────────────▶ Reachable ──┐
//! Unknown ─┤                                ▲         │ no connection, no answer in time, 5xx, a page of a proxy
//!          └────────────────────────────▶ Unreachable ◀┘   (asked again after 0.5 s, at last every 10 s)
//! ```
//!
//! Proved against the testkit's API server, which speaks HTTP on loopback but is no etcd: refusals, conflicts, lost
//! histories, pages of proxies and absences. What a real API server has shown is in `docs/install.md`.

mod backoff;
mod client;
mod error;
mod event;
pub mod install;
mod node;
mod pod;
pub mod uninstall;

pub use backoff::Backoff;
pub use client::{Client, ClientError, Reachability, Source};
pub use error::ApiError;
pub use event::{Event, EventKind, EventReporter, Events, Regarding};
pub use node::{CONFIG_LABEL, FIELD_MANAGER, LabelChange, LabelKeeper, Labels, MIG_CONFIG_LABEL, NodeFacts, NodeWatch};
pub use pod::{Eviction, Owner, Pod, PodWatch, Pods};
