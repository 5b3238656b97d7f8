//! The directory of what outlives a run: records of processes, locks of GPUs, sockets of daemons.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, fstat, mkdirat, openat};
use rustix::process::geteuid;

/// Why the run root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunRootError {
    /// It cannot be made or opened; a symbolic link or a plain file in its place is this error too.
    #[error("cannot use {} as a directory of this user's own", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It belongs to another user.
    #[error("{} belongs to user {owner}, not to user {user}", path.display())]
    ForeignOwner {
        /// The path.
        path: PathBuf,
        /// User who owns it.
        owner: u32,
        /// User of this process.
        user: u32,
    },
    /// Others may read or write it.
    #[error("{} is open to other users (mode {mode:o}, wanted 700)", path.display())]
    OpenToOthers {
        /// The path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// A directory of this user's own, closed to everybody else, checked when it was opened.
#[derive(Debug)]
pub struct RunRoot {
    path: PathBuf,
    directory: OwnedFd,
}

impl RunRoot {
    /// Opens the run root of this user, and makes it where it is missing: `$XDG_RUNTIME_DIR/cotenant`, else
    /// `/tmp/cotenant-UID`.
    ///
    /// # Errors
    /// When it is a symbolic link, belongs to somebody else, or is open to others.
    pub fn open() -> Result<Self, RunRootError> {
        let user = geteuid().as_raw();
        let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
        let path = session
            .map_or_else(|| PathBuf::from(format!("/tmp/cotenant-{user}")), |directory| directory.join("cotenant"));
        Self::at(&path)
    }

    /// Opens a run root at a path, and makes its last component where it is missing.
    ///
    /// # Errors
    /// As [`RunRoot::open`].
    pub fn at(path: &Path) -> Result<Self, RunRootError> {
        let directory = open_private(CWD, path, path)?;
        Ok(Self { path: path.to_owned(), directory })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory inside, made where it is missing and checked like the root.
    ///
    /// # Errors
    /// As [`RunRoot::open`].
    pub fn subdirectory(&self, name: &str) -> Result<PathBuf, RunRootError> {
        let path = self.path.join(name);
        open_private(&self.directory, Path::new(name), &path)?;
        Ok(path)
    }

    /// A file inside to lock, made where it is missing and kept as it is where it is not.
    pub(crate) fn lock_file(&self, name: &str) -> Result<File, RunRootError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|error| RunRootError::Open { path: self.path.join(name), source: error.into() })
    }
}

/// Opens a directory that must be this user's own; `shown` is its full path for errors.
fn open_private<Fd: std::os::fd::AsFd>(base: Fd, path: &Path, shown: &Path) -> Result<OwnedFd, RunRootError> {
    let failed = |error: rustix::io::Errno| RunRootError::Open { path: shown.to_owned(), source: error.into() };
    match mkdirat(base.as_fd(), path, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let directory = openat(base, path, flags, Mode::empty()).map_err(failed)?;
    let status = fstat(&directory).map_err(failed)?;
    let (owner, user) = (status.st_uid, geteuid().as_raw());
    if owner != user {
        return Err(RunRootError::ForeignOwner { path: shown.to_owned(), owner, user });
    }
    let mode = status.st_mode & 0o777;
    if mode & 0o077 != 0 {
        return Err(RunRootError::OpenToOthers { path: shown.to_owned(), mode });
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_new_run_root_is_closed_to_others_and_opens_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        RunRoot::at(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        RunRoot::at(&path).unwrap();
    }

    #[test]
    fn a_symbolic_link_in_its_place_is_refused_and_its_target_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (target, path) = (directory.path().join("target"), directory.path().join("run"));
        std::fs::create_dir(&target).unwrap();
        symlink(&target, &path).unwrap();
        assert!(matches!(RunRoot::at(&path).unwrap_err(), RunRootError::Open { .. }));
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    }

    #[test]
    fn a_symbolic_link_inside_it_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = RunRoot::at(&directory.path().join("run")).unwrap();
        symlink(directory.path(), root.path().join("processes")).unwrap();
        symlink(directory.path().join("victim"), root.path().join("x.lock")).unwrap();
        assert!(root.subdirectory("processes").is_err());
        assert!(root.lock_file("x.lock").is_err());
        assert!(!directory.path().join("victim").exists());
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = RunRoot::at(&path).unwrap_err();
        assert!(matches!(error, RunRootError::OpenToOthers { mode: 0o777, .. }), "{error}");
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        let (directory, user) = (tempfile::tempdir().unwrap(), geteuid().as_raw());
        let path = if user == 0 { directory.path().join("run") } else { PathBuf::from("/root") };
        if user == 0 {
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
        }
        assert!(RunRoot::at(&path).is_err());
    }
}
