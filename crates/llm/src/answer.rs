//! What came of a request.

use cotenant_model::Nanoseconds;

/// Text that came in one message of a stream; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The text: content or thinking.
    pub text: String,
    /// Whether it is thinking (`thinking`, `reasoning_content`) instead of content.
    pub thinking: bool,
    /// Tokens in it, where the server says: it counts up in each message. `None` is not 1; a piece may hold several.
    pub tokens: Option<u32>,
    /// When its last byte reached this process, on the client's clock. Pieces that came in one read share it.
    pub at: Nanoseconds,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// When the request was handed to the network.
    pub start: Nanoseconds,
    /// When the first piece came; `None` when the model generated no text.
    pub first: Option<Nanoseconds>,
    /// When the last piece came; `None` when the model generated no text.
    pub last: Option<Nanoseconds>,
    /// When the server's last message came, after the last piece.
    pub end: Nanoseconds,
    /// Pieces with text.
    pub pieces: u32,
    /// Tokens generated.
    pub tokens: TokenCount,
    /// Why the model stopped.
    pub finish: Finish,
    /// The server's own figures.
    pub figures: Figures,
}

/// How many tokens an answer has, and who counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenCount {
    /// The server's count: Ollama's `eval_count`, OpenAI's `usage.completion_tokens`, llama-server's
    /// `timings.predicted_n`.
    Server(u32),
    /// The pieces, because the server did not count; too low where pieces hold several tokens.
    Pieces(u32),
}

impl TokenCount {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Server(number) | Self::Pieces(number) => number,
        }
    }
}

/// Why a model stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Finish {
    /// It came to its end mark.
    Stop,
    /// It came to the request's limit.
    Length,
    /// Something else, as the server names it, made printable.
    Other(String),
    /// The server did not say.
    #[default]
    Unknown,
}

impl Finish {
    pub(crate) fn from_server(text: &str) -> Self {
        match text {
            "stop" => Self::Stop,
            "length" => Self::Length,
            other => Self::Other(crate::excerpt::excerpt(other)),
        }
    }
}

/// What the server itself measured; what it does not say is `None`, never zero.
///
/// Ollama's `prompt_eval_count` includes cached tokens while the duration covers the new ones only, so their quotient is
/// no prefill rate; `load` includes the wait for its scheduler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Whole request.
    pub total: Option<Nanoseconds>,
    /// Loading and scheduling.
    pub load: Option<Nanoseconds>,
    /// Evaluating the prompt.
    pub prompt: Option<Nanoseconds>,
    /// Generating.
    pub generation: Option<Nanoseconds>,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u32>,
    /// Tokens generated.
    pub generated_tokens: Option<u32>,
}

impl Figures {
    /// Takes over whatever a later message of the stream says.
    pub(crate) fn update(&mut self, later: &Self) {
        self.total = later.total.or(self.total);
        self.load = later.load.or(self.load);
        self.prompt = later.prompt.or(self.prompt);
        self.generation = later.generation.or(self.generation);
        self.prompt_tokens = later.prompt_tokens.or(self.prompt_tokens);
        self.generated_tokens = later.generated_tokens.or(self.generated_tokens);
    }
}

impl Answer {
    /// Time to first token: first piece − start.
    #[must_use]
    pub fn ttft(&self) -> Option<Nanoseconds> {
        self.first.map(|first| Nanoseconds(first.0.saturating_sub(self.start.0)))
    }

    /// End to end: last piece − start.
    #[must_use]
    pub fn e2e(&self) -> Option<Nanoseconds> {
        self.last.map(|last| Nanoseconds(last.0.saturating_sub(self.start.0)))
    }

    /// Time per output token: (E2E − TTFT) / (tokens − 1); `None` below two tokens.
    ///
    /// Where the first piece holds several tokens the quotient is a little low; nothing on the wire tells how much.
    #[must_use]
    pub fn tpot(&self) -> Option<Nanoseconds> {
        let gaps = u64::from(self.tokens.number().checked_sub(1)?);
        let span = self.last?.0.saturating_sub(self.first?.0);
        span.checked_div(gaps).map(Nanoseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tokens: u32) -> Answer {
        Answer {
            start: Nanoseconds(100),
            first: Some(Nanoseconds(150)),
            last: Some(Nanoseconds(450)),
            end: Nanoseconds(500),
            pieces: 2,
            tokens: TokenCount::Server(tokens),
            finish: Finish::Length,
            figures: Figures::default(),
        }
    }

    #[test]
    fn figures_follow_their_formulas() {
        let answer = answer(4);
        assert_eq!(answer.ttft(), Some(Nanoseconds(50)));
        assert_eq!(answer.e2e(), Some(Nanoseconds(350)));
        assert_eq!(answer.tpot(), Some(Nanoseconds(100)), "(350 - 50) / 3: the server's tokens, not the two pieces");
    }

    #[test]
    fn one_token_has_no_time_per_output_token() {
        assert_eq!(answer(1).tpot(), None);
        assert_eq!(answer(0).tpot(), None);
    }
}
