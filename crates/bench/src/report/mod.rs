//! Reports: what a run says, as a terminal table, a page, an animation, Markdown and JSON.
//!
//! Everything here is a pure function of a record and its [`Summary`]; the caller reads and writes files. No figure is
//! computed here that a statistic stands behind: those are the summary's. Curves and timelines come straight from the
//! record's histograms and recorded times. Text that comes from a file is cleaned (module `text`) before it reaches a terminal,
//! a page or Markdown.
//!
//! ```text
//! Run ─▶ Summary ─▶ Report ─┬─▶ table      terminal
//!                           ├─▶ html       report.html, one file, no request to anywhere
//!                           ├─▶ timeline   timeline.gif, from recorded times only
//!                           ├─▶ json       for programs
//!                           ├─▶ diff       two runs
//!                           └─▶ markdown   many runs
//! ```

mod animation;
mod chart;
mod diff;
mod figure;
mod finding;
mod html;
mod interval;
mod machine;
mod markdown;
mod palette;
mod progress;
mod stretch;
mod table;
mod text;
mod view;

use cotenant_model::run::Run;

use crate::summary::Summary;

pub use animation::AnimationError;
pub use diff::{diff, diff_json};
pub use markdown::markdown;
pub use table::TableStyle;

/// A run with its figures, and whether they are shown as a record instead of as what was just measured here.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    run: &'a Run,
    summary: &'a Summary,
    recorded: bool,
}

impl<'a> Report<'a> {
    /// The report of a run measured here; `summary` must be the summary of `run`.
    #[must_use]
    pub const fn new(run: &'a Run, summary: &'a Summary) -> Self {
        Self { run, summary, recorded: false }
    }

    /// The same report of a run that was measured elsewhere: every line and picture says `recorded`.
    #[must_use]
    pub const fn recorded(self) -> Self {
        Self { recorded: true, ..self }
    }

    /// Words that every line and picture of the report carries: `recorded`, and `simulated` where the GPU is.
    fn marks(&self) -> Vec<&'static str> {
        let simulated = self.run.host.gpu.name.to_lowercase().contains("simulated");
        [(self.recorded, "recorded"), (simulated, "simulated")]
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, word)| *word)
            .collect()
    }

    /// The terminal table: header, one line an arm, what it says in words, each tenant's details.
    ///
    /// Columns that do not fit [`TableStyle::width`] are left out, the least important first, and named.
    #[must_use]
    pub fn table(&self, style: TableStyle) -> String {
        table::table(self, style)
    }

    /// The page `report.html`: one file that asks no server for anything; `raw` is the link to the record.
    #[must_use]
    pub fn html(&self, raw: &str) -> String {
        html::page(self, raw)
    }

    /// The animation `timeline.gif`; `None` when no arm with a recorded time of a token is there.
    ///
    /// # Errors
    /// When the encoder refuses a frame.
    pub fn timeline(&self) -> Result<Option<Vec<u8>>, AnimationError> {
        animation::timeline(self)
    }

    /// The figures for programs (`--output json`): one object, its layout versioned by its field `schema`.
    ///
    /// # Errors
    /// Never for figures that are finite; the encoder's error otherwise.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        machine::json(self)
    }
}
