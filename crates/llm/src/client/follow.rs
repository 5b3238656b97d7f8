//! A stream followed from its first byte to its last message.

use cotenant_model::Nanoseconds;
use reqwest::Response;
use tokio::time::Instant;

use super::Client;
use crate::answer::{Answer, Figures, Finish, Piece, TokenCount};
use crate::api::{self, Message};
use crate::error::Fault;
use crate::excerpt::excerpt_bytes;
use crate::stream::{Frames, LIMIT};

/// Wire bytes that any answer may have, and those more for each token allowed. An OpenAI chunk of one token takes 200 to
/// 400 bytes; Ollama's last line repeats prompt and answer as numbers.
const BYTES_OF_ANY_ANSWER: u64 = 1 << 20;
const BYTES_OF_A_TOKEN: u64 = 4 << 10;

/// Pieces that any answer may have, beyond two for each token allowed: a token may be split between thinking and content.
const PIECES_OF_ANY_ANSWER: u32 = 64;

/// What one request has brought so far.
pub(super) struct Follower<'a, F> {
    client: &'a Client,
    on_piece: F,
    frames: Frames,
    allowed: u32,
    deadline: Instant,
    start: Nanoseconds,
    first: Option<Nanoseconds>,
    last: Option<Nanoseconds>,
    pieces: u32,
    bytes: u64,
    tokens_so_far: u32,
    finish: Option<Finish>,
    figures: Figures,
}

impl<'a, F: FnMut(&Piece) + Send> Follower<'a, F> {
    pub(super) fn new(client: &'a Client, allowed: u32, start: Nanoseconds, deadline: Instant, on_piece: F) -> Self {
        Self {
            client,
            on_piece,
            frames: api::frames(client.api()),
            allowed,
            deadline,
            start,
            first: None,
            last: None,
            pieces: 0,
            bytes: 0,
            tokens_so_far: 0,
            finish: None,
            figures: Figures::default(),
        }
    }

    pub(super) async fn follow(mut self, mut response: Response) -> Result<Answer, Fault> {
        loop {
            let after = self.client.server.timeout;
            let read = tokio::time::timeout_at(self.deadline, response.chunk()).await;
            let pieces = self.pieces;
            let bytes = match read.map_err(|_elapsed| Fault::Silence { after, pieces })? {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return self.close(),
                Err(source) => return Err(Fault::Dropped { pieces, source: Some(source.without_url()) }),
            };
            let at = self.client.now();
            self.bytes += bytes.len() as u64;
            self.frames.push(&bytes);
            while let Some(message) = self.frames.next().map_err(|_overlong| Fault::EndlessLine { limit: LIMIT })? {
                if self.take(&message, at)? {
                    return Ok(self.answer(at));
                }
            }
            self.check_size()?;
        }
    }

    /// The server ended the body: well, if the stream's last message is among what is left or a finish was named.
    fn close(mut self) -> Result<Answer, Fault> {
        let at = self.client.now();
        let done = match self.frames.finish() {
            Some(message) => self.take(&message, at)?,
            None => false,
        };
        if done || self.finish.is_some() {
            return Ok(self.answer(at));
        }
        Err(Fault::Dropped { pieces: self.pieces, source: None })
    }

    /// Takes one message; `true` when it is the last.
    fn take(&mut self, bytes: &[u8], at: Nanoseconds) -> Result<bool, Fault> {
        if bytes.trim_ascii().is_empty() {
            return Ok(false);
        }
        let message = api::read(self.client.api(), bytes).map_err(|source| self.unreadable(bytes, source))?;
        if let Some(message) = message.error {
            return Err(Fault::Reported { message, pieces: self.pieces });
        }
        self.figures.update(&message.figures);
        let done = message.done;
        self.finish = self.finish.take().or_else(|| message.finish.clone());
        self.hand_on(message, at);
        self.check_size()?;
        Ok(done)
    }

    /// Hands a message's text on, if it has any.
    fn hand_on(&mut self, message: Message, at: Nanoseconds) {
        let mut tokens = message.tokens_so_far.map(|total| total.saturating_sub(self.tokens_so_far));
        let texts = [(message.thinking, true), (message.content, false)];
        for (text, thinking) in texts.into_iter().filter(|(text, _)| !text.is_empty()) {
            // A message with both kinds counts its tokens once.
            (self.on_piece)(&Piece { text, thinking, tokens: tokens.replace(0), at });
            self.pieces += 1;
            self.first = self.first.or(Some(at));
            self.last = Some(at);
            self.deadline = Instant::now() + self.client.server.timeout.duration();
        }
        self.tokens_so_far = message.tokens_so_far.unwrap_or(self.tokens_so_far);
    }

    fn check_size(&self) -> Result<(), Fault> {
        let most_pieces = self.allowed.saturating_mul(2).saturating_add(PIECES_OF_ANY_ANSWER);
        let most_bytes = BYTES_OF_ANY_ANSWER + BYTES_OF_A_TOKEN * u64::from(self.allowed);
        if self.pieces <= most_pieces && self.bytes <= most_bytes {
            return Ok(());
        }
        Err(Fault::TooLong { allowed: self.allowed, pieces: self.pieces, bytes: self.bytes })
    }

    fn unreadable(&self, bytes: &[u8], source: serde_json::Error) -> Fault {
        let words = excerpt_bytes(bytes);
        if words.starts_with('<') {
            return Fault::Html { status: 200, words };
        }
        Fault::Garbage { words, pieces: self.pieces, source }
    }

    fn answer(self, end: Nanoseconds) -> Answer {
        let tokens = self.figures.generated_tokens.map_or(TokenCount::Pieces(self.pieces), TokenCount::Server);
        Answer {
            start: self.start,
            first: self.first,
            last: self.last,
            end,
            pieces: self.pieces,
            tokens,
            finish: self.finish.unwrap_or_default(),
            figures: self.figures,
        }
    }
}
