//! Who else is on this host's GPUs: processes that are not ours.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cotenant_model::gpu::GpuProcess;

/// A process on the GPU that is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignProcess {
    /// The process as the driver lists it.
    pub process: GpuProcess,
    /// Its command line; `None` where this host (or container) does not show the process.
    pub command: Option<String>,
}

/// The processes of this host, as its `/proc` shows them.
#[derive(Debug, Clone)]
pub struct ProcessTable {
    root: PathBuf,
}

impl Default for ProcessTable {
    fn default() -> Self {
        Self::at("/proc")
    }
}

impl ProcessTable {
    /// A process table under another root than `/proc`, such as a container's mount of the host's.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Whether this table counts pids the way the driver does.
    ///
    /// The driver tells the host's pids, also inside a container. In a PID namespace of its own a container can neither
    /// match its own processes with the driver's list nor see foreign ones; the list is often empty there. `None` where the
    /// namespace cannot be read.
    #[must_use]
    pub fn has_host_pids(&self) -> Option<bool> {
        /// `PROC_PID_INIT_INO` of the Linux kernel (`include/linux/proc_ns.h`): the first PID namespace.
        const FIRST_NAMESPACE: &str = "pid:[4026531836]";
        let namespace = std::fs::read_link(self.root.join("self/ns/pid")).ok()?;
        Some(namespace == Path::new(FIRST_NAMESPACE))
    }

    /// The processes of a GPU whose pid is not in `own`, with what they are. An MPS server that we started belongs in `own`.
    #[must_use]
    pub fn foreign(&self, processes: &[GpuProcess], own: &BTreeSet<u32>) -> Vec<ForeignProcess> {
        let foreign = processes.iter().filter(|process| !own.contains(&process.pid));
        foreign.map(|process| ForeignProcess { command: self.command(process.pid), process: process.clone() }).collect()
    }

    /// A process's command line with spaces between its arguments; `None` where it is hidden, or a thread of the kernel.
    #[must_use]
    pub fn command(&self, pid: u32) -> Option<String> {
        let line = std::fs::read(self.root.join(pid.to_string()).join("cmdline")).ok()?;
        let arguments = line.split(|byte| *byte == 0).filter(|argument| !argument.is_empty());
        let shown: Vec<_> = arguments.map(String::from_utf8_lossy).collect();
        if shown.is_empty() { None } else { Some(shown.join(" ")) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cotenant_model::gpu::ProcessList;

    use super::*;

    fn table(commands: &[(u32, &str)]) -> (tempfile::TempDir, ProcessTable) {
        let root = tempfile::tempdir().expect("directory");
        for (pid, command) in commands {
            let process = root.path().join(pid.to_string());
            fs::create_dir(&process).expect("directory");
            fs::write(process.join("cmdline"), command).expect("file");
        }
        let table = ProcessTable::at(root.path());
        (root, table)
    }

    #[test]
    fn a_foreign_process_is_named_where_it_can_be_seen() {
        let (_root, table) = table(&[(7, "python3\0train.py\0"), (6, "")]);
        let on_gpu = |pid| GpuProcess { pid, memory: None, list: ProcessList::Compute, sm_utilization: None };
        let foreign = table.foreign(&[on_gpu(6), on_gpu(7), on_gpu(8), on_gpu(9)], &BTreeSet::from([9]));
        let seen: Vec<_> = foreign.iter().map(|foreign| (foreign.process.pid, foreign.command.as_deref())).collect();
        assert_eq!(seen, [(6, None), (7, Some("python3 train.py")), (8, None)]);
    }

    #[test]
    fn this_process_is_in_the_real_table() {
        let command = ProcessTable::default().command(std::process::id()).expect("visible");
        assert!(command.contains("cotenant_gpu"), "{command}");
        assert!(ProcessTable::default().has_host_pids().is_some());
    }

    #[test]
    fn a_table_that_is_not_there_knows_nothing() {
        let table = ProcessTable::at("/nonexistent");
        assert_eq!((table.command(std::process::id()), table.has_host_pids()), (None, None));
    }
}
