//! What a simulated daemon knows; all of it is lost when it quits.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::Child;

use super::three::Named;

/// Servers, clients and settings.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) servers: BTreeMap<u32, Server>,
    /// Clients by process id.
    pub(super) clients: BTreeMap<u32, Connected>,
    /// What was set: by the command's name after `set_` and its arguments but the last.
    pub(super) settings: BTreeMap<String, String>,
    /// Servers of protocol 3 by name.
    pub(super) named: BTreeMap<String, Named>,
    /// How many clients have come so far.
    pub(super) count: u64,
}

/// A server process.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) child: Child,
    /// User whose clients it serves.
    pub(super) user: u32,
    /// Clients whose contexts a fault has broken and who have not left yet.
    pub(super) affected: BTreeSet<u32>,
    /// Whether it has been told to go: driver 580 calls that `FAULT` too, for a fifth of a second.
    pub(super) leaving: bool,
    /// Default limits when it started.
    pub(super) limits: Limits,
}

/// What a client may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    /// Device memory in bytes; `None` without a limit.
    pub(super) memory: Option<u64>,
    /// Share of the multiprocessors.
    pub(super) percent: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: None, percent: 100.0 }
    }
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Connected {
    /// The way to tell it of an error.
    pub(super) stream: UnixStream,
    pub(super) server: u32,
    /// Its place in the order of coming, from 1.
    pub(super) number: u64,
    /// Namespace of protocol 3.
    pub(super) namespace: Option<String>,
}

impl Connected {
    /// Tells it CUDA's error code; whether that arrived.
    pub(super) fn tell(&mut self, code: &str) -> bool {
        writeln!(self.stream, "{code}").is_ok()
    }
}

impl Server {
    /// What it says of itself.
    pub(super) fn status(&self) -> &'static str {
        if self.leaving || !self.affected.is_empty() { "FAULT" } else { "ACTIVE" }
    }
}

impl Tables {
    /// Clients of a server in the order in which they came.
    pub(super) fn clients_of(&self, server: u32) -> Vec<u32> {
        let mut clients: Vec<(u64, u32)> =
            self.clients.iter().filter(|(_, c)| c.server == server).map(|(pid, c)| (c.number, *pid)).collect();
        clients.sort_unstable();
        clients.into_iter().map(|(_, pid)| pid).collect()
    }

    /// A client that left; whether it was the last one that a fault had affected.
    pub(super) fn remove_client(&mut self, pid: u32) -> bool {
        let Some(client) = self.clients.remove(&pid) else { return false };
        let Some(server) = self.servers.get_mut(&client.server) else { return false };
        server.affected.remove(&pid) && server.affected.is_empty()
    }

    /// Takes a server out and tells its clients that it is gone.
    pub(super) fn remove_server(&mut self, pid: u32) -> Option<Server> {
        for client in self.clients_of(pid) {
            if let Some(mut connected) = self.clients.remove(&client) {
                connected.tell("806");
            }
        }
        self.servers.remove(&pid)
    }

    /// The limits that a server starts with.
    pub(super) fn default_limits(&self, device: &str) -> Limits {
        let set = |key: &str| self.settings.get(key);
        let memory = |device: &str| memory_bytes(set(&format!("default_device_pinned_mem_limit {device}"))?);
        let percent = set("default_active_thread_percentage ").and_then(|text| text.parse().ok());
        Limits { memory: memory("0").or_else(|| memory(device)), percent: percent.unwrap_or(100.0) }
    }
}

/// Bytes of `512M` or `2G`; `None` for what the real daemon ignores as well.
pub(super) fn memory_bytes(text: &str) -> Option<u64> {
    let (number, shift) = match text.split_at_checked(text.len().checked_sub(1)?)? {
        (number, "G") => (number, 30),
        (number, "M") => (number, 20),
        (number, "K") => (number, 10),
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A memory limit as the daemon tells it: whole gigabytes, rounded down, from one on (seen on driver 580: `1G` for 1500M).
pub(super) fn memory_shown(bytes: u64) -> String {
    if bytes >= 1 << 30 { format!("{}G", bytes >> 30) } else { format!("{}M", bytes >> 20) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_exactly_and_told_in_whole_gigabytes() {
        assert_eq!(memory_bytes("1500M"), Some(1500 << 20));
        assert_eq!(memory_bytes("9216"), None);
        assert_eq!(memory_bytes(""), None);
        assert_eq!([1500 << 20, 700 << 20, 9 << 30].map(memory_shown), ["1G", "700M", "9G"]);
    }
}
