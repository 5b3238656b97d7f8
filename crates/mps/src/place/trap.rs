//! What keeps MPS from users other than root, found before they find it.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, lsetxattr};
use rustix::io::Errno;

/// The label that containers may use, as NVIDIA's plugin sets it.
const LABEL: &[u8] = b"system_u:object_r:container_file_t:s0\0";
/// There when `SELinux` is on.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// Something on the node that some clients will stumble over; the daemon starts all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trap {
    /// A folder above the sockets lets no other user pass. The server of a client runs as that client's user, cannot reach
    /// the sockets then, and the client fails with CUDA error 805 (bottlerocket#4673; seen on driver 580).
    ClosedParent {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// `SELinux` is on and the folder could not get the label that containers may use.
    Label {
        /// The folder.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedParent { path, mode } => write!(
                f,
                "{} has mode {mode:o}: MPS clients of users other than its owner fail with CUDA error 805; run `chmod o+x {}`, \
                 or use multi-user mode",
                path.display(),
                path.display()
            ),
            Self::Label { path, why } => write!(
                f,
                "{} could not be labelled for SELinux ({why}): containers may not be able to use it; run `chcon -t \
                 container_file_t {}`",
                path.display(),
                path.display()
            ),
        }
    }
}

/// Folders above a path, it included, that others cannot pass.
pub(super) fn closed_parents(path: &Path) -> Vec<Trap> {
    let closed = |path: &Path| {
        let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
        (mode & 0o001 == 0).then(|| Trap::ClosedParent { path: path.to_owned(), mode })
    };
    let mut traps: Vec<Trap> = path.ancestors().filter_map(closed).collect();
    traps.reverse();
    traps
}

/// Labels a folder where `SELinux` is on; a trap when that fails.
pub(super) fn label(path: &Path) -> Option<Trap> {
    if !Path::new(SELINUX).exists() {
        return None;
    }
    set_label(path).err().map(|error| Trap::Label { path: path.to_owned(), why: error.to_string() })
}

fn set_label(path: &Path) -> Result<(), Errno> {
    lsetxattr(path, "security.selinux", LABEL, XattrFlags::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_closed_parent_is_named_with_its_fix() {
        let root = tempfile::tempdir().unwrap();
        let (parent, path) = (root.path().join("nvidia"), root.path().join("nvidia/mps"));
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(closed_parents(&path), [Trap::ClosedParent { path: parent.clone(), mode: 0o700 }]);
        assert!(closed_parents(&path)[0].to_string().contains(&format!("chmod o+x {}", parent.display())));
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(closed_parents(&path), []);
    }

    #[test]
    fn a_label_that_cannot_be_set_is_an_error_that_can_be_told() {
        let error = set_label(Path::new("/proc/self/status")).unwrap_err();
        assert!(!error.to_string().is_empty());
    }
}
