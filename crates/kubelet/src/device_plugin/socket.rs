//! The UNIX socket of a device plugin: its name, how it comes and goes.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cotenant_model::sharing::ResourceName;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// Bytes of a socket's path that Linux takes (`sun_path` without its closing zero).
const LONGEST_PATH: usize = 107;
/// Bytes of a file name that leave room for the kubelet's folder, `/var/lib/kubelet/device-plugins/`, and a longer one.
const LONGEST_NAME: usize = 64;
/// How long a socket is asked whether somebody serves it. A socket that has not answered by then is taken for served.
const PROBE: Duration = Duration::from_millis(500);

const PREFIX: &str = "cotenant-";
const SUFFIX: &str = ".sock";

/// Why a socket could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum BindError {
    #[error("the path of the socket {path} has {length} bytes, and Linux takes {LONGEST_PATH}")]
    Path { path: PathBuf, length: usize },
    #[error("{folder} is not there: is the kubelet's folder mounted, and does a kubelet run here?")]
    Folder { folder: PathBuf },
    #[error("another process serves {path}")]
    Served { path: PathBuf },
    #[error("{path} is in the way and is not a socket")]
    InTheWay { path: PathBuf },
    #[error("cannot make the socket {path}")]
    Make { path: PathBuf, source: io::Error },
}

/// Names a resource's socket: `nvidia.com/gpu.shared` has `cotenant-nvidia.com_gpu.shared.sock`.
///
/// No two resources clash: the part before the slash is a DNS name, so the first `_` is the slash. A name that would be
/// too long is cut and carries a hash; it begins with `_`, as no DNS name does.
pub(super) fn file_name(resource: &ResourceName) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let readable: String = resource.0.chars().map(clean).collect();
    let room = LONGEST_NAME - PREFIX.len() - SUFFIX.len();
    if readable.len() <= room && resource.0.matches('/').count() == 1 {
        return format!("{PREFIX}{readable}{SUFFIX}");
    }
    let kept = readable.get(readable.len().saturating_sub(room - 18)..).unwrap_or_default();
    format!("{PREFIX}_{:016x}_{kept}{SUFFIX}", fnv1a(resource.0.as_bytes()))
}

/// The name of the socket of NVIDIA's plugin for a resource, which may be there during a move: `nvidia-gpu.shared.sock`.
pub(super) fn peer_name(resource: &ResourceName) -> String {
    let name = resource.0.split_once('/').map_or(resource.0.as_str(), |(_domain, name)| name);
    format!("nvidia-{name}{SUFFIX}")
}

/// The 64-bit hash of Fowler, Noll and Vo, 1a: the same on every run and every machine.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Which file a path leads to. Inode numbers are used again, so the time it was made counts too; nothing that is done to a
/// socket afterwards changes that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    modified: (i64, i64),
}

impl Identity {
    /// What lies at a path; `None` where nothing does or it cannot be seen.
    pub(super) fn at(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path).ok().as_ref().map(Self::of)
    }

    fn of(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { device: metadata.dev(), inode: metadata.ino(), modified }
    }
}

/// A socket that is listened on; the file goes with it, unless it has become another's.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    identity: Option<Identity>,
}

impl Socket {
    /// Listens at `path`, in place of a socket that nobody serves any more. Only this user may connect.
    pub(super) async fn bind(path: &Path) -> Result<Self, BindError> {
        let length = path.as_os_str().len();
        if length > LONGEST_PATH {
            return Err(BindError::Path { path: path.to_owned(), length });
        }
        let make = |source| BindError::Make { path: path.to_owned(), source };
        let folder = path.parent().unwrap_or(path);
        match fs::metadata(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BindError::Folder { folder: folder.to_owned() });
            }
            Err(error) => return Err(make(error)),
            Ok(_metadata) => {}
        }
        make_way(path).await?;
        let listener = UnixListener::bind(path).map_err(make)?;
        let socket = Self { listener, path: path.to_owned(), identity: Identity::at(path) };
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(make)?;
        Ok(socket)
    }

    /// Whether a client that dials the path still arrives here.
    pub(super) fn is_in_place(&self) -> bool {
        self.identity.is_some() && Identity::at(&self.path) == self.identity
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.is_in_place()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

async fn make_way(path: &Path) -> Result<(), BindError> {
    let make = |source| BindError::Make { path: path.to_owned(), source };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(make(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::InTheWay { path: path.to_owned() });
    }
    if is_served(path).await {
        return Err(BindError::Served { path: path.to_owned() });
    }
    fs::remove_file(path).map_err(make)
}

/// Whether somebody listens. Only a refusal says that nobody does.
async fn is_served(path: &Path) -> bool {
    match timeout(PROBE, UnixStream::connect(path)).await {
        Ok(Ok(_connection)) => true,
        Ok(Err(error)) => error.kind() != io::ErrorKind::ConnectionRefused,
        Err(_elapsed) => true,
    }
}

/// Removes the sockets that an earlier run left in `directory` for resources that are not in `kept` any more; those that
/// somebody serves stay, and so does every file that is not named as this program names its sockets.
///
/// Returns what it removed.
///
/// # Errors
/// When the folder cannot be listed or a socket cannot be removed.
pub async fn remove_retired_sockets(directory: &Path, kept: &[ResourceName]) -> io::Result<Vec<PathBuf>> {
    let kept: Vec<String> = kept.iter().map(file_name).collect();
    let mut removed = Vec::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(removed),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = name.starts_with(PREFIX) && name.ends_with(SUFFIX) && !kept.contains(&name);
        if is_ours && entry.file_type()?.is_socket() && !is_served(&entry.path()).await {
            fs::remove_file(entry.path())?;
            removed.push(entry.path());
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener as StdListener;

    use super::*;

    fn name(resource: &str) -> String {
        file_name(&ResourceName(resource.to_owned()))
    }

    #[test]
    fn names_are_readable_and_never_clash() {
        assert_eq!(name("nvidia.com/gpu.shared"), "cotenant-nvidia.com_gpu.shared.sock");
        assert_eq!(peer_name(&ResourceName("nvidia.com/gpu.shared".to_owned())), "nvidia-gpu.shared.sock");
        assert_ne!(name("nvidia.com/a_b"), name("nvidia.com/a/b"));
        assert_ne!(name("a.b/c"), name("a.b_c"));
        let long = |end: &str| name(&format!("nvidia.com/{}{end}", "mig-1g.5gb.".repeat(8)));
        assert_ne!(long("a"), long("b"));
        assert!(long("a").len() <= LONGEST_NAME && long("a").starts_with("cotenant-_"), "{}", long("a"));
        assert!(name("näme/ü").is_ascii());
    }

    #[tokio::test]
    async fn a_socket_that_a_crash_left_is_replaced_and_a_served_one_is_not() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.sock");
        drop(StdListener::bind(&path).expect("left behind"));
        let first = Socket::bind(&path).await.expect("replaced");
        assert!(matches!(Socket::bind(&path).await, Err(BindError::Served { .. })));
        assert_eq!(fs::metadata(&path).expect("socket").permissions().mode() & 0o777, 0o600);
        drop(first);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_became_anothers_is_left_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.sock");
        let first = Socket::bind(&path).await.expect("bound");
        fs::remove_file(&path).expect("removed");
        assert!(!first.is_in_place());
        let second = StdListener::bind(&path).expect("another's");
        drop(first);
        assert!(path.exists());
        drop(second);
    }

    #[tokio::test]
    async fn what_stands_in_the_way_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let text = |error: BindError| error.to_string();
        let file = folder.path().join("a.sock");
        fs::write(&file, "kept").expect("file");
        assert!(text(Socket::bind(&file).await.expect_err("a file")).contains("is not a socket"));
        assert_eq!(fs::read_to_string(&file).expect("file"), "kept");
        let long = folder.path().join("a".repeat(107));
        assert!(text(Socket::bind(&long).await.expect_err("long")).contains("Linux takes 107"));
        let nowhere = folder.path().join("nowhere/a.sock");
        assert!(text(Socket::bind(&nowhere).await.expect_err("no folder")).contains("nowhere is not there"));
    }

    #[tokio::test]
    async fn only_dead_sockets_of_retired_resources_are_removed() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |resource: &str| folder.path().join(name(resource));
        let other = folder.path().join("nvidia-gpu.sock");
        for dead in [path("a.b/kept"), path("a.b/gone"), other.clone()] {
            drop(StdListener::bind(dead).expect("socket"));
        }
        let _served = StdListener::bind(path("a.b/served")).expect("socket");
        let kept = [ResourceName("a.b/kept".to_owned())];
        assert_eq!(remove_retired_sockets(folder.path(), &kept).await.expect("removed"), [path("a.b/gone")]);
        assert!(path("a.b/kept").exists() && path("a.b/served").exists() && other.exists());
        assert!(remove_retired_sockets(&folder.path().join("none"), &[]).await.expect("nothing").is_empty());
    }
}
