//! What the tests of both servers, fake and real, share.

use std::collections::BTreeMap;
use std::sync::Arc;

use cotenant_llm::{Answer, Client, Error, Piece};
use cotenant_model::workload::{Api, Server};
use cotenant_model::{Clock, Nanoseconds};

pub(crate) const APIS: [Api; 3] = [Api::OllamaChat, Api::OllamaGenerate, Api::OpenaiChat];

/// Tokio's clock as ours.
struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    fn monotonic(&self) -> Nanoseconds {
        Nanoseconds(u64::try_from(self.0.elapsed().as_nanos()).expect("centuries"))
    }

    fn sleep_until(&self, instant: Nanoseconds) {
        std::thread::sleep(instant.duration().saturating_sub(self.0.elapsed()));
    }
}

pub(crate) struct Outcome {
    pub(crate) result: Result<Answer, Error>,
    pub(crate) pieces: Vec<Piece>,
}

pub(crate) fn server(api: Api, endpoint: &str) -> Server {
    Server {
        api,
        endpoint: endpoint.to_owned(),
        command: None,
        environment: BTreeMap::new(),
        ready: Nanoseconds(20_000_000_000),
        model: "fake".to_owned(),
        prompt: "Once upon a time".to_owned(),
        max_tokens: 16,
        timeout: Nanoseconds(400_000_000),
        options: BTreeMap::new(),
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

pub(crate) fn client(server: &Server) -> Client {
    Client::new(server, Arc::new(TokioClock(tokio::time::Instant::now()))).expect("a client")
}

/// Asks once, with a client of its own.
pub(crate) fn ask(server: &Server) -> Outcome {
    let mut pieces = Vec::new();
    let result = block_on(async {
        let client = Client::new(server, Arc::new(TokioClock(tokio::time::Instant::now())))?;
        client.generate(&server.prompt, |piece| pieces.push(piece.clone())).await
    });
    Outcome { result, pieces }
}
