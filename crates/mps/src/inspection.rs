//! What a client's environment says about its limits: pods can set variables themselves.
//!
//! The environment is the one that the process was started with; one that changes its own later cannot be caught this way, so
//! compare memory in use as well.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use cotenant_model::{Bytes, GpuUuid, Percent};

use crate::reply::{excerpt, parse_memory};

/// Far above any true environment; the kernel's own bound is a quarter of the stack's limit.
const ENVIRONMENT_LIMIT: u64 = 1 << 20;

/// What a client was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The one GPU (or MIG device) of its container.
    pub gpu: GpuUuid,
    /// The pipe directory as the container sees it.
    pub pipe: PathBuf,
    /// Device memory.
    pub memory: Option<Bytes>,
    /// Share of the multiprocessors.
    pub percent: Option<Percent>,
}

/// Something in a client's environment that breaks or widens its share.
#[derive(Debug, Clone, PartialEq)]
pub enum Deviation {
    /// `CUDA_MPS_PINNED_DEVICE_MEM_LIMIT` names a GPU that the process does not see, or cannot be read: the driver drops every
    /// memory limit of the process without a word, the daemon's default too (seen on driver 580 with `0=1G,1=1G`, `all`,
    /// `GPU-=1G` and `0=much`).
    LimitsDropped {
        /// The entry.
        entry: String,
    },
    /// It uses another pipe directory, or none: it is no client of this daemon.
    OtherPipe {
        /// What it has.
        value: Option<String>,
    },
    /// `CUDA_VISIBLE_DEVICES` shows it something else than its GPU.
    OtherDevices {
        /// What it has.
        value: String,
    },
    /// Its own memory limit is above its share, or is gone; the daemon's default holds.
    MoreMemory {
        /// What it has.
        limit: Option<Bytes>,
        /// What it was given.
        share: Bytes,
    },
    /// Its own share of the multiprocessors is above what it was given, or is gone; the daemon's default holds.
    MorePercent {
        /// What it has; `None` without one that can be read.
        percent: Option<f64>,
        /// What it was given.
        share: Percent,
    },
}

/// Reads the environment that a process was started with; `None` when the process is gone.
///
/// # Errors
/// When it may not be read.
pub fn environment_of(pid: u32) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(format!("/proc/{pid}/environ")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut environment = Vec::new();
    match file.take(ENVIRONMENT_LIMIT).read_to_end(&mut environment) {
        // One that ended in between.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
        other => other.map(|_length| Some(environment)),
    }
}

/// What in an environment (entries that end with NUL) breaks or widens a share; nothing for a client that was left as the
/// node's answer made it.
#[must_use]
pub fn inspect_environment(environment: &[u8], share: &Share) -> Vec<Deviation> {
    let variables = variables(environment);
    let text = |name: &str| variables.get(name).map(String::as_str);
    let mut found = Vec::new();
    found.extend(inspect_pipe(text("CUDA_MPS_PIPE_DIRECTORY"), share));
    found.extend(text("CUDA_VISIBLE_DEVICES").and_then(|value| inspect_devices(value, share)));
    found.extend(inspect_memory(text("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"), share));
    found.extend(inspect_percent(text("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"), share));
    found
}

/// The first value of each variable, which is the one that counts.
fn variables(environment: &[u8]) -> HashMap<String, String> {
    let mut variables = HashMap::new();
    for entry in environment.split(|byte| *byte == 0).filter(|entry| entry.starts_with(b"CUDA_")) {
        let entry = String::from_utf8_lossy(entry);
        if let Some((name, value)) = entry.split_once('=') {
            variables.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    variables
}

fn inspect_pipe(value: Option<&str>, share: &Share) -> Option<Deviation> {
    let same = value.is_some_and(|value| PathBuf::from(value).components().eq(share.pipe.components()));
    (!same).then(|| Deviation::OtherPipe { value: value.map(excerpt) })
}

fn inspect_devices(value: &str, share: &Share) -> Option<Deviation> {
    (!is_own(value, share)).then(|| Deviation::OtherDevices { value: excerpt(value) })
}

/// Whether a name of a device means the one GPU: ordinal 0, its UUID, or the start of that.
fn is_own(device: &str, share: &Share) -> bool {
    let device = device.trim();
    let starts = ["GPU-", "MIG-"].iter().any(|prefix| device.len() > prefix.len() && device.starts_with(prefix));
    device == "0" || (starts && share.gpu.0.starts_with(device))
}

fn inspect_memory(value: Option<&str>, share: &Share) -> Vec<Deviation> {
    let entries = value.into_iter().flat_map(|value| value.split(',')).map(str::trim).filter(|entry| !entry.is_empty());
    let mut limits = Vec::new();
    for entry in entries {
        let limit = entry.split_once('=').filter(|(device, _)| is_own(device, share));
        // A limit of nothing is none (seen on driver 580: `0=0M` gives the process the whole memory).
        match limit.and_then(|(_, limit)| parse_memory(limit)).filter(|limit| limit.0 > 0) {
            Some(limit) => limits.push(limit),
            None => return vec![Deviation::LimitsDropped { entry: excerpt(entry) }],
        }
    }
    let Some(given) = share.memory else { return Vec::new() };
    // The smallest of several entries holds (seen on driver 580).
    let limit = limits.into_iter().min();
    let within = limit.is_some_and(|limit| limit <= given);
    if within { Vec::new() } else { vec![Deviation::MoreMemory { limit, share: given }] }
}

fn inspect_percent(value: Option<&str>, share: &Share) -> Option<Deviation> {
    let given = share.percent?;
    let percent: Option<f64> = value.and_then(|value| value.trim().parse().ok());
    let within = percent.is_some_and(|percent| percent > 0.0 && percent <= f64::from(given.get()));
    (!within).then_some(Deviation::MorePercent { percent, share: given })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GPU: &str = "GPU-f729e9a0-18be-2f20-0afd-f053de6c3767";

    fn share() -> Share {
        let (memory, percent) = (Some(Bytes::mebibytes(2048)), Percent::try_from(25).ok());
        Share { gpu: GpuUuid(GPU.to_owned()), pipe: "/mps/nvidia.com/gpu/pipe".into(), memory, percent }
    }

    /// The environment that the node gives, with changes; an empty value takes a variable away.
    fn changed(changes: &[(&str, &str)]) -> Vec<Deviation> {
        let mut variables = vec![
            ("PATH", "/bin"),
            ("CUDA_MPS_PIPE_DIRECTORY", "/mps/nvidia.com/gpu/pipe"),
            ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "0=2048M"),
            ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "25"),
        ];
        variables.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        variables.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
        let environment: String = variables.iter().map(|(name, value)| format!("{name}={value}\0")).collect();
        inspect_environment(environment.as_bytes(), &share())
    }

    #[test]
    fn a_limit_of_nothing_drops_every_limit() {
        for value in ["0=0M", "0=0", "0=2048M,0=0G"] {
            let found = changed(&[("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", value)]);
            assert!(matches!(found.as_slice(), [Deviation::LimitsDropped { .. }]), "{value}: {found:?}");
        }
    }

    #[test]
    fn a_client_as_the_node_made_it_or_with_tighter_limits_is_in_order() {
        assert_eq!(changed(&[]), []);
        let tighter = [
            ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "GPU-f729=1G,0=9G,"),
            ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "12.5"),
            ("CUDA_VISIBLE_DEVICES", GPU),
            ("CUDA_MPS_PIPE_DIRECTORY", "/mps/nvidia.com/gpu/pipe/"),
        ];
        assert_eq!(changed(&tighter), []);
    }

    #[test]
    fn an_entry_for_a_gpu_that_is_not_seen_or_that_cannot_be_read_is_found_in_every_spelling() {
        for limit in ["0=2G,1=2G", "1=2G", "0=1G, GPU-0000=1G", "GPU-=1G", "all", "0=much", "0=1G,0"] {
            let found = changed(&[("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", limit)]);
            assert!(matches!(found.as_slice(), [Deviation::LimitsDropped { .. }]), "{limit}: {found:?}");
        }
    }

    #[test]
    fn wider_missing_and_unreadable_limits_are_found() {
        let share = Bytes::mebibytes(2048);
        for (value, limit) in [("0=4G", Some(Bytes(4 << 30))), ("", None), ("0=5G,0=3G", Some(Bytes(3 << 30)))] {
            let found = changed(&[("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", value)]);
            assert_eq!(found, [Deviation::MoreMemory { limit, share }], "{value}");
        }
        for value in ["26", "", "0", "many", "NaN"] {
            let found = changed(&[("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", value)]);
            assert!(matches!(found.as_slice(), [Deviation::MorePercent { .. }]), "{value}");
        }
    }

    #[test]
    fn another_daemon_and_other_devices_are_found() {
        let none = changed(&[("CUDA_MPS_PIPE_DIRECTORY", "")]);
        assert_eq!(none, [Deviation::OtherPipe { value: None }]);
        let other = changed(&[("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"), ("CUDA_VISIBLE_DEVICES", "1")]);
        let wanted = [
            Deviation::OtherPipe { value: Some("/tmp/nvidia-mps".to_owned()) },
            Deviation::OtherDevices { value: "1".to_owned() },
        ];
        assert_eq!(other, wanted);
    }

    #[test]
    fn the_first_of_two_values_counts() {
        let environment = b"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=90\0CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=25\0";
        let found = inspect_environment(environment, &share());
        assert!(found.iter().any(|one| matches!(one, Deviation::MorePercent { percent: Some(90.0), .. })), "{found:?}");
    }

    #[test]
    fn an_environment_is_read_by_process_id_and_of_a_dead_one_there_is_none() {
        let own = environment_of(std::process::id()).unwrap().unwrap();
        assert!(own.windows(5).any(|window| window == b"PATH="));
        assert_eq!(environment_of(u32::MAX).unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_environment_makes_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), value in any::<String>()) {
            drop(inspect_environment(&bytes, &share()));
            for name in ["PINNED_DEVICE_MEM_LIMIT", "ACTIVE_THREAD_PERCENTAGE", "PIPE_DIRECTORY"] {
                drop(inspect_environment(format!("CUDA_MPS_{name}={value}\0").as_bytes(), &share()));
            }
        }
    }
}
