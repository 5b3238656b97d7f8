//! The kubelet: device plugins, their registration, CDI specs, and who holds which device.

mod wire;
