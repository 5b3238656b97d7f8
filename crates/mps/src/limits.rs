//! What the processes on a GPU get in their environment.

use std::path::Path;

use cotenant_model::{Bytes, GpuUuid, Percent};
use serde::{Deserialize, Serialize};

use crate::dialogue::DialogueError;

/// Every variable that makes a CUDA process a client of a daemon or limits it; take them out of a child's inherited
/// environment before setting the ones it shall have.
pub const MPS_VARIABLES: &[&str] = &[
    "CUDA_MPS_PIPE_DIRECTORY",
    "CUDA_MPS_LOG_DIRECTORY",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
    "CUDA_MPS_ENABLE_PER_CTX_DEVICE_MULTIPROCESSOR_PARTITIONING",
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
    "CUDA_MPS_CLIENT_PRIORITY",
    "CUDA_MPS_SM_PARTITION",
    "CUDA_MPS_PROTOCOL_VERSION",
];

/// Why limits of a daemon do not hold.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The daemon gives no usable answer.
    #[error("the limits cannot be set")]
    Dialogue(#[source] DialogueError),
    /// The daemon tells something else than it was given.
    #[error("{what} was set to {wanted} and is {told}")]
    NotKept {
        /// Which limit.
        what: &'static str,
        /// What was set.
        wanted: String,
        /// What the daemon tells.
        told: String,
    },
}

/// What one client of a daemon may use; `None` means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientLimits {
    /// Share of the streaming multiprocessors: a cap, not a reservation, rounded down by the driver. On an H200 (132) with
    /// driver 580 it goes down to pairs: 92 at 70 %, 66 at 50 %, 38 at 30 %, 32 at 25 %.
    pub percent: Option<Percent>,
    /// Device memory, CUDA's own allocations included, in whole mebibytes rounded down (at least one). Managed memory
    /// is not counted by the driver.
    pub memory: Option<Bytes>,
}

impl ClientLimits {
    /// The limits as environment variables.
    ///
    /// The memory limit names ordinal 0, the one GPU that a client sees. It must never name another: an entry for a GPU
    /// that the process cannot see makes the driver drop every memory limit of that process without a word (seen on
    /// driver 580).
    #[must_use]
    pub fn environment(self) -> Vec<(String, String)> {
        let percent = self.percent.map(|p| ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE".to_owned(), p.get().to_string()));
        let memory = self
            .mebibytes()
            .map(|mebibytes| ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT".to_owned(), format!("0={mebibytes}M")));
        percent.into_iter().chain(memory).collect()
    }

    /// Compares with what a daemon tells, memory also with its whole gigabytes, which driver 580 tells from one on.
    pub(crate) fn check(self, memory: Option<Bytes>, percent: f64) -> Result<(), LimitError> {
        let text = |bytes: Option<Bytes>| bytes.map_or_else(|| "no limit".to_owned(), |bytes| bytes.to_string());
        let wanted = self.mebibytes().map(|mebibytes| Bytes(mebibytes << 20));
        let told_short = wanted.filter(|bytes| bytes.0 >= 1 << 30).map(|bytes| Bytes(bytes.0 >> 30 << 30));
        if memory != wanted && memory != told_short {
            return Err(LimitError::NotKept { what: "the memory limit", wanted: text(wanted), told: text(memory) });
        }
        let wanted = self.percent.map_or(100, Percent::get);
        if (percent - f64::from(wanted)).abs() >= 0.05 {
            let (wanted, told) = (format!("{wanted} %"), format!("{percent} %"));
            return Err(LimitError::NotKept { what: "the thread percentage", wanted, told });
        }
        Ok(())
    }

    /// The memory limit as the driver takes it: whole mebibytes, at least one.
    pub(crate) fn mebibytes(self) -> Option<u64> {
        self.memory.map(|bytes| (bytes.0 >> 20).max(1))
    }
}

/// The environment of a client of the daemon with these directories.
pub(crate) fn client_environment(
    gpu: &GpuUuid,
    pipe: &Path,
    log: &Path,
    limits: ClientLimits,
) -> Vec<(String, String)> {
    let mut environment = vec![
        ("CUDA_VISIBLE_DEVICES".to_owned(), gpu.0.clone()),
        ("CUDA_MPS_PIPE_DIRECTORY".to_owned(), pipe.display().to_string()),
        ("CUDA_MPS_LOG_DIRECTORY".to_owned(), log.display().to_string()),
    ];
    environment.extend(limits.environment());
    environment
}

/// The environment of a process that must not become a client of any daemon: one GPU visible, and a pipe directory that
/// does not exist, so that a daemon of somebody else on the default directory is not joined silently.
///
/// In compute mode `exclusive-process` such a process cannot run at all.
#[must_use]
pub fn environment_without_daemon(gpu: &GpuUuid) -> Vec<(String, String)> {
    vec![
        ("CUDA_VISIBLE_DEVICES".to_owned(), gpu.0.clone()),
        ("CUDA_MPS_PIPE_DIRECTORY".to_owned(), "/nonexistent/cotenant-no-mps".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_limit_names_the_one_visible_gpu_and_no_other() {
        let limits = ClientLimits { percent: Percent::try_from(25).ok(), memory: Some(Bytes::mebibytes(2048)) };
        let gpu = GpuUuid("GPU-1".to_owned());
        let environment = client_environment(&gpu, Path::new("/p"), Path::new("/l"), limits);
        let value = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(value("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"), Some("0=2048M"));
        assert_eq!(value("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"), Some("25"));
        assert_eq!(value("CUDA_VISIBLE_DEVICES"), Some("GPU-1"));
        assert_eq!(value("CUDA_MPS_PIPE_DIRECTORY"), Some("/p"));
    }

    #[test]
    fn a_client_without_limits_gets_no_limit_variable() {
        let gpu = GpuUuid("GPU-1".to_owned());
        let environment = client_environment(&gpu, Path::new("/p"), Path::new("/l"), ClientLimits::default());
        assert_eq!(environment.len(), 3);
    }

    #[test]
    fn a_limit_counts_as_kept_when_the_daemon_tells_it_in_whole_gigabytes() {
        let limits =
            |mebibytes| ClientLimits { percent: Percent::try_from(50).ok(), memory: Some(Bytes::mebibytes(mebibytes)) };
        let told = |gigabytes: u64| Some(Bytes(gigabytes << 30));
        limits(1500).check(told(1), 50.0).unwrap();
        limits(700).check(Some(Bytes::mebibytes(700)), 50.0).unwrap();
        for (memory, percent) in [(told(2), 50.0), (None, 50.0), (told(1), 25.0)] {
            limits(1500).check(memory, percent).unwrap_err();
        }
        let error = limits(1500).check(None, 50.0).unwrap_err();
        assert_eq!(error.to_string(), "the memory limit was set to 1.46 GiB and is no limit");
        ClientLimits::default().check(None, 100.0).unwrap();
    }

    #[test]
    fn a_limit_is_rounded_down_so_that_it_never_exceeds_what_was_asked() {
        let limits = ClientLimits { percent: None, memory: Some(Bytes((1 << 30) + 5)) };
        assert_eq!(limits.environment()[0].1, "0=1024M");
    }
}
