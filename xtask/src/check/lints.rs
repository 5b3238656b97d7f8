//! Whether every crate is held to the workspace's lints.
//!
//! A crate that may hold `unsafe` cannot inherit the workspace's table, because a forbidden lint cannot be lowered. It
//! repeats the table, and this check keeps the two from drifting apart.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::tree::SourceFile;

/// The one lint in which a repeated table may differ.
const OWN: &str = "unsafe_code ";

/// Every manifest of a crate that is held to less than the workspace's lints.
pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let Some(root) = files.iter().find(|file| file.path == "Cargo.toml") else { return Vec::new() };
    // A workspace of its own can inherit nothing, and what is in it (fuzz targets) is there to panic.
    let inside = |file: &&SourceFile| !file.text.lines().any(|line| line.trim() == "[workspace]");
    let crates = files.iter().filter(|file| file.path.ends_with("/Cargo.toml")).filter(inside);
    crates.flat_map(|file| missing(&root.text, file)).collect()
}

fn missing(root: &str, file: &SourceFile) -> Vec<Finding> {
    if table(&file.text, "[lints]").contains("workspace = true") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for tool in ["rust", "rustdoc", "clippy"] {
        let own = table(&file.text, &format!("[lints.{tool}]"));
        let wanted = table(root, &format!("[workspace.lints.{tool}]"));
        for line in wanted.difference(&own).filter(|line| !line.starts_with(OWN)) {
            findings.push(Finding::new(&file.path, 1, format!("[lints.{tool}] lacks the workspace's `{line}`")));
        }
    }
    findings
}

/// The lines of a table of a manifest.
fn table<'a>(manifest: &'a str, header: &str) -> BTreeSet<&'a str> {
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != header).skip(1);
    lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "[workspace.lints.rust]\nunsafe_code = \"forbid\"\nmissing_docs = \"deny\"\n\n\
                        [workspace.lints.clippy]\npanic = \"deny\"\n";

    fn found(manifest: &str) -> Vec<String> {
        let file = |path: &str, text: &str| SourceFile { path: path.to_owned(), text: text.to_owned() };
        let findings = check(&[file("Cargo.toml", ROOT), file("crates/a/Cargo.toml", manifest)]);
        findings.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_crate_inherits_the_lints_or_repeats_them_but_for_unsafe() {
        assert_eq!(found("[package]\n[lints]\nworkspace = true\n"), Vec::<String>::new());
        let repeated =
            "[lints.rust]\nunsafe_code = \"deny\"\nmissing_docs = \"deny\"\n[lints.clippy]\npanic = \"deny\"\n";
        assert_eq!(found(repeated), Vec::<String>::new());
    }

    #[test]
    fn a_lint_that_is_left_out_is_named() {
        assert_eq!(
            found("[lints.rust]\nmissing_docs = \"deny\"\n"),
            ["[lints.clippy] lacks the workspace's `panic = \"deny\"`"]
        );
        assert_eq!(found("[package]\n").len(), 2);
        assert_eq!(found("[package]\n[workspace]\n").len(), 0, "a workspace of its own");
    }
}
