//! Which of the driver's processes belong to a tenant: its own and those it started.

use std::collections::{BTreeMap, BTreeSet};

use cotenant_model::Bytes;
use cotenant_model::gpu::GpuProcess;

/// Device memory of the process tree under `root`; `None` when the driver names none of its processes or not their memory.
///
/// The driver names host process ids; inside a container without the host's id space none matches, and the answer is `None`.
pub(super) fn device_memory(root: u32, processes: &[GpuProcess]) -> Option<Bytes> {
    let tree = tree(root, &parents());
    let sizes = processes.iter().filter(|process| tree.contains(&process.pid)).filter_map(|process| process.memory);
    sizes.reduce(|sum, size| Bytes(sum.0 + size.0))
}

fn tree(root: u32, parents: &BTreeMap<u32, u32>) -> BTreeSet<u32> {
    let mut tree = BTreeSet::from([root]);
    loop {
        let children: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| tree.contains(parent) && !tree.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if children.is_empty() {
            return tree;
        }
        tree.extend(children);
    }
}

/// Each process's parent, from `/proc/PID/stat`; the fields follow the last `)`, since a name may hold any character.
fn parents() -> BTreeMap<u32, u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        Some((pid, fields.split_whitespace().nth(1)?.parse().ok()?))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotenant_model::gpu::ProcessList;

    fn process(pid: u32, memory: Option<Bytes>) -> GpuProcess {
        GpuProcess { pid, memory, list: ProcessList::Compute, sm_utilization: None }
    }

    #[test]
    fn children_of_children_count() {
        let parents = BTreeMap::from([(2, 1), (3, 2), (4, 9), (5, 3)]);
        assert_eq!(tree(1, &parents), BTreeSet::from([1, 2, 3, 5]));
    }

    #[test]
    fn memory_nobody_states_is_not_zero() {
        let me = std::process::id();
        assert_eq!(device_memory(me, &[process(me, None)]), None);
        assert_eq!(device_memory(me, &[process(me, Some(Bytes(7))), process(1, Some(Bytes(5)))]), Some(Bytes(7)));
        assert!(parents().contains_key(&me));
    }
}
