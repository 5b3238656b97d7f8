//! What every reading of a stranger's bytes owes: no panic, values within their bounds or none, no control character kept.
//! Strangers are the control program's replies, the daemon's logs, in which any client can make it quote a text, and a
//! client's environment.

use std::path::PathBuf;

use cotenant_model::{Bytes, GpuUuid, Percent};
use cotenant_mps::inspection::{Share, inspect_environment};
use cotenant_mps::log::parse_line;
use cotenant_mps::reply::{self, ServerStatus};

/// Most characters of a stranger's text that are kept, with the mark that it was longer.
const EXCERPT: usize = 201;

/// Reads the bytes in every way, and panics where a reading owes something.
pub(crate) fn read(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    replies(&text);
    for line in text.lines() {
        let _meaning = parse_line(line);
    }
    let share = Share {
        gpu: GpuUuid("GPU-00000000-1111-2222-3333-444444444444".to_owned()),
        pipe: PathBuf::from("/mps/nvidia.com/gpu/pipe"),
        memory: Some(Bytes(8 << 30)),
        percent: Percent::try_from(15).ok(),
    };
    // Debug escapes what it prints, so only that it ends is of interest.
    let _deviations = inspect_environment(bytes, &share);
}

fn replies(text: &str) {
    let _missing = reply::is_missing(text);
    let _code = reply::parse_termination(text);
    let _memory = reply::parse_memory(text);
    if let Some(percent) = reply::parse_percent(text) {
        assert!(percent > 0.0 && percent <= 100.0);
    }
    if let Some(pids) = reply::parse_pids(text) {
        assert!(pids.len() <= text.lines().count());
    }
    status(&reply::parse_status(text));
    for process in reply::parse_ps(text).unwrap_or_default() {
        stranger(&process.command);
        stranger(&process.device);
    }
    if let Some(clients) = reply::parse_device_clients(text) {
        assert!(clients.len() <= text.lines().count());
    }
    for server in reply::parse_named_servers(text).unwrap_or_default() {
        stranger(&server.name);
        status(&server.status);
    }
    let _clients = reply::parse_named_clients(text);
}

fn status(status: &ServerStatus) {
    if let ServerStatus::Other(text) = status {
        stranger(text);
    }
}

fn stranger(text: &str) {
    assert!(text.chars().count() <= EXCERPT, "{} characters are kept", text.chars().count());
    plain(text);
}

fn plain(text: &str) {
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "a control character is kept: {text:?}");
}
