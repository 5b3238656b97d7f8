//! `cotenant config`: what a node's configuration says, before a node has it.

mod check;
mod explain;
mod inventory;

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use cotenant_model::document::MAXIMUM_BYTES;
use cotenant_model::sharing::layout::Configs;

use crate::exit::{Failure, Kind};

/// Check and explain the configuration of a node.
///
/// A configuration is the file of NVIDIA's device plugin (`version: v1`), with what cotenant adds under `cotenant:`. It may
/// stand in a file of its own, in the values of a Helm chart (`config.map` of NVIDIA's device-plugin chart,
/// `devicePlugin.config.data` of its gpu-operator) or in a `ConfigMap`. Files of mig-parted are read too.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Check(check::Arguments),
    Explain(explain::Arguments),
    Inventory(inventory::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.verb {
        Verb::Check(arguments) => check::run(arguments),
        Verb::Explain(arguments) => explain::run(arguments),
        Verb::Inventory(arguments) => inventory::run(arguments),
    }
}

/// Reads a file's text; `-` is standard input. A little more than what is read of a configuration is enough.
fn text(path: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Kind::Input, format!("cannot read `{}`: {error}", path.display()))
            .hint("a configuration is a YAML file; `-` reads standard input")
    };
    let most = MAXIMUM_BYTES as u64 + 1;
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_string(&mut text).map_err(failed)?;
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text)).map_err(failed)?;
    }
    Ok(text)
}

/// How a file is named in problems.
fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// What is in a file: the names of its configurations.
fn names(configs: &Configs) -> String {
    let names: Vec<&str> = configs.named.iter().map(|named| named.name.as_str()).collect();
    match names.as_slice() {
        [] => "no configuration".to_owned(),
        [""] => String::new(),
        [one] => format!("configuration {one}"),
        several => format!("configurations {}", several.join(", ")),
    }
}
