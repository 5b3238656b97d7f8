//! What a failure looks like: `error:`, its causes, a `hint:`, and a documented exit code.

use std::error::Error;
use std::process::ExitCode;

use cotenant_model::cause::chain;

use crate::terminal;

/// Kinds of failure; each has its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something in this program or the machine that no other kind covers.
    Other,
    /// A command line, file or record that cannot be used as it is.
    Input,
    /// No NVIDIA GPU can be used.
    NoGpu,
    /// A tenant failed in the measurement; the results are written all the same.
    Tenant,
    /// Another run of this program has the GPU.
    Busy,
    /// Results could not be written where they were wanted.
    Output,
    /// Interrupted by Ctrl-C or SIGTERM; what was measured is written.
    Interrupted,
}

/// The exit codes, for `--help`.
pub(crate) const CODES: &str = "Exit codes: 0 done · 1 failed · 2 unusable arguments or file · 3 no NVIDIA GPU · \
4 a tenant failed (results are written) · 5 another comparison holds the GPU · 6 results could not be written · 130 interrupted";

/// A failure on its way to the user.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    hints: Vec<String>,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Input => 2,
            Self::NoGpu => 3,
            Self::Tenant => 4,
            Self::Busy => 5,
            Self::Output => 6,
            Self::Interrupted => 130,
        }
    }
}

impl From<Kind> for ExitCode {
    fn from(kind: Kind) -> Self {
        Self::from(kind.code())
    }
}

impl Failure {
    /// A failure with its own words.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new() }
    }

    /// A failure from an error and its causes.
    pub(crate) fn from_error(kind: Kind, error: &dyn Error) -> Self {
        Self::new(kind, chain(error, "\n  because: "))
    }

    /// The same with something to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Tells the user and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        terminal::complain(&format!("error: {}", self.message));
        for hint in &self.hints {
            terminal::complain(&format!("hint: {hint}"));
        }
        self.kind.into()
    }
}
