//! Children that die with their parent.
//!
//! The kernel can be told to signal a process when its parent ends, but the process must ask for that itself, between
//! `fork` and `exec`. A hook there is unsafe code; instead cotenant starts itself with [`shim_arguments`], asks, and
//! becomes the wanted program.
//!
//! The kernel sends the signal when the **thread** that started the child ends, not the process: start such children from
//! a thread that lives as long as they do, such as the main thread; never from a thread of a pool. The request is lost
//! across `exec` of a set-user-ID program.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Why a child did not become its program.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The arguments are not those of [`shim_arguments`].
    #[error("wanted PARENT-PID -- PROGRAM [ARGUMENT]…")]
    Arguments,
    /// The parent was gone before the tie was made.
    #[error("parent {expected} is gone")]
    ParentGone {
        /// The parent's process id as passed.
        expected: u32,
    },
    /// The kernel refused the tie.
    #[error("cannot tie this process to its parent")]
    Tie(#[source] io::Error),
    /// The program cannot be run.
    #[error("cannot run {}", program.display())]
    Exec {
        /// The program.
        program: OsString,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Arguments after `cotenant exec-with-parent` that make [`exec_with_parent`] run a program as a child of this process.
#[must_use]
pub fn shim_arguments(program: &OsStr, arguments: &[OsString]) -> Vec<OsString> {
    let mut all = vec![OsString::from(std::process::id().to_string()), OsString::from("--"), program.to_owned()];
    all.extend_from_slice(arguments);
    all
}

/// Ties this process to its parent (SIGKILL when the parent's starting thread ends) and becomes the program. Returns
/// only when that failed.
#[must_use]
pub fn exec_with_parent(arguments: &[OsString]) -> ShimError {
    let Some((expected, command)) = split(arguments) else { return ShimError::Arguments };
    let Some((program, rest)) = command.split_first() else { return ShimError::Arguments };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return ShimError::Tie(error.into());
    }
    // A parent that died before the request sends no signal any more.
    if getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()) != Some(expected) {
        return ShimError::ParentGone { expected };
    }
    #[expect(clippy::disallowed_methods, reason = "exec replaces this process: there is no child to reap")]
    let source = Command::new(program).args(rest).exec();
    ShimError::Exec { program: program.clone(), source }
}

fn split(arguments: &[OsString]) -> Option<(u32, &[OsString])> {
    match arguments {
        [parent, dashes, command @ ..] if dashes == "--" => Some((parent.to_str()?.parse().ok()?, command)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::clock::Deadline;
    use crate::process::Identity;

    fn arguments(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    /// Tells the test executable which part of the play below it has.
    const PART: &str = "COTENANT_TEST_SHIM";

    /// Not a test of its own: the parent that is killed, and the child that must die with it.
    #[test]
    fn a_parent_and_its_tied_child() {
        match std::env::var(PART).unwrap_or_default().split_once(':') {
            Some(("parent", file)) => {
                let mut child = play(&shim_arguments(OsStr::new("sleep"), &["120".into()]));
                std::fs::write(file, child.id().to_string()).unwrap();
                child.wait().unwrap();
            }
            Some(("child", words)) => panic!("{}", exec_with_parent(&arguments(&words.split(' ').collect::<Vec<_>>()))),
            _ => {}
        }
    }

    /// Starts the test executable as the child.
    fn play(words: &[OsString]) -> Child {
        let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap()).collect();
        start(&format!("child:{}", words.join(" ")))
    }

    #[expect(clippy::disallowed_methods, reason = "the tests that start it wait for it")]
    fn start(part: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "shim::tests::a_parent_and_its_tied_child"])
            .env(PART, part)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[test]
    fn a_tied_child_becomes_its_program_and_dies_when_its_parent_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let (file, patience) = (directory.path().join("pid"), Duration::from_secs(20));
        let mut parent = start(&format!("parent:{}", file.display()));
        let mut child = None;
        assert!(Deadline::after(patience).wait(|| {
            let pid = std::fs::read_to_string(&file).ok().and_then(|text| text.parse().ok());
            child = pid.and_then(Identity::of);
            let name = pid.and_then(|pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
            name.as_deref() == Some("sleep\n")
        }));
        let child = child.unwrap();
        parent.kill().unwrap();
        parent.wait().unwrap();
        assert!(Deadline::after(patience).wait(|| !child.is_alive()));
    }

    #[test]
    fn a_child_whose_parent_is_already_another_does_not_become_its_program() {
        let mut child = play(&arguments(&["1", "--", "sleep", "120"]));
        let mut status = None;
        assert!(Deadline::after(Duration::from_secs(20)).wait(|| {
            status = child.try_wait().unwrap();
            status.is_some()
        }));
        assert!(!status.unwrap().success());
    }

    #[test]
    fn arguments_of_another_shape_are_refused() {
        for words in [&[][..], &["x", "--", "true"], &["1", "true"], &["1", "--"]] {
            assert!(matches!(exec_with_parent(&arguments(words)), ShimError::Arguments), "{words:?}");
        }
    }
}
