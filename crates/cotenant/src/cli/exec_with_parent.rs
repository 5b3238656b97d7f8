//! `cotenant exec-with-parent`.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::exit::{Failure, Kind};

/// Become a command that ends when the parent process does.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// As `cotenant_mps::shim_arguments` makes them; read as they are, since `--` is one of them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _raw: Vec<OsString>,
}

pub(crate) fn run() -> Result<ExitCode, Failure> {
    let arguments: Vec<OsString> = std::env::args_os().skip(2).collect();
    Err(Failure::from_error(Kind::Other, &cotenant_mps::exec_with_parent(&arguments)))
}
