//! The dialogue against programs that answer in every bad way.

use std::os::unix::fs::PermissionsExt as _;

use std::io;
use std::process::{Command, Stdio};

use super::*;

fn answering(script: &str) -> (tempfile::TempDir, Dialogue) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("control");
    std::fs::write(&program, format!("#!/bin/sh\nread command\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    wait_until_closed(&program);
    let dialogue = Dialogue::new(&program, Path::new("/pipe"), Duration::from_secs(5), Dialect::Two);
    (directory, dialogue)
}

/// A child that another test started meanwhile holds the file open for writing until its own `exec`.
fn wait_until_closed(program: &Path) {
    #[expect(clippy::disallowed_methods, reason = "the child is waited for at once")]
    let run = || Command::new(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    assert!(Deadline::after(Duration::from_secs(10)).wait(|| match run() {
        Ok(mut child) => child.kill().and_then(|()| child.wait()).is_ok(),
        Err(error) => error.kind() != io::ErrorKind::ExecutableFileBusy,
    }));
}

#[test]
fn lists_are_read_with_any_white_space_and_an_empty_one_is_no_error() {
    assert_eq!(answering("printf ' 12\\r\\n\\n 7 \\n'").1.servers().unwrap(), [12, 7]);
    assert_eq!(answering("true").1.servers().unwrap(), Vec::<u32>::new());
}

#[test]
fn garbage_is_quoted_shortened_and_on_one_line() {
    let error = answering("head -c 9000 /dev/zero | tr '\\0' 'x'; printf '\\n\\033[1m'").1.servers().unwrap_err();
    assert!(matches!(error, DialogueError::Reply { .. }));
    let text = error.to_string();
    assert!(text.len() < 300 && !text.contains(char::is_control), "{text}");
}

#[test]
fn a_reply_without_end_is_not_read_to_its_end() {
    let error = answering("exec yes 1").1.servers().unwrap_err();
    assert!(matches!(error, DialogueError::Reply { .. }), "{error}");
}

#[test]
fn the_want_of_a_daemon_is_told_from_other_failures() {
    let missing = answering("echo 'Cannot find MPS control daemon process'; exit 1").1.servers().unwrap_err();
    assert!(matches!(missing, DialogueError::NoDaemon { .. }), "{missing}");
    let broken = answering("echo 'no such thing' >&2; exit 3").1.servers().unwrap_err();
    assert!(matches!(&broken, DialogueError::Failed { reply, .. } if reply == "no such thing"), "{broken}");
}

#[test]
fn one_that_never_answers_is_killed_when_its_time_is_up() {
    let (_directory, dialogue) = answering("exec sleep 60");
    let error = dialogue.ask_within("get_server_list", Duration::from_millis(200)).unwrap_err();
    assert!(matches!(error, DialogueError::Late { .. }), "{error}");
}

#[test]
fn the_environment_of_the_caller_does_not_reach_the_program() {
    let (_directory, dialogue) = answering("env");
    let reply = dialogue.ask("x").unwrap();
    assert!(reply.contains("CUDA_MPS_PIPE_DIRECTORY=/pipe"), "{reply}");
    assert!(!reply.contains("CARGO_MANIFEST_DIR"), "{reply}");
}

#[test]
fn states_are_read_and_others_are_kept_as_they_are() {
    assert_eq!(answering("echo ACTIVE").1.status(1).unwrap(), ServerStatus::Active);
    assert_eq!(answering("echo FAULT").1.status(1).unwrap(), ServerStatus::Fault);
    assert_eq!(answering("echo Gone fishing").1.status(1).unwrap(), ServerStatus::Other("Gone fishing".to_owned()));
}
