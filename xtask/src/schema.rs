//! `cargo xtask schema`: the JSON schemas that editors and other programs read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use cotenant_model::document;
use cotenant_model::run::Run;
use cotenant_model::workload::Workload;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail when a schema that is checked in differs.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = crate::repository().join("schemas");
    let stale = if arguments.check { stale(&folder)? } else { write(&folder)? };
    for path in &stale {
        println!("{}: {}", path.display(), if arguments.check { "differs from the types" } else { "written" });
    }
    if arguments.check && !stale.is_empty() {
        bail!("schemas that are checked in differ from the types: run `cargo xtask schema`");
    }
    Ok(())
}

/// The schemas with their file names.
fn schemas() -> anyhow::Result<[(&'static str, String); 2]> {
    let pretty = |schema: &serde_json::Value| serde_json::to_string_pretty(schema).map(|text| text + "\n");
    Ok([
        ("workload.schema.json", pretty(&Workload::schema())?),
        ("run.schema.json", pretty(&document::schema::<Run>())?),
    ])
}

fn write(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let stale = stale(folder)?;
    for (name, text) in schemas()? {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(stale)
}

/// The schemas whose file is missing or differs.
fn stale(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let differs = |(name, text): &(&str, String)| fs::read_to_string(folder.join(name)).ok().as_ref() != Some(text);
    Ok(schemas()?.iter().filter(|schema| differs(schema)).map(|(name, _)| folder.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_or_missing_schema_is_stale() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(stale(folder.path()).expect("read").len(), 2);
        assert_eq!(write(folder.path()).expect("written").len(), 2);
        assert_eq!(stale(folder.path()).expect("read"), Vec::<PathBuf>::new());
        fs::write(folder.path().join("run.schema.json"), "{}").expect("changed");
        assert_eq!(stale(folder.path()).expect("read"), [folder.path().join("run.schema.json")]);
    }
}
