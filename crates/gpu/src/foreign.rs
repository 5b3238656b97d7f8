//! Who else is on this host's GPUs: processes that are not ours, and MPS daemons.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
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

/// A program of CUDA MPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MpsRole {
    /// `nvidia-cuda-mps-control`, the daemon that starts servers.
    Control,
    /// `nvidia-cuda-mps-server`, one for each user.
    Server,
}

/// An MPS program that runs on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpsDaemon {
    /// Process id, as this host or container counts.
    pub pid: u32,
    /// Which of the two programs it is.
    pub role: MpsRole,
    /// Its `CUDA_MPS_PIPE_DIRECTORY`; `None` where it has none (then it uses `/tmp/nvidia-mps`) or its environment may not
    /// be read, which takes the same user or root.
    pub pipe_directory: Option<PathBuf>,
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

    /// A process's command line with spaces between its arguments.
    #[must_use]
    pub fn command(&self, pid: u32) -> Option<String> {
        let arguments = self.arguments(pid).ok()?;
        let shown: Vec<_> = arguments.iter().map(|argument| String::from_utf8_lossy(argument)).collect();
        if shown.is_empty() { None } else { Some(shown.join(" ")) }
    }

    /// MPS programs that run already, by pid.
    ///
    /// # Errors
    /// When the process table cannot be listed. Processes that end meanwhile are no error.
    pub fn mps_daemons(&self) -> io::Result<Vec<MpsDaemon>> {
        let mut daemons = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(role) = self.mps_role(pid) {
                daemons.push(MpsDaemon { pid, role, pipe_directory: self.pipe_directory(pid) });
            }
        }
        daemons.sort_by_key(|daemon| daemon.pid);
        Ok(daemons)
    }

    fn mps_role(&self, pid: u32) -> Option<MpsRole> {
        let arguments = self.arguments(pid).ok()?;
        let program = Path::new(OsStr::from_bytes(arguments.first()?)).file_name()?;
        match program.to_str()? {
            "nvidia-cuda-mps-control" => Some(MpsRole::Control),
            "nvidia-cuda-mps-server" => Some(MpsRole::Server),
            _ => None,
        }
    }

    fn pipe_directory(&self, pid: u32) -> Option<PathBuf> {
        let environment = self.texts(pid, "environ").ok()?;
        let value = environment.iter().find_map(|variable| variable.strip_prefix(b"CUDA_MPS_PIPE_DIRECTORY="))?;
        Some(OsStr::from_bytes(value).into())
    }

    fn arguments(&self, pid: u32) -> io::Result<Vec<Vec<u8>>> {
        self.texts(pid, "cmdline")
    }

    /// The texts of a file of a process that ends each with a zero.
    fn texts(&self, pid: u32, file: &str) -> io::Result<Vec<Vec<u8>>> {
        let bytes = std::fs::read(self.root.join(pid.to_string()).join(file))?;
        Ok(bytes.split(|byte| *byte == 0).filter(|text| !text.is_empty()).map(<[u8]>::to_vec).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cotenant_model::gpu::ProcessList;

    use super::*;

    fn table(processes: &[(u32, &str, Option<&str>)]) -> (tempfile::TempDir, ProcessTable) {
        let root = tempfile::tempdir().expect("directory");
        fs::create_dir(root.path().join("sys")).expect("directory");
        for (pid, command, environment) in processes {
            let process = root.path().join(pid.to_string());
            fs::create_dir(&process).expect("directory");
            fs::write(process.join("cmdline"), command).expect("file");
            if let Some(environment) = environment {
                fs::write(process.join("environ"), environment).expect("file");
            }
        }
        let table = ProcessTable::at(root.path());
        (root, table)
    }

    #[test]
    fn an_mps_daemon_is_found_by_its_program_and_not_by_its_arguments() {
        let (_root, table) = table(&[
            (30, "/usr/bin/nvidia-cuda-mps-server\0", None),
            (20, "nvidia-cuda-mps-control\0-d\0", Some("HOME=/root\0CUDA_MPS_PIPE_DIRECTORY=/run/mps\0")),
            (40, "vim\0nvidia-cuda-mps-control\0", None),
            (50, "", None),
        ]);
        let daemons = table.mps_daemons().expect("listable");
        assert_eq!(
            daemons,
            [
                MpsDaemon { pid: 20, role: MpsRole::Control, pipe_directory: Some("/run/mps".into()) },
                MpsDaemon { pid: 30, role: MpsRole::Server, pipe_directory: None },
            ]
        );
    }

    #[test]
    fn a_foreign_process_is_named_where_it_can_be_seen() {
        let (_root, table) = table(&[(7, "python3\0train.py\0", None)]);
        let on_gpu = |pid| GpuProcess { pid, memory: None, list: ProcessList::Compute, sm_utilization: None };
        let foreign = table.foreign(&[on_gpu(7), on_gpu(8), on_gpu(9)], &BTreeSet::from([9]));
        let seen: Vec<_> = foreign.iter().map(|foreign| (foreign.process.pid, foreign.command.as_deref())).collect();
        assert_eq!(seen, [(7, Some("python3 train.py")), (8, None)]);
    }

    #[test]
    fn this_process_is_in_the_real_table() {
        let command = ProcessTable::default().command(std::process::id()).expect("visible");
        assert!(command.contains("cotenant_gpu"), "{command}");
        assert!(ProcessTable::default().has_host_pids().is_some());
    }

    #[test]
    fn a_table_that_is_not_there_is_an_error() {
        assert!(ProcessTable::at("/nonexistent").mps_daemons().is_err());
    }
}
