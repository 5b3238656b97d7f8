//! `cargo xtask check`: the rules of the house that no compiler knows.
//!
//! Layers of the crates, lints that all of them keep, size bounds of functions and files, where `unsafe` may stand, that
//! every crate says what it owns, words that must not be committed, and links that lead nowhere.
//! `docs/design/0001-house.md` has the reasons.

mod finding;
mod layers;
mod lints;
mod size;
mod text;
mod tree;

use std::path::Path;

use anyhow::{Context as _, bail};
use cargo_metadata::MetadataCommand;

use finding::Finding;

/// Checks the repository and prints every finding.
pub(crate) fn run() -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec().context("reading `cargo metadata`")?;
    let root = metadata.workspace_root.as_std_path();
    let mut findings = layers::check(&layers::packages(&metadata));
    findings.extend(check_tree(root)?);
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => bail!("one rule of the house is broken"),
        many => bail!("{many} rules of the house are broken"),
    }
}

/// Checks every file below `root` and prints the lengths of functions.
fn check_tree(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let files = tree::files(root)?;
    let mut findings = lints::check(&files);
    let mut lengths = size::Lengths::default();
    for file in &files {
        findings.extend(text::check(root, file));
        if file.path.ends_with(".rs") {
            findings.extend(size::check(file, &mut lengths));
        }
    }
    print!("{lengths}");
    findings.extend(lengths.check());
    Ok(findings)
}
