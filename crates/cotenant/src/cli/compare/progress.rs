//! Progress of a comparison on standard error.

use std::io::IsTerminal as _;

use cotenant_bench::compare::Observer;
use cotenant_model::run::Pass;
use cotenant_model::{Arm, Nanoseconds};
use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal;

/// A bar on a terminal, a line a pass elsewhere.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {pos}/{len} {bar:24} {wide_msg}");
            let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_template| ProgressStyle::default_bar()));
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
            bar
        });
        Self { bar }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => terminal::complain(line),
        }
    }
}

impl Observer for Progress {
    fn pass(&mut self, arm: &Arm, number: usize, total: usize, left: Nanoseconds) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(u64::try_from(total).unwrap_or(0));
                bar.set_position(u64::try_from(number.saturating_sub(1)).unwrap_or(0));
                bar.set_message(format!("{arm}, at least {left} left"));
            }
            None => terminal::complain(&format!("pass {number} of {total}: {arm}, at least {left} left")),
        }
    }

    fn passed(&mut self, arm: &Arm, pass: &Pass) {
        for window in &pass.windows {
            if let Some(failure) = &window.failure {
                self.say(&format!("{arm}: tenant `{}` failed: {failure}", window.tenant));
            }
        }
    }

    fn probe(&mut self, description: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(description.to_owned()),
            None => terminal::complain(description),
        }
    }
}
