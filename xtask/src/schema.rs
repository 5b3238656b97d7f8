//! `cargo xtask schema`: what the types say, for others to read: the JSON schemas of files, and the page of the command
//! line.
#![expect(clippy::disallowed_methods, reason = "the child here is waited for where it is started")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use cotenant_model::document;
use cotenant_model::run::Run;
use cotenant_model::sharing::Sharing;
use cotenant_model::workload::Workload;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail when a file that is checked in differs.
    #[arg(long)]
    check: bool,
}

/// A file made from the types.
#[derive(Debug)]
struct Generated {
    /// From the root of the repository.
    path: &'static str,
    text: String,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut files = Vec::from(schemas()?);
    files.push(Generated { path: "docs/cli.md", text: command_line()? });
    let root = crate::repository();
    let stale = if arguments.check { stale(&root, &files) } else { write(&root, &files)? };
    for path in &stale {
        println!("{}: {}", path.display(), if arguments.check { "differs from the types" } else { "written" });
    }
    if arguments.check && !stale.is_empty() {
        bail!("files that are checked in differ from the types: run `cargo xtask schema`");
    }
    Ok(())
}

/// The schemas of the files that the program reads and writes.
fn schemas() -> anyhow::Result<[Generated; 3]> {
    let pretty = |schema: &serde_json::Value| serde_json::to_string_pretty(schema).map(|text| text + "\n");
    Ok([
        Generated { path: "schemas/workload.schema.json", text: pretty(&Workload::schema())? },
        Generated { path: "schemas/node-config.schema.json", text: pretty(&Sharing::schema())? },
        Generated { path: "schemas/run.schema.json", text: pretty(&document::schema::<Run>())? },
    ])
}

/// The page of the command line, asked of the program: no crate may depend on a binary.
fn command_line() -> anyhow::Result<String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--quiet", "-p", "cotenant", "--", "manual"]).current_dir(crate::repository());
    let output = cargo.stderr(Stdio::inherit()).output().context("starting cargo to ask the program for its page")?;
    ensure!(output.status.success(), "`cotenant manual` ended with {}", output.status);
    String::from_utf8(output.stdout).context("`cotenant manual` does not print text")
}

/// Writes every file; returns those that were stale.
fn write(root: &Path, files: &[Generated]) -> anyhow::Result<Vec<PathBuf>> {
    let stale = stale(root, files);
    for file in files {
        let path = root.join(file.path);
        let folder = path.parent().unwrap_or(root);
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        fs::write(&path, &file.text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(stale)
}

/// The files that are missing or differ.
fn stale(root: &Path, files: &[Generated]) -> Vec<PathBuf> {
    let differs = |file: &&Generated| fs::read_to_string(root.join(file.path)).ok().as_ref() != Some(&file.text);
    files.iter().filter(differs).map(|file| root.join(file.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_or_missing_file_is_stale() {
        let root = tempfile::tempdir().expect("folder");
        let files = schemas().expect("schemas");
        assert_eq!(stale(root.path(), &files).len(), 3);
        assert_eq!(write(root.path(), &files).expect("written").len(), 3);
        assert_eq!(stale(root.path(), &files), Vec::<PathBuf>::new());
        let changed = root.path().join("schemas/run.schema.json");
        fs::write(&changed, "{}").expect("changed");
        assert_eq!(stale(root.path(), &files), [changed]);
    }
}
