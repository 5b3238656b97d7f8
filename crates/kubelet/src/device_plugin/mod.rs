//! Resources towards the kubelet, by the device plugin interface `v1beta1`.
//!
//! A [`DevicePlugin`] serves first and registers second, because the kubelet dials back before it answers. From then on it
//! looks rather than remembers: whenever a socket of the kubelet's folder comes or goes, a stream opens or closes, or time
//! passes, it compares what is there with what should be.
//!
//! - its own socket is gone: it listens anew at the same place. A kubelet that watches already keeps its connection and is
//!   not disturbed: to register a second time would end the session for a moment, in which pods are refused;
//! - `kubelet.sock` is another file: the kubelet was restarted and knows nobody, so it is asked at once;
//! - the kubelet closes the stream, refuses, or agrees and does nothing: it is asked again, after delays from 50 ms to 15 s;
//! - NVIDIA's plugin for the same resource ends: the kubelet, which asks the one that registered last, is asked anew;
//! - another process serves the socket: it waits until that one is gone, so that two agents never take turns.
//!
//! Known limit: gRPC clients that send a path as `:authority` are turned away by the HTTP/2 library. Kubelets from 1.26 on
//! send `localhost`.

mod answer;
mod delivery;
mod device;
mod folder;
mod plugin;
mod register;
mod server;
mod service;
mod session;
mod socket;

pub use answer::{Allocate, Allocation, Answers, Choice, DeviceNode, Mount, Prefer, Refusal};
pub use delivery::{Delivery, DeviceFiles, Given};
pub use device::{Device, DeviceList, DeviceListError};
pub use plugin::{DevicePlugin, Registration};
pub use socket::remove_retired_sockets;

/// The kubelet's folder of device plugins, where it keeps its own socket too.
pub const DIRECTORY: &str = "/var/lib/kubelet/device-plugins";
