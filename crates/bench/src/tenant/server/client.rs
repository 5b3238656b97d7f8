//! The model server's client, as the load generator uses it.

use std::sync::Arc;

use cotenant_llm::{Error, Facts, TokenCount};
use cotenant_model::workload::Server;

use super::dispatch::Ask;
use super::exchange::Piece;
use crate::clock::MonotonicClock;

/// A client that stamps with the host's monotonic clock.
#[derive(Debug, Clone)]
pub(super) struct Client(cotenant_llm::Client);

impl Client {
    pub(super) fn new(server: &Server) -> Result<Self, Error> {
        cotenant_llm::Client::new(server, Arc::new(MonotonicClock)).map(Self)
    }

    pub(super) async fn ready(&self) -> Result<Facts, Error> {
        self.0.ready().await
    }
}

impl Ask for Client {
    async fn ask(self, mut told: impl FnMut(Piece) + Send) -> Result<Option<u64>, String> {
        let prompt = &self.0.server().prompt;
        let piece = |piece: &cotenant_llm::Piece| told(Piece { at: piece.at, tokens: piece.tokens.unwrap_or(1) });
        let answer = self.0.generate(prompt, piece).await.map_err(|error| error.one_line())?;
        Ok(match answer.tokens {
            TokenCount::Server(tokens) => Some(u64::from(tokens)),
            TokenCount::Pieces(_) => None,
        })
    }
}
