//! Any bytes as a reply of the MPS control program, a log of its daemon or a client's environment.
#![no_main]

#[path = "../../crates/mps/tests/oracle/mps_reply.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracle::read(bytes));
