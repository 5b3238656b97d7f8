//! What `/proc` tells about the memory of processes.

use std::collections::BTreeSet;
use std::fs;

use cotenant_model::Bytes;

/// Host memory of one or several processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// `VmRSS`: everything resident, the driver's mapped libraries included.
    pub resident: Bytes,
    /// `RssAnon`: anonymous pages, the programs' own.
    pub own: Bytes,
}

/// Memory of a process; `None` when it is gone or hidden.
#[must_use]
pub fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Memory { resident: kibibytes(&status, "VmRSS:")?, own: kibibytes(&status, "RssAnon:")? })
}

/// Memory of a process, of its group and of all their descendants, summed; pages they share count once for each.
#[must_use]
pub fn family_memory(leader: u32) -> Memory {
    family(leader).into_iter().filter_map(memory).fold(Memory::default(), |sum, one| Memory {
        resident: Bytes(sum.resident.0 + one.resident.0),
        own: Bytes(sum.own.0 + one.own.0),
    })
}

/// A process, the members of the process group it leads, and the descendants of them all, as far as `/proc` shows them.
#[must_use]
pub fn family(leader: u32) -> BTreeSet<u32> {
    let all: Vec<Kinship> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Kinship::of)
        .collect();
    let mut family: BTreeSet<u32> = all.iter().filter(|one| one.group == leader).map(|one| one.pid).collect();
    family.insert(leader);
    loop {
        let before = family.len();
        let children: Vec<u32> = all.iter().filter(|one| family.contains(&one.parent)).map(|one| one.pid).collect();
        family.extend(children);
        if family.len() == before {
            return family;
        }
    }
}

/// Fields of `/proc/PID/stat`.
struct Kinship {
    pid: u32,
    parent: u32,
    group: u32,
}

impl Kinship {
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command name, in parentheses, may hold spaces and parentheses: the fields count from its last one.
        let (_name, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().skip(1);
        Some(Self { pid, parent: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
    }
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
    fn this_process_has_memory_and_a_family() {
        let mine = memory(std::process::id()).expect("memory");
        assert!(mine.own.0 > 0 && mine.own < mine.resident);
        assert!(family(std::process::id()).contains(&std::process::id()));
        assert!(family_memory(std::process::id()).resident.0 > 0);
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
