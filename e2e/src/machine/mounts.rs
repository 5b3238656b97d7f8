//! The file system of a machine: the host's, read-only, with folders of its own where a node writes.
//!
//! All of it is in the machine's mount namespace, so all of it goes with its last process.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{CWD, FileType, Mode, makedev};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags};

/// Where a machine sees its own folder.
pub const INSIDE: &str = "/run/e2e";

/// Folders that a node fills, in memory.
const OWN: [&str; 4] = ["/run", "/var/lib", "/tmp", "/opt"];

/// Character devices of a machine: name, major and minor number. None of the host's disks is among them.
const DEVICES: [(&str, u32, u32); 7] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("kmsg", 1, 11),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("pts/ptmx", "ptmx"),
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
];

/// Settings of the kernel that a kubelet writes for the whole host. The machine has files in their place that hold what it
/// wants already (kubelet's `setupKernelTunables`).
const TUNABLES: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// A folder of the host that a machine sees elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bind {
    /// Folder of the host.
    pub source: PathBuf,
    /// Where the machine sees it: below one of its own folders.
    pub target: PathBuf,
}

/// Makes the file system of the calling process's mount namespace that of a machine with this folder.
pub(super) fn prepare(folder: &Path, binds: &[Bind]) -> anyhow::Result<()> {
    // They may lie below what is covered, and are taken before all else becomes read-only.
    let own = take(folder)?;
    let taken: Vec<OwnedFd> = binds.iter().map(|bind| take(&bind.source)).collect::<anyhow::Result<_>>()?;
    make_read_only()?;
    for target in OWN {
        cover(target, "mode=0755")?;
    }
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777))?;
    put(own, Path::new(INSIDE))?;
    for (tree, bind) in taken.into_iter().zip(binds) {
        put(tree, &bind.target)?;
    }
    bind(Path::new(INSIDE).join("log"), "/var/log")?;
    devices()?;
    process_table()?;
    // Volumes that a pod mounts for others (`Bidirectional`) reach them only so.
    let everything = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", everything).context("cannot share the mounts of the machine")
}

fn take(folder: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, folder, flags).with_context(|| format!("cannot take {}", folder.display()))
}

fn put(tree: OwnedFd, target: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot make {}", target.display()))?;
    rustix::mount::move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .with_context(|| format!("cannot mount {}", target.display()))
}

fn bind(source: PathBuf, target: &str) -> anyhow::Result<()> {
    rustix::mount::mount_bind(source, target).with_context(|| format!("cannot mount {target}"))
}

fn cover(target: &str, options: &str) -> anyhow::Result<()> {
    mount("tmpfs", target, options)
}

fn mount(kind: &str, target: &str, options: &str) -> anyhow::Result<()> {
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount(kind, target, kind, MountFlags::empty(), options.as_c_str())
        .with_context(|| format!("cannot mount {kind} on {target}"))
}

/// Makes every mount read-only but those whose files are not stored anywhere, or are replaced below.
fn make_read_only() -> anyhow::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot list the mounts")?;
    for point in table.lines().filter_map(mount_point) {
        if ["/proc", "/sys/fs/cgroup", "/dev"].iter().any(|kept| Path::new(&point).starts_with(kept)) {
            continue;
        }
        match rustix::mount::mount_remount(point.as_str(), MountFlags::BIND | MountFlags::RDONLY, c"") {
            Ok(()) => {}
            // A mount point that another mount hides cannot be reached, by the machine neither.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make {point} read-only")),
        }
    }
    Ok(())
}

/// The mount point of a line of `mountinfo`, whose blanks are written `\040`.
fn mount_point(line: &str) -> Option<String> {
    let field = line.split(' ').nth(4)?;
    Some(field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\"))
}

fn devices() -> anyhow::Result<()> {
    cover("/dev", "mode=0755")?;
    for (name, major, minor) in DEVICES {
        let path = format!("/dev/{name}");
        rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), makedev(major, minor))
            .with_context(|| format!("cannot make {path}"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    }
    for (target, name) in LINKS {
        symlink(target, format!("/dev/{name}"))?;
    }
    fs::create_dir("/dev/shm")?;
    cover("/dev/shm", "mode=1777")?;
    fs::create_dir("/dev/pts")?;
    mount("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620")
}

/// The machine's own processes, and settings of the kernel that it can change only for itself.
fn process_table() -> anyhow::Result<()> {
    mount("proc", "/proc", "")?;
    let settings = Path::new("/proc/sys");
    let network = take(&settings.join("net"))?;
    rustix::mount::mount_bind(settings, settings).context("cannot take the kernel's settings")?;
    rustix::mount::mount_remount(settings, MountFlags::BIND | MountFlags::RDONLY, c"")
        .context("cannot make the kernel's settings read-only")?;
    rustix::mount::move_mount(network, "", CWD, settings.join("net"), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .context("cannot mount the network's settings")?;
    for (name, wanted) in TUNABLES {
        replace(&settings.join(name), wanted)?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot let the machine forward")
}

/// Mounts a file with this content over a setting, where the kernel has it.
fn replace(setting: &Path, content: &str) -> anyhow::Result<()> {
    let stand_in = Path::new("/run/tunables").join(setting.strip_prefix("/proc/sys")?);
    fs::create_dir_all(stand_in.parent().unwrap_or(&stand_in))?;
    fs::write(&stand_in, format!("{content}\n"))?;
    match rustix::mount::mount_bind(&stand_in, setting).map_err(io::Error::from) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot replace {}", setting.display()))
        }
        _mounted_or_unknown => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_mount_table_names_its_mount_point() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line).unwrap(), "/mnt 2");
        assert_eq!(mount_point("nonsense"), None);
    }
}
