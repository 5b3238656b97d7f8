//! `cargo xtask test`: every check and every test, in the order in which they fail fastest.

mod step;
pub(crate) mod system;

use std::fmt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use step::{Ended, Outcome, Step};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave out what takes minutes: the real Ollama and Kubernetes, the recompiled kernels, the pages of documentation.
    #[arg(long)]
    quick: bool,
    /// Install nothing; what a missing program would have tested is skipped.
    #[arg(long)]
    no_install: bool,
}

/// Runs every step, whatever the others do, and ends with their count.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let missing = system::prepare(!arguments.no_install, &[]);
    let ended: Vec<Ended> = steps(&missing)
        .into_iter()
        .map(|step| if arguments.quick && step.slow { step.skip("left out by --quick") } else { step.run() })
        .collect();
    let summary = Summary::of(&ended);
    print!("{}", Report { ended: &ended, missing: &missing });
    println!("{summary}");
    if summary.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The steps in order. Those that need a missing program say so instead of running.
fn steps(missing: &[system::Missing]) -> Vec<Step> {
    let lacks = |programs: &[&str]| missing.iter().map(|one| one.program).find(|program| programs.contains(program));
    vec![
        Step::new("format", cargo(&["fmt", "--all", "--check"])),
        Step::new("lints", cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        Step::new("rules of the house", chore(&["check"])),
        Step::new("schemas", chore(&["schema", "--check"])),
        Step::new("code of the wire", chore(&["wire", "--check"])),
        Step::new("kernels", chore(&["ptx", "--check"])).slow().needs(lacks(&["python3"])),
        Step::new("licences and sources", cargo(&["deny", "check", "bans", "licenses", "sources"]))
            .needs((!system::has("cargo-deny")).then_some("cargo-deny")),
        Step::new("a real Ollama", chore(&["ollama"])).slow().needs(lacks(&["go", "g++", "python3"])),
        Step::new("build", cargo(&["build", "--workspace", "--lib", "--bins", "--tests", "--examples"])),
        Step::new(
            "tests",
            cargo(&["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests", "--examples"]),
        ),
        Step::new("examples in the documentation", cargo(&["test", "--workspace", "--doc"])),
        Step::new("pages of documentation", documentation()).slow(),
        Step::new("a real Kubernetes, with simulated GPUs", chore(&["e2e", "--no-install"]))
            .slow()
            .needs(lacks(&system::cluster_programs()))
            .only_if(system::is_root(), "only root may make the namespaces of its machines"),
    ]
}

/// Cargo in the root of the repository.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = step::command(&std::env::var("CARGO").unwrap_or_else(|_unset| "cargo".to_owned()));
    command.args(arguments).current_dir(crate::repository());
    command
}

/// Another chore of this program, which is built already.
fn chore(arguments: &[&str]) -> Command {
    let program = std::env::current_exe().ok();
    let mut command = match program.as_ref().and_then(|path| path.to_str()) {
        Some(program) => step::command(program),
        None => cargo(&["xtask"]),
    };
    command.args(arguments).current_dir(crate::repository());
    command
}

fn documentation() -> Command {
    let mut command = cargo(&["doc", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    command
}

/// How many steps ended how.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Summary {
    fn of(ended: &[Ended]) -> Self {
        let count = |wanted: &Outcome| ended.iter().filter(|ended| ended.outcome.same_kind(wanted)).count();
        Self {
            passed: count(&Outcome::Passed),
            failed: count(&Outcome::Failed(String::new())),
            skipped: count(&Outcome::Skipped(String::new())),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// One line a step.
struct Report<'a> {
    ended: &'a [Ended],
    missing: &'a [system::Missing],
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n== summary")?;
        for missing in self.missing {
            writeln!(f, "SKIPPED  {}: `{}` is not installed", missing.tests, missing.program)?;
        }
        for Ended { name, outcome, took } in self.ended {
            writeln!(f, "{outcome:<8} {name}{}{}", outcome.reason(), seconds(*took))?;
        }
        let whole: Duration = self.ended.iter().map(|ended| ended.took).sum();
        writeln!(f, "{:<8} {}", "in all", seconds(whole).trim_start())
    }
}

fn seconds(took: Duration) -> String {
    match took.as_secs_f64() {
        zero if zero <= 0.0 => String::new(),
        seconds => format!(" {seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(outcome: Outcome) -> Ended {
        Ended { name: "step", outcome, took: Duration::from_millis(1500) }
    }

    #[test]
    fn the_closing_line_counts_steps() {
        let steps = [
            ended(Outcome::Passed),
            ended(Outcome::Passed),
            ended(Outcome::Failed("exit status: 1".to_owned())),
            ended(Outcome::Skipped("`go` is not installed".to_owned())),
        ];
        assert_eq!(Summary::of(&steps).to_string(), "2 passed, 1 failed, 1 skipped");
        let report = Report { ended: &steps, missing: &[] }.to_string();
        assert!(report.contains("FAILED   step: exit status: 1 1.5 s\n"), "{report}");
        assert!(report.contains("SKIPPED  step: `go` is not installed 1.5 s\n"), "{report}");
    }

    #[test]
    fn what_a_missing_program_would_test_is_skipped() {
        let missing = [system::Missing { program: "python3", tests: "the kernels" }];
        let kernels = steps(&missing).into_iter().find(|step| step.name == "kernels").expect("step");
        assert!(matches!(kernels.run().outcome, Outcome::Skipped(why) if why.contains("python3")));
    }
}
