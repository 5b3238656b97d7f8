//! `cotenant manual`: the page of `docs/cli.md`, made from the command line itself so that the two cannot differ.

use std::process::ExitCode;

use clap::{Command, CommandFactory as _};

use crate::exit::{Failure, Kind};
use crate::terminal;

/// Columns of the page, whatever the terminal has, so that everyone generates the same.
const COLUMNS: usize = 100;

/// What the page begins with.
const HEAD: &str =
    "# Command line\n\nGenerated from the program by `cargo xtask schema`: what `--help` says of each command.\n";

pub(crate) fn run() -> Result<ExitCode, Failure> {
    terminal::show(&page()).map_err(|error| Failure::from_error(Kind::Output, &error))?;
    Ok(ExitCode::SUCCESS)
}

/// The page in Markdown: one section a command, hidden ones left out.
fn page() -> String {
    let mut root = super::Cli::command().term_width(COLUMNS);
    root.build();
    let mut page = HEAD.to_owned();
    sections(&mut root, &mut page);
    page
}

/// A command's section and those of the commands below it.
fn sections(command: &mut Command, page: &mut String) {
    page.push_str(&section(command));
    let visible = |command: &&mut Command| !command.is_hide_set() && command.get_name() != "help";
    for command in command.get_subcommands_mut().filter(visible) {
        sections(command, page);
    }
}

/// A command's long help under its name; no line ends in blanks.
fn section(command: &mut Command) -> String {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    format!("\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_visible_command_has_a_section_and_hidden_ones_have_none() {
        let page = page();
        let sections = page.lines().filter_map(|line| line.strip_prefix("## "));
        let sections: Vec<&str> = sections.filter(|section| !section.starts_with("cotenant node ")).collect();
        assert_eq!(
            sections,
            [
                "cotenant",
                "cotenant compare",
                "cotenant report",
                "cotenant diff",
                "cotenant results",
                "cotenant config",
                "cotenant config check",
                "cotenant config explain",
                "cotenant config inventory",
                "cotenant node",
                "cotenant completions"
            ]
        );
        assert!(page.contains("--telemetry-interval") && !page.contains("exec-with-parent"), "{page}");
        assert!(page.lines().all(|line| line.trim_end() == line), "{page}");
    }
}
