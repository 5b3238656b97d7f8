//! The fakes that are programs, found where cargo puts them.

use std::path::PathBuf;

use anyhow::Context as _;

/// The path of one of this crate's programs, such as `fake-model-server`, built when it is not there.
///
/// It lies beside the test that asks (`target/PROFILE/deps/TEST` and `target/PROFILE/NAME`). A test of another crate does
/// not make cargo build it, so it is built here, once for all tests: cargo's own lock keeps two builds apart.
///
/// # Errors
/// When cargo cannot build it or puts it elsewhere.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe().context("the test has no path")?;
    let profile = test.ancestors().nth(2).context("the test lies in no target folder")?;
    let program = profile.join(name);
    if !program.is_file() {
        build(profile.ends_with("release"))?;
    }
    anyhow::ensure!(program.is_file(), "cargo built no {}", program.display());
    Ok(program)
}

#[expect(clippy::disallowed_methods, reason = "the child is waited for here")]
fn build(release: bool) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command
        .args(["build", "--quiet", "--package", "cotenant-testkit", "--bins"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if release {
        command.arg("--release");
    }
    let status = command.status().context("cannot run cargo")?;
    anyhow::ensure!(status.success(), "cargo cannot build the programs of testkit ({status})");
    Ok(())
}
