//! The fixed folders of a GPU's daemon: containers have them mounted, so they are made once and emptied, never replaced.

mod logs;
mod trap;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use cotenant_model::GpuUuid;
use rustix::fs::{CWD, Mode, OFlags, fchmod, fchown, fstat, openat};
use rustix::process::{getegid, geteuid};

pub use logs::{OUTPUT, trim_output};
pub use trap::Trap;

/// Longest path of a UNIX socket, without its final zero (`sun_path` in `unix(7)`).
const SOCKET_PATH_LIMIT: usize = 107;
/// The longest name of a socket that a control daemon makes in its pipe directory.
const LONGEST_SOCKET: &str = "control_privileged";

/// Why the folders of a daemon cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The UUID has characters that no UUID has.
    #[error("`{uuid}` is not the UUID of a GPU")]
    Uuid {
        /// The text given.
        uuid: String,
    },
    /// Sockets in the directory would have longer names than the kernel takes.
    #[error("{} is too long for a pipe directory: {length} bytes, at most {limit}; choose a shorter MPS root", path.display())]
    PathTooLong {
        /// The pipe directory.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// The longest that works.
        limit: usize,
    },
    /// A folder cannot be made or opened; a symbolic link or a file in its place is this error too.
    #[error("cannot use {} as a folder of MPS", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What a former daemon, or a client, left in a folder cannot be removed.
    #[error("cannot remove {}, which a former daemon or a client left", path.display())]
    Leftover {
        /// What is left.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The folders of one GPU's daemon: `ROOT/UUID/pipe` (mounted by containers) and `ROOT/UUID/log`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    root: PathBuf,
    gpu: GpuUuid,
}

impl Place {
    /// The folders of a GPU (or MIG device) under an MPS root such as `/run/nvidia/mps`.
    ///
    /// # Errors
    /// When the UUID could lead elsewhere, or sockets would have too long a path.
    pub fn new(root: &Path, gpu: GpuUuid) -> Result<Self, PlaceError> {
        if gpu.0.is_empty() || !gpu.0.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(PlaceError::Uuid { uuid: gpu.0 });
        }
        let place = Self { root: root.to_owned(), gpu };
        check_length(&place.pipe(), LONGEST_SOCKET)?;
        Ok(place)
    }

    /// The GPU.
    #[must_use]
    pub const fn gpu(&self) -> &GpuUuid {
        &self.gpu
    }

    /// `ROOT/UUID`.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.root.join(&self.gpu.0)
    }

    /// The folder of the sockets.
    #[must_use]
    pub fn pipe(&self) -> PathBuf {
        self.directory().join("pipe")
    }

    /// The folder of the logs.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.directory().join("log")
    }

    /// Makes the folders where they are missing, and says what will keep clients of other users out. Folders that are there
    /// stay what they are (the same inode), empty of sockets and bounded in logs.
    ///
    /// Clients can be root in their container and write into `pipe`: what they left is removed without following links, its
    /// mode and owner are put right.
    ///
    /// # Errors
    /// When a folder cannot be made, is not one, or cannot be emptied.
    pub fn prepare(&self) -> Result<Vec<Trap>, PlaceError> {
        make_with_parents(&self.root)?;
        for path in [self.directory(), self.pipe(), self.log()] {
            make(&path)?;
        }
        self.clean()?;
        Ok(trap::label(&self.pipe()).into_iter().chain(self.traps()).collect())
    }

    /// What keeps clients of other users out.
    #[must_use]
    pub fn traps(&self) -> Vec<Trap> {
        trap::closed_parents(&self.pipe())
    }

    /// Removes what a daemon that is over left in `pipe`, and bounds its logs; nothing happens where there is no folder.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn clean(&self) -> Result<(), PlaceError> {
        empty(&self.pipe())?;
        logs::bound(&self.log()).map_err(|source| PlaceError::Folder { path: self.log(), source })
    }

    /// Removes the folders, for an uninstallation: containers that have them mounted keep dead ones.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn remove(&self) -> Result<(), PlaceError> {
        let path = self.directory();
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(PlaceError::Leftover { path, source }),
            _ => Ok(()),
        }
    }
}

/// Whether a socket of this name fits into a directory: a daemon whose socket has too long a path starts, fails to bind, and
/// says that it cannot find itself.
pub(crate) fn check_length(directory: &Path, socket: &str) -> Result<(), PlaceError> {
    let (length, limit) = (directory.as_os_str().len(), SOCKET_PATH_LIMIT - socket.len() - 1);
    if length > limit {
        return Err(PlaceError::PathTooLong { path: directory.to_owned(), length, limit });
    }
    Ok(())
}

/// The same for the sockets of protocol 2.
pub(crate) fn check_pipe_length(pipe: &Path) -> Result<(), PlaceError> {
    check_length(pipe, LONGEST_SOCKET)
}

fn make_with_parents(path: &Path) -> Result<(), PlaceError> {
    let failed = |source| PlaceError::Folder { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed)
}

/// A folder that others can pass through, whatever the umask, owned by this user.
fn make(path: &Path) -> Result<(), PlaceError> {
    let failed = |source| PlaceError::Folder { path: path.to_owned(), source };
    match DirBuilder::new().mode(0o755).create(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(failed(source)),
        _ => {}
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let opened = openat(CWD, path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let status = fstat(&opened).map_err(|error| failed(error.into()))?;
    if status.st_uid != geteuid().as_raw() {
        fchown(&opened, Some(geteuid()), Some(getegid())).map_err(|error| failed(error.into()))?;
    }
    if status.st_mode & 0o7777 != 0o755 {
        fchmod(opened.as_fd(), Mode::from_raw_mode(0o755)).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

/// Removes everything in a folder, never what a link in it points to.
fn empty(folder: &Path) -> Result<(), PlaceError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|source| PlaceError::Folder { path: folder.to_owned(), source })?,
    };
    for entry in entries {
        let entry = entry.map_err(|source| PlaceError::Folder { path: folder.to_owned(), source })?;
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(PlaceError::Leftover { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The daemon's output, to be appended to: it can be cut short while the daemon runs.
pub(crate) fn open_output(log: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(log.join(OUTPUT))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn place(root: &Path) -> Place {
        Place::new(root, GpuUuid("GPU-1".to_owned())).unwrap()
    }

    #[test]
    fn folders_are_made_for_others_to_pass_and_stay_the_same_ones_when_they_are_emptied() {
        let root = tempfile::tempdir().unwrap();
        let place = place(&root.path().join("a/mps"));
        place.prepare().unwrap();
        let before = fs::metadata(place.pipe()).unwrap();
        assert_eq!(before.permissions().mode() & 0o777, 0o755);
        drop(UnixListener::bind(place.pipe().join("control")).unwrap());
        fs::create_dir_all(place.pipe().join("gpu/small")).unwrap();
        fs::set_permissions(place.pipe(), fs::Permissions::from_mode(0o700)).unwrap();
        place.prepare().unwrap();
        let after = fs::metadata(place.pipe()).unwrap();
        assert_eq!((before.ino(), after.permissions().mode() & 0o777), (after.ino(), 0o755));
        assert_eq!(fs::read_dir(place.pipe()).unwrap().count(), 0);
        place.remove().unwrap();
        place.clean().unwrap();
        assert!(!place.directory().exists());
    }

    #[test]
    fn a_link_that_a_client_left_is_removed_and_its_target_is_not() {
        let root = tempfile::tempdir().unwrap();
        let (place, victim) = (place(root.path()), root.path().join("victim"));
        place.prepare().unwrap();
        fs::create_dir(&victim).unwrap();
        fs::write(victim.join("file"), "x").unwrap();
        symlink(&victim, place.pipe().join("control")).unwrap();
        place.clean().unwrap();
        assert!(victim.join("file").exists() && !place.pipe().join("control").exists());
    }

    #[test]
    fn a_link_in_the_place_of_a_folder_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let place = place(&root.path().join("mps"));
        fs::create_dir_all(place.directory()).unwrap();
        symlink(root.path(), place.pipe()).unwrap();
        let error = place.prepare().unwrap_err();
        assert!(matches!(&error, PlaceError::Folder { path, .. } if *path == place.pipe()), "{error}");
    }

    #[test]
    fn a_uuid_cannot_lead_elsewhere_and_a_path_must_leave_room_for_sockets() {
        for uuid in ["../x", "", "GPU/1"] {
            assert!(matches!(Place::new(Path::new("/r"), GpuUuid(uuid.to_owned())), Err(PlaceError::Uuid { .. })));
        }
        let long = PathBuf::from("/").join("x".repeat(90));
        let error = Place::new(&long, GpuUuid("GPU-1".to_owned())).unwrap_err();
        assert!(error.to_string().contains("at most 88"), "{error}");
    }
}
