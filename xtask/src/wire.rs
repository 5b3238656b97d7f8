//! `cargo xtask wire`: the Rust code of the kubelet's gRPC interfaces, made from `crates/kubelet/proto`.
//!
//! It is checked in, so that a build of the program needs neither a compiler of protocol buffers nor a build script.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

/// Descriptions, and the file that the generator names after the package of each.
const INTERFACES: [(&str, &str); 2] = [("device_plugin.proto", "v1beta1.rs"), ("pod_resources.proto", "v1.rs")];

/// Arguments of `wire`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail when what is checked in differs from what the descriptions give.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let room = crate::repository().join("crates/kubelet");
    let fresh = tempfile::tempdir().context("making a temporary folder")?;
    generate(&room.join("proto"), fresh.path())?;
    let stored = room.join("src/wire");
    let stale = stale(&stored, fresh.path())?;
    if arguments.check {
        ensure!(
            stale.is_empty(),
            "not what the descriptions give: {}; run `cargo xtask wire`",
            stale.iter().map(|(name, _code)| *name).collect::<Vec<_>>().join(", ")
        );
    }
    for (name, code) in stale {
        let path = stored.join(name);
        fs::write(&path, code).with_context(|| format!("writing {}", path.display()))?;
        println!("{}: written", path.display());
    }
    Ok(())
}

/// Writes the code of every description to a folder.
fn generate(descriptions: &Path, to: &Path) -> anyhow::Result<()> {
    let files = INTERFACES.map(|(description, _code)| description);
    let parsed = protox::compile(files, [descriptions]).context("reading crates/kubelet/proto")?;
    tonic_prost_build::configure().out_dir(to).compile_fds(parsed).context("generating the code of the wire")
}

/// The files that are missing or differ, with what they should hold.
fn stale(stored: &Path, fresh: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut stale = Vec::new();
    for (_description, name) in INTERFACES {
        let code = fs::read_to_string(fresh.join(name)).with_context(|| format!("the generator wrote no {name}"))?;
        if fs::read_to_string(stored.join(name)).ok().as_ref() != Some(&code) {
            stale.push((name, code));
        }
    }
    Ok(stale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_or_missing_file_is_stale() {
        let descriptions = crate::repository().join("crates/kubelet/proto");
        let (fresh, stored) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
        generate(&descriptions, fresh.path()).expect("code");
        for (name, code) in stale(stored.path(), fresh.path()).expect("comparison") {
            fs::write(stored.path().join(name), code).expect("file");
        }
        assert_eq!(stale(stored.path(), fresh.path()).expect("comparison"), []);
        fs::write(stored.path().join("v1.rs"), "").expect("file");
        let names: Vec<_> = stale(stored.path(), fresh.path()).expect("comparison");
        assert_eq!(names.iter().map(|(name, _code)| *name).collect::<Vec<_>>(), ["v1.rs"]);
    }
}
