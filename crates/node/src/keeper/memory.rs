//! The shared memory between a daemon's servers and their clients: `<mps root>/shm`, which containers have as `/dev/shm`.
//!
//! In a container it is a tmpfs of a bounded size that the keeper puts over its own `/dev/shm` too, since its daemons are its
//! children. On a plain host nothing may be put over `/dev/shm`: there `<mps root>/shm` is the host's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

const DEV_SHM: &str = "/dev/shm";
/// What is mounted where `/proc/meminfo` does not say how much memory there is.
const FALLBACK: u64 = 64 << 20;

/// Why the shared memory cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {} ({what}; it takes CAP_SYS_ADMIN, or `cotenant.mps.mount-shm: false`)", path.display())]
pub(super) struct MemoryError {
    path: PathBuf,
    what: &'static str,
    #[source]
    source: io::Error,
}

/// The shared memory of one MPS root.
#[derive(Debug)]
pub(super) struct SharedMemory {
    path: PathBuf,
    /// Bytes; half of the host's memory, as NVIDIA's plugin has it, where nothing else is said.
    size: u64,
    /// Whether `/dev/shm` is this keeper's alone.
    in_container: bool,
}

impl SharedMemory {
    pub(super) fn new(root: &Path, size: Option<u64>) -> Self {
        Self { path: root.join("shm"), size: size.unwrap_or_else(half_of_memory), in_container: in_container() }
    }

    /// Mounts it where it is not mounted yet.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn mount(&self) -> Result<(), MemoryError> {
        let failed = |what, source: io::Error| MemoryError { path: self.path.clone(), what, source };
        fs::create_dir_all(&self.path).map_err(|source| failed("making the folder", source))?;
        if is_mounted(&self.path) {
            return self.cover();
        }
        if !self.in_container {
            return mount_bind(DEV_SHM, &self.path).map_err(|error| failed("binding /dev/shm", error.into()));
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let options = std::ffi::CString::new(format!("mode=1777,size={}", self.size)).unwrap_or_default();
        mount("shm", &self.path, "tmpfs", flags, Some(options.as_c_str()))
            .map_err(|error| failed("a tmpfs", error.into()))?;
        self.cover()
    }

    /// Puts it over this container's own `/dev/shm`.
    fn cover(&self) -> Result<(), MemoryError> {
        if !self.in_container || same_place(Path::new(DEV_SHM), &self.path) {
            return Ok(());
        }
        let failed = |source| MemoryError { path: DEV_SHM.into(), what: "over the container's own", source };
        mount_bind(&self.path, DEV_SHM).map_err(|error| failed(error.into()))
    }

    /// Unmounts it, and removes the folder. Containers that have it mounted keep it until they end.
    pub(super) fn unmount(&self) {
        if self.in_container && self.path.exists() && same_place(Path::new(DEV_SHM), &self.path) {
            report(unmount(DEV_SHM, UnmountFlags::DETACH), Path::new(DEV_SHM));
        }
        while is_mounted(&self.path) {
            let done = unmount(&self.path, UnmountFlags::DETACH);
            report(done, &self.path);
            if done.is_err() {
                return;
            }
        }
        drop(fs::remove_dir(&self.path));
    }
}

fn report(done: rustix::io::Result<()>, path: &Path) {
    if let Err(error) = done {
        tracing::warn!(path = %path.display(), %error, "cannot unmount");
    }
}

/// Whether two paths are the root of the same file system.
fn same_place(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let place = |path: &Path| fs::metadata(path).map(|status| (status.dev(), status.ino()));
    matches!((place(one), place(other)), (Ok(one), Ok(other)) if one == other)
}

fn is_mounted(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    fs::read_to_string("/proc/self/mountinfo")
        .is_ok_and(|table| mount_points(&table).any(|point| Path::new(&point) == path))
}

/// The mount points of `/proc/self/mountinfo`: its fifth field, with spaces, tabs, line ends and backslashes as octal numbers.
fn mount_points(table: &str) -> impl Iterator<Item = String> {
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|field| field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\"))
}

/// Whether this process has a mount namespace of its own: it is the first process of a container, or the first one it sees is
/// in another namespace.
fn in_container() -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    std::process::id() == 1 || namespace("1").is_some_and(|first| Some(first) != namespace("self"))
}

fn half_of_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    total_memory(&text).map_or(FALLBACK, |bytes| bytes / 2)
}

fn total_memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_half_of_the_memory_of_the_host() {
        assert_eq!(total_memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(total_memory("nothing"), None);
        assert!(half_of_memory() >= FALLBACK);
    }

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let table = "36 35 98:0 / /run/nvidia/mps/shm rw - tmpfs shm rw\n37 35 98:0 / /mnt/a\\040b rw - ext4 x rw\n";
        assert_eq!(mount_points(table).collect::<Vec<_>>(), ["/run/nvidia/mps/shm", "/mnt/a b"]);
    }

    #[test]
    fn what_is_mounted_is_unmounted_with_nothing_left() {
        let root = tempfile::tempdir().unwrap();
        let memory = SharedMemory { path: root.path().join("shm"), size: 1 << 20, in_container: false };
        if let Err(error) = memory.mount() {
            let refused = error.source.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error());
            assert!(refused, "{error}: {}", error.source);
            return;
        }
        memory.mount().unwrap();
        assert!(is_mounted(&memory.path) && same_place(Path::new(DEV_SHM), &memory.path));
        memory.unmount();
        assert!(!memory.path.exists());
        memory.unmount();
    }
}
