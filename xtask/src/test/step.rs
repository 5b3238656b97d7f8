//! One command of the test run, and how it ended.

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

/// A command to run.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    command: Command,
    /// Whether it takes minutes.
    pub(super) slow: bool,
    /// Why it cannot run.
    obstacle: Option<String>,
}

/// A step that is over.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) name: &'static str,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

/// How a step ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    /// With what.
    Failed(String),
    /// Why.
    Skipped(String),
}

impl Outcome {
    pub(super) fn same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    pub(super) fn reason(&self) -> String {
        match self {
            Self::Passed => String::new(),
            Self::Failed(why) | Self::Skipped(why) => format!(": {why}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "passed",
            Self::Failed(_) => "FAILED",
            Self::Skipped(_) => "SKIPPED",
        })
    }
}

impl Step {
    pub(super) fn new(name: &'static str, command: Command) -> Self {
        Self { name, command, slow: false, obstacle: None }
    }

    pub(super) fn slow(self) -> Self {
        Self { slow: true, ..self }
    }

    /// Needs a program; `missing` names it where it is not there.
    pub(super) fn needs(self, missing: Option<&str>) -> Self {
        let obstacle = missing.map(|program| format!("`{program}` is not installed"));
        Self { obstacle: self.obstacle.or(obstacle), ..self }
    }

    /// Needs that something holds; `why` says what is wrong where it does not.
    pub(super) fn only_if(self, holds: bool, why: &str) -> Self {
        Self { obstacle: self.obstacle.or_else(|| (!holds).then(|| why.to_owned())), ..self }
    }

    pub(super) fn skip(&self, why: &str) -> Ended {
        println!("\n== {}: SKIPPED, {why}", self.name);
        Ended { name: self.name, outcome: Outcome::Skipped(why.to_owned()), took: Duration::ZERO }
    }

    /// Runs the command in sight of the terminal and waits for it.
    #[expect(clippy::disallowed_methods, reason = "a step is timed for its summary line; no run of a GPU is measured")]
    pub(super) fn run(mut self) -> Ended {
        if let Some(obstacle) = &self.obstacle {
            return self.skip(obstacle);
        }
        println!("\n== {}", self.name);
        let start = Instant::now();
        let outcome = match self.command.status() {
            Ok(status) if status.success() => Outcome::Passed,
            Ok(status) => Outcome::Failed(status.to_string()),
            Err(error) => Outcome::Failed(format!("{} did not start: {error}", self.command.get_program().display())),
        };
        Ended { name: self.name, outcome, took: start.elapsed() }
    }
}

/// A command of the test run.
#[expect(clippy::disallowed_methods, reason = "every command made here is waited for where it is started")]
pub(super) fn command(program: &str) -> Command {
    Command::new(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_ends_as_its_command_does() {
        assert_eq!(Step::new("good", command("true")).run().outcome, Outcome::Passed);
        assert_eq!(Step::new("bad", command("false")).run().outcome, Outcome::Failed("exit status: 1".to_owned()));
        let barred = Step::new("barred", command("true")).only_if(true, "not said").only_if(false, "no way");
        assert_eq!(barred.run().outcome, Outcome::Skipped("no way".to_owned()));
        let absent = Step::new("absent", command("/nonexistent/program")).run().outcome;
        assert!(matches!(absent, Outcome::Failed(why) if why.contains("/nonexistent/program did not start")));
    }
}
