//! The first process of a machine: `e2e-machine FOLDER`, started by the harness in new namespaces.

use std::path::Path;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).context("usage: e2e-machine FOLDER")?;
    e2e::machine::run(Path::new(&folder))
}
