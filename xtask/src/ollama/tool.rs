//! The programs that do the work, with the Debian package that brings each.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// A program to be run; how to get it is said when it is missing.
#[expect(clippy::disallowed_methods, reason = "children of a chore are reaped in this file and in `models`")]
pub(super) fn command(program: &str) -> Command {
    Command::new(program)
}

fn package_of(program: &str) -> &'static str {
    match program {
        "go" => "golang-go (1.24 or newer, from backports or go.dev)",
        "gcc" => "gcc",
        "g++" => "g++",
        "python3" => "python3",
        "tar" => "tar",
        _ => "the package of that name",
    }
}

/// Runs a program to its end and gives back its standard output.
pub(super) fn run(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            anyhow::bail!("`{name}` is missing; install Debian's {}", package_of(&name))
        }
        other => other.with_context(|| format!("cannot run `{name}`"))?,
    };
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = words.lines().rev().take(15).collect();
        let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
        anyhow::bail!("`{name}` failed ({}):\n{last}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Says what is missing before a build of minutes starts.
pub(super) fn need(program: &str, question: &str) -> anyhow::Result<()> {
    run(command(program).arg(question)).map(|_version| ())
}

/// Says it when pip, a package of its own on Debian, is missing.
pub(super) fn need_pip() -> anyhow::Result<()> {
    need("python3", "--version")?;
    run(command("python3").args(["-m", "pip", "--version"]))
        .map(|_version| ())
        .context("pip is missing; install Debian's python3-pip")
}
