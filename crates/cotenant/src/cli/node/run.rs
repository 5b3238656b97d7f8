//! `cotenant node`.

use std::process::ExitCode;

use cotenant_node::agent::app::{self, AgentError};
use cotenant_node::serve::ServeError;

use super::flags;
use crate::exit::{Failure, Kind};

pub(super) use flags::Arguments;

/// The exit codes, for `--help`.
pub(super) const CODES: &str = "Exit codes: 0 told to end · 1 failed · 2 unusable arguments or configuration · 3 no NVIDIA GPU or driver \
(unless --fail-on-init-error=false) · 5 another agent runs here";

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let options = arguments.options()?;
    let served = super::serve(|stop| app::run(options, stop))?;
    served.map(|()| ExitCode::SUCCESS).map_err(|error| failure(&error))
}

fn failure(error: &AgentError) -> Failure {
    match error {
        AgentError::Driver(_) => Failure::from_error(Kind::NoGpu, error)
            .hint("`--fail-on-init-error=false` waits for a driver instead; `COTENANT_NVML` names another library"),
        AgentError::Configuration(_) => {
            Failure::from_error(Kind::Input, error).hint("`cotenant config check FILE` says the same without a node")
        }
        AgentError::Api(_) => Failure::from_error(Kind::Input, error)
            .hint("`--kubeconfig FILE` names one, `--api=false` does without labels, Events and evictions"),
        AgentError::Serve(ServeError::Taken { .. }) => {
            Failure::from_error(Kind::Busy, error).hint("one agent serves a node")
        }
        AgentError::Serve(_) | AgentError::Memory(_) => Failure::from_error(Kind::Other, error)
            .hint("the agent takes root; `--listen`, `--socket` and `--state-directory` name other places"),
        AgentError::Watch(_) | AgentError::Task(_) => Failure::from_error(Kind::Other, error),
    }
}
