//! What a process in a container did to the share that it was given: its environment, and what lies on its `/dev/shm`.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cotenant_model::sharing::{ResourceName, Share};
use cotenant_model::{Bytes, GpuUuid};
use cotenant_mps::inspection::{self, Deviation, inspect_environment};

/// Most that is read of a file of `/proc`: the kernel bounds an environment by a quarter of the stack's limit.
const FILE_LIMIT: u64 = 1 << 20;
const DEV_SHM: &str = "/dev/shm";

/// A file system by its device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileSystem {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl FileSystem {
    /// The file system on which a folder of this process lies; `None` where there is no such folder.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let device = fs::metadata(path).ok()?.dev();
        Some(Self { major: rustix::fs::major(device), minor: rustix::fs::minor(device) })
    }
}

/// What an MPS client was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given<'a> {
    /// Its GPU or MIG device.
    pub gpu: &'a GpuUuid,
    /// The resource that its container asked for.
    pub resource: &'a ResourceName,
    /// What it may use.
    pub share: Share,
    /// The file system that was mounted over its `/dev/shm`; `None` where none was.
    pub shared_memory: Option<FileSystem>,
}

/// What is wrong with an MPS client, a sentence each; nothing where it has ended meanwhile.
///
/// # Errors
/// When the process may not be looked into: that takes root, or `CAP_SYS_PTRACE`, and the host's process ids.
pub fn inspect(proc: &Path, pid: u32, given: &Given<'_>) -> io::Result<Vec<String>> {
    let folder = proc.join(pid.to_string());
    let (Some(environment), Some(mounts)) = (read(&folder.join("environ"))?, read(&folder.join("mountinfo"))?) else {
        return Ok(Vec::new());
    };
    // A process that has just ended, or just begun, shows nothing.
    if environment.is_empty() {
        return Ok(Vec::new());
    }
    let share = inspection::Share {
        gpu: given.gpu.clone(),
        pipe: format!("/mps/{}/pipe", given.resource).into(),
        memory: Some(given.share.memory),
        percent: Some(given.share.percent),
    };
    let mut found: Vec<String> = inspect_environment(&environment, &share).iter().map(describe).collect();
    let wanted = given.shared_memory.filter(|wanted| mounted_at(&mounts, DEV_SHM).is_some_and(|one| one != *wanted));
    found.extend(wanted.map(|_| {
        "another volume is mounted over /dev/shm, which client and server must share: it may hang or fail".to_owned()
    }));
    Ok(found)
}

/// A file of `/proc`; `None` when the process is gone.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    const NO_PROCESS: i32 = rustix::io::Errno::SRCH.raw_os_error();
    let text = File::open(path).and_then(|file| {
        let mut text = Vec::new();
        file.take(FILE_LIMIT).read_to_end(&mut text).map(|_length| text)
    });
    match text {
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(NO_PROCESS) => Ok(None),
        text => text.map(Some),
    }
}

/// The file system that is on top at a mount point, by a `mountinfo` table: of several the last was mounted last.
fn mounted_at(table: &[u8], point: &str) -> Option<FileSystem> {
    let table = String::from_utf8_lossy(table);
    let line = table.lines().rev().find(|line| line.split(' ').nth(4) == Some(point))?;
    let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
    Some(FileSystem { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

fn describe(deviation: &Deviation) -> String {
    let limit = |limit: Option<Bytes>| limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
    match deviation {
        Deviation::LimitsDropped { entry } => format!(
            "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT names a device that it does not see (`{entry}`): the driver drops every \
             memory limit of the process"
        ),
        Deviation::OtherPipe { value } => format!(
            "CUDA_MPS_PIPE_DIRECTORY is {}, not what it was given: it is no client of its MPS server",
            value.as_deref().unwrap_or("unset")
        ),
        Deviation::OtherDevices { value } => {
            format!("CUDA_VISIBLE_DEVICES is `{value}`, which shows it something else than its GPU")
        }
        Deviation::MoreMemory { limit: own, share } => {
            format!("its memory limit is {}, its share {share}; the daemon's own limit holds", limit(*own))
        }
        Deviation::MorePercent { percent, share } => format!(
            "its share of the multiprocessors is {}, where {share} was given; the daemon's own limit holds",
            percent.map_or_else(|| "unset".to_owned(), |percent| format!("{percent} %"))
        ),
    }
}

#[cfg(test)]
mod tests {
    use cotenant_model::Percent;

    use super::*;

    const MOUNTS: &str = "100 90 0:50 / / rw - overlay overlay rw\n\
        101 100 0:61 / /dev/shm rw,nosuid - tmpfs shm rw\n\
        102 100 0:77 /shm /dev/shm rw - tmpfs shm rw\n";

    fn process(environment: &str, mounts: &str) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("7")).unwrap();
        fs::write(proc.path().join("7/environ"), environment.replace(' ', "\0")).unwrap();
        fs::write(proc.path().join("7/mountinfo"), mounts).unwrap();
        proc
    }

    fn inspect_it(environment: &str, mounts: &str, shared_memory: Option<FileSystem>) -> Vec<String> {
        let (gpu, resource) = (GpuUuid("GPU-1".to_owned()), ResourceName("nvidia.com/gpu.shared".to_owned()));
        let share = Share { memory: Bytes(4 << 30), percent: Percent::try_from(25).unwrap() };
        let given = Given { gpu: &gpu, resource: &resource, share, shared_memory };
        inspect(process(environment, mounts).path(), 7, &given).unwrap()
    }

    const SOUND: &str = "CUDA_MPS_PIPE_DIRECTORY=/mps/nvidia.com/gpu.shared/pipe \
        CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=4096M CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=25 ";

    #[test]
    fn a_client_as_it_was_made_is_in_order() {
        assert_eq!(inspect_it(SOUND, MOUNTS, Some(FileSystem { major: 0, minor: 77 })), Vec::<String>::new());
        assert_eq!(inspect_it(SOUND, MOUNTS, None), Vec::<String>::new());
    }

    #[test]
    fn a_volume_over_the_shared_memory_is_found() {
        let found = inspect_it(SOUND, MOUNTS, Some(FileSystem { major: 0, minor: 61 }));
        assert!(found.len() == 1 && found[0].contains("/dev/shm"), "{found:?}");
    }

    #[test]
    fn limits_that_a_pod_lifted_are_found() {
        let lifted = SOUND.replace("0=4096M", "0=4096M,1=4096M");
        let found = inspect_it(&lifted, MOUNTS, None);
        assert!(found.len() == 1 && found[0].contains("drops every memory limit"), "{found:?}");
        assert_eq!(inspect_it("PATH=/bin ", MOUNTS, None).len(), 3);
    }

    #[test]
    fn a_process_that_is_gone_or_has_no_environment_yet_is_in_order() {
        assert_eq!(inspect_it("", MOUNTS, None), Vec::<String>::new());
        let (gpu, resource) = (GpuUuid("GPU-1".to_owned()), ResourceName("r".to_owned()));
        let share = Share { memory: Bytes(1), percent: Percent::try_from(1).unwrap() };
        let given = Given { gpu: &gpu, resource: &resource, share, shared_memory: None };
        assert_eq!(inspect(Path::new("/nonexistent"), 7, &given).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_file_system_of_this_process_agrees_with_its_mounts() {
        let table = fs::read("/proc/self/mountinfo").unwrap();
        if let Some(found) = mounted_at(&table, DEV_SHM) {
            assert_eq!(FileSystem::of(Path::new(DEV_SHM)), Some(found));
        }
    }
}
