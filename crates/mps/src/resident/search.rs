//! Daemons that run in fixed folders, found by what they were started with.

use std::path::PathBuf;

use super::{Difference, RECORD, Record, ResidentSettings};
use crate::dialogue::Dialect;
use crate::foreign;
use crate::place::Place;
use crate::process::{Identity, environment_variable};

/// A control daemon that runs in the folders of a GPU.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its process.
    pub process: Identity,
    /// The program as it was called.
    pub program: PathBuf,
    /// Its `CUDA_VISIBLE_DEVICES`.
    pub gpu: Option<String>,
    pub(super) record: Option<Record>,
}

/// Finds the control daemon of the folders of a GPU: by its environment, which nobody can change after its start, so that a
/// keeper that was killed at any moment leaves one that can be found. `None` when none runs, or when it is in a PID namespace
/// or of a user that this process cannot look into.
#[must_use]
pub fn find_daemon(place: &Place) -> Option<Found> {
    let process = foreign::control_daemons_of(&place.pipe()).into_iter().next()?;
    let record = environment_variable(process.pid, RECORD).and_then(|record| serde_json::from_str(&record).ok());
    let program = foreign::control_daemon(process.pid)?;
    let gpu = environment_variable(process.pid, "CUDA_VISIBLE_DEVICES");
    Some(Found { process, program, gpu, record })
}

impl Found {
    /// The text that it was started with, where it is one of cotenant's.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.record.as_ref().map(|record| record.note.as_str())
    }

    /// What of it is not as wanted.
    pub(super) fn differences_from(&self, wanted: &ResidentSettings) -> Vec<Difference> {
        let Some(record) = &self.record else { return vec![Difference::Unrecorded] };
        let dialect = if record.three { Dialect::Three } else { Dialect::Two };
        let mut differences = Vec::new();
        if self.gpu.as_deref() != Some(wanted.place.gpu().0.as_str()) {
            differences.push(Difference::Gpu { found: self.gpu.clone() });
        }
        if record.program != wanted.program {
            differences.push(Difference::Program { found: record.program.clone() });
        }
        if record.multi_user != wanted.multi_user {
            differences.push(Difference::MultiUser { found: record.multi_user });
        }
        if !wanted.protocol.allows(dialect) {
            differences.push(Difference::Protocol { found: dialect });
        }
        differences
    }
}
