//! The daemon of a node as its processes: agent and keeper, on simulated GPUs, simulated MPS, a fake kubelet and a fake API
//! server.

#![expect(clippy::disallowed_methods, reason = "tests start the program, wait for it, and take the time")]
#![expect(clippy::expect_used, clippy::panic, reason = "a node that cannot be set up fails its test")]

mod api;
mod doors;
mod hardware;
mod harness;
mod sharing;
