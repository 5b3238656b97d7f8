//! The kubelet: device plugins, their registration, CDI specifications, and who holds which device.
//!
//! This room owns everything that is said to the kubelet of a node or for its container runtime: the gRPC interfaces of
//! device plugins ([`device_plugin`]) and pod resources ([`pod_resources`]), what a container gets for its devices
//! ([`device_plugin::Delivery`]), CDI specifications ([`cdi`]) and the names of device files ([`device_file`]). It refuses
//! to know why a device is offered, healthy or handed out: lists come through a channel, answers from functions that the
//! daemon gives. Nothing of the wire's types leaves it.
//!
//! ```text
//!   out ── kubelet.sock is there ──▶ asking ── accepted ──▶ accepted ── ListAndWatch opened ──▶ watched (= Registered)
//!    ▲                                 │                        │                                 │
//!    └── refused, silent ──────────────┴── never watched ───────┴── closed, or a new kubelet.sock ┘
//! ```
//!
//! The tests drive it with a fake kubelet on the real wire (`testkit::kubelet`), which behaves as the source of kubelet
//! 1.34 says. What a real kubelet has shown is told by the tests of `e2e`.

pub mod cdi;
mod channel;
pub mod device_file;
pub mod device_plugin;
pub mod pod_resources;
mod wire;

pub use channel::ConnectError;
