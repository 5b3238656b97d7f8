//! Any text as a node's configuration.
#![no_main]

#[path = "../../crates/model/tests/oracle/node_config.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|text: &str| oracle::read(text));
