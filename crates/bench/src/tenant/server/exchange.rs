//! One request to a model server, and what came of it.

use cotenant_model::Nanoseconds;

use crate::tenant::recorder::{Recorder, Request};

/// A piece of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// When it came.
    pub(super) at: Nanoseconds,
    /// Tokens in it, 1 where the server does not say.
    pub(super) tokens: u32,
}

/// A request that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exchange {
    /// When it was meant to be sent.
    pub(super) due: Nanoseconds,
    /// When it was sent.
    pub(super) sent: Nanoseconds,
    /// What came of the answer, in order.
    pub(super) pieces: Vec<Piece>,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// When it ended.
    pub(super) end: Nanoseconds,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Well, with the server's own count of tokens where it told one.
    Complete {
        /// Tokens.
        tokens: Option<u64>,
    },
    /// In an error.
    Failed {
        /// Causes joined with `: `.
        message: String,
    },
    /// Given up at the window's close.
    Cut,
}

impl Exchange {
    /// Records it. Every piece is one event: its tokens count as units, and the gap before it once, however many tokens it
    /// holds. `open` says that it is of an open loop, whose unfinished requests leave their age.
    pub(super) fn record(&self, recorder: &mut Recorder, open: bool) {
        let mut request = Request::with_room(0);
        request.begin(self.due, Nanoseconds(self.sent.0.saturating_sub(self.due.0)));
        let complete = matches!(self.outcome, Outcome::Complete { .. });
        for (index, piece) in self.pieces.iter().enumerate() {
            recorder.token(&mut request, piece.at, complete && index + 1 == self.pieces.len());
        }
        self.count(recorder);
        match &self.outcome {
            Outcome::Complete { .. } if self.pieces.is_empty() => recorder.fail(self.end, "the answer holds no token"),
            Outcome::Complete { tokens } => recorder.complete(&mut request, *tokens),
            Outcome::Failed { message } => recorder.fail(self.end, message),
            Outcome::Cut if open => recorder.leave(self.due),
            Outcome::Cut => {}
        }
    }

    /// Counts its tokens; where the server's own count differs from the pieces', each piece is taken to hold its share.
    fn count(&self, recorder: &mut Recorder) {
        let seen: f64 = self.pieces.iter().map(|piece| f64::from(piece.tokens)).sum();
        let share = match self.outcome {
            Outcome::Complete { tokens: Some(tokens) } if seen > 0.0 => tokens as f64 / seen,
            Outcome::Complete { .. } | Outcome::Failed { .. } | Outcome::Cut => 1.0,
        };
        for piece in &self.pieces {
            recorder.arrived(piece.at, f64::from(piece.tokens) * share);
        }
    }
}
