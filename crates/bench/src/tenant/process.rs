//! What `/proc` tells about the memory of processes.

use std::fs;

use cotenant_model::Bytes;

/// Host memory of one or several processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// `VmRSS`: everything resident, the driver's mapped libraries included.
    pub resident: Bytes,
    /// `RssAnon`: anonymous pages, the programs' own.
    pub own: Bytes,
}

/// Memory of a process; `None` when it is gone or hidden.
#[must_use]
pub(super) fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Memory { resident: kibibytes(&status, "VmRSS:")?, own: kibibytes(&status, "RssAnon:")? })
}

/// Memory of a process and its [family](cotenant_mps::family), summed; pages they share count once for each.
#[must_use]
pub(super) fn family_memory(leader: u32) -> Memory {
    cotenant_mps::family(leader).into_iter().filter_map(memory).fold(Memory::default(), |sum, one| Memory {
        resident: Bytes(sum.resident.0 + one.resident.0),
        own: Bytes(sum.own.0 + one.own.0),
    })
}

fn kibibytes(status: &str, key: &str) -> Option<Bytes> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes(kibibytes << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_alone_and_with_its_family() {
        let mine = memory(std::process::id()).expect("memory");
        assert!(mine.own.0 > 0 && mine.own < mine.resident);
        assert!(family_memory(std::process::id()).own.0 > 0);
    }

    #[test]
    fn a_process_that_is_gone_has_no_memory() {
        assert_eq!(memory(u32::MAX), None);
        assert_eq!(family_memory(u32::MAX), Memory::default());
    }

    #[test]
    fn figures_of_another_unit_are_not_taken() {
        assert_eq!(kibibytes("VmRSS:\t  2048 kB\n", "VmRSS:"), Some(Bytes(2 << 20)));
        assert_eq!(kibibytes("VmRSS:\t  2048 MB\n", "VmRSS:"), None);
    }
}
