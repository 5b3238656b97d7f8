//! This crate beside a fake kubelet, on the real wire.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test")]

mod device_plugin;
mod pod_resources;
mod support;
