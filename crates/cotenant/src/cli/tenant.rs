//! `cotenant tenant`: one tenant of a comparison, in a process of its own.

use std::process::ExitCode;

use crate::exit::{Failure, Kind};

pub(crate) fn run() -> Result<ExitCode, Failure> {
    let launcher = std::env::current_exe().map_err(|error| Failure::from_error(Kind::Other, &error))?;
    let launcher = vec![launcher.to_string_lossy().into_owned(), "exec-with-parent".to_owned()];
    cotenant_bench::tenant::run(std::io::stdin(), std::io::stdout(), launcher)
        .map_err(|error| Failure::from_error(Kind::Tenant, &error))?;
    Ok(ExitCode::SUCCESS)
}
