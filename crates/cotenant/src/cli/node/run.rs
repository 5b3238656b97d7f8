//! `cotenant node`.

use std::process::ExitCode;

use cotenant_node::agent::app::{self, AgentError, MemoryError};
use cotenant_node::serve::ServeError;

use super::flags;
use crate::exit::{Failure, Kind};

pub(super) use flags::Arguments;

/// The exit codes, for `--help`.
pub(super) const CODES: &str = "Exit codes: 0 told to end · 1 failed · 2 unusable arguments or configuration · 3 no NVIDIA GPU or driver \
(unless --fail-on-init-error=false) · 5 another agent runs here";

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let options = arguments.options()?;
    let ended = super::serve(|stop| app::run(options, stop))?;
    ended.map(|()| ExitCode::SUCCESS).map_err(|error| failure(&error))
}

fn failure(error: &AgentError) -> Failure {
    match error {
        AgentError::Driver(source) => Failure::from_error(Kind::NoGpu, error)
            .hint(source.fix())
            .hint("--fail-on-init-error=false waits for a driver instead"),
        AgentError::Api(_) => Failure::from_error(Kind::Input, error).hint(
            "in a pod give it a service account, elsewhere --kubeconfig; --api=false does without labels and Events",
        ),
        AgentError::Configuration(_) => Failure::from_error(Kind::Input, error)
            .hint("`cotenant config explain FILE` says what each GPU of this node would offer"),
        AgentError::Serve(ServeError::Taken { .. }) | AgentError::Memory(MemoryError::Taken { .. }) => {
            Failure::from_error(Kind::Busy, error)
                .hint("one agent serves a node; another needs its own --socket, --state-directory and --kubelet-socket")
        }
        AgentError::Serve(ServeError::Listen { .. }) => {
            Failure::from_error(Kind::Other, error).hint("--listen takes another address, or none")
        }
        AgentError::Serve(_) => Failure::from_error(Kind::Other, error).hint("--socket takes another place"),
        AgentError::Memory(_) => Failure::from_error(Kind::Other, error)
            .hint("the agent takes root, or another folder with --state-directory"),
        AgentError::Watch(_) | AgentError::Spawn(_) | AgentError::Task(_) => Failure::from_error(Kind::Other, error),
    }
}
