//! Where the control program is.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Variable that names the control program and overrides the search.
pub const PROGRAM_VARIABLE: &str = "COTENANT_MPS_CONTROL";

const NAME: &str = "nvidia-cuda-mps-control";

/// Why there is no control program.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The named file is not a program.
    #[error("{} (from {PROGRAM_VARIABLE}) is not a program that can be run", path.display())]
    Named {
        /// What the variable holds.
        path: PathBuf,
    },
    /// No directory has it.
    #[error("{NAME} is neither on PATH nor in /usr/local/nvidia/bin or /usr/bin")]
    Missing,
}

/// Finds `nvidia-cuda-mps-control`: `$COTENANT_MPS_CONTROL`, else `PATH`, `/usr/local/nvidia/bin`, `/usr/bin`.
///
/// # Errors
/// When there is none.
pub fn find_program() -> Result<PathBuf, ProgramError> {
    find(env::var_os(PROGRAM_VARIABLE).as_deref(), env::var_os("PATH").as_deref())
}

fn find(named: Option<&OsStr>, path: Option<&OsStr>) -> Result<PathBuf, ProgramError> {
    if let Some(named) = named {
        let path = PathBuf::from(named);
        return if path.is_absolute() && is_program(&path) { Ok(path) } else { Err(ProgramError::Named { path }) };
    }
    let on_path = path.into_iter().flat_map(env::split_paths);
    on_path
        .chain(["/usr/local/nvidia/bin", "/usr/bin"].map(PathBuf::from))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(NAME))
        .find(|candidate| is_program(candidate))
        .ok_or(ProgramError::Missing)
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn install(directory: &Path, mode: u32) -> PathBuf {
        let path = directory.join(NAME);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn the_variable_wins_over_the_path_and_a_wrong_one_is_not_passed_over() {
        let (named, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let program = install(named.path(), 0o755);
        install(other.path(), 0o755);
        let path = Some(other.path().as_os_str());
        assert_eq!(find(Some(program.as_os_str()), path).unwrap(), program);
        let error = find(Some(OsStr::new("/nonexistent/control")), path).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/control"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_run_is_passed_over() {
        let (dead, live) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        install(dead.path(), 0o644);
        let program = install(live.path(), 0o755);
        let path = env::join_paths([Path::new("relative"), dead.path(), live.path()]).unwrap();
        assert_eq!(find(None, Some(&path)).unwrap(), program);
    }
}
