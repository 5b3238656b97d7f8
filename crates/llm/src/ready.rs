//! Waiting until a server has its model loaded, and what it then says of it.
//!
//! ```text
//!              no answer, 503, loading: again after a pause, until the deadline
//!             ┌──────┐
//!             ▼      │
//!  answers? ──┴──► load the model ──► facts ──► ready
//!     │                  │
//!     ▼                  ▼
//!  web page, other API, model missing: an error at once, since waiting cannot cure it
//! ```

use std::time::Duration;

use cotenant_model::workload::Api;
use cotenant_model::{Bytes, Nanoseconds};
use reqwest::StatusCode;
use serde::Deserialize;
use tokio::time::Instant;

use crate::api;
use crate::client::{Client, read_body, refuse};
use crate::error::{Error, Fault};

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for one small question.
const QUESTION: Nanoseconds = Nanoseconds(5_000_000_000);
/// Bytes of an answer to a small question that are read.
const BODY: usize = 1 << 20;

/// What a server says of itself; what it does not say is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Version of the server: Ollama's `/api/version`, vLLM's `/version`.
    pub version: Option<String>,
    /// Where the model lies: Ollama's `/api/ps`. llama-server and vLLM do not say.
    pub residency: Option<Residency>,
}

/// Where a loaded model lies, as Ollama estimates it; its figures can differ from the driver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Residency {
    /// Memory it takes in all.
    pub size: Bytes,
    /// How much of that is on a GPU.
    pub on_gpu: Bytes,
    /// Tokens of context it was loaded with.
    pub context: Option<u32>,
}

impl Residency {
    /// Whether part of the model fell back to the CPU.
    #[must_use]
    pub fn is_partly_on_cpu(&self) -> bool {
        self.on_gpu < self.size
    }
}

#[derive(Debug, Deserialize)]
struct Version {
    version: String,
}

#[derive(Debug, Deserialize)]
struct Running {
    models: Vec<RunningModel>,
}

#[derive(Debug, Deserialize)]
struct RunningModel {
    name: String,
    size: u64,
    #[serde(default)]
    size_vram: u64,
    context_length: Option<u32>,
}

impl Client {
    /// Waits until the server answers and its model is loaded, at most the server's `ready`.
    ///
    /// Ollama is asked to load the model (with the options of later requests, so that none of them loads it anew) and to
    /// keep it; an OpenAI server is asked for its health, where it tells, its models, and one token. The caller watches
    /// the server's process: a server that died is refused connections until the deadline.
    ///
    /// # Errors
    /// [`Fault::NotReady`] at the deadline, with what the last try met; at once what waiting cannot cure.
    pub async fn ready(&self) -> Result<Facts, Error> {
        let after = self.server.ready;
        let deadline = Instant::now() + after.duration();
        loop {
            let Err(error) = self.try_ready(deadline).await else { return self.facts().await };
            if error.fault.is_lasting() {
                return Err(error);
            }
            if Instant::now() + PAUSE >= deadline {
                return Err(Error::new(&error.endpoint, Fault::NotReady { after, last: Box::new(error.fault) }));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_ready(&self, deadline: Instant) -> Result<(), Error> {
        match self.api() {
            Api::OllamaChat | Api::OllamaGenerate => self.load(deadline).await,
            Api::OpenaiChat => self.probe(deadline).await,
        }
    }

    /// Has Ollama load the model.
    async fn load(&self, deadline: Instant) -> Result<(), Error> {
        self.question::<Version>("/api/version", deadline).await?;
        let url = self.url("/api/generate");
        let wait = async {
            let body = api::load_body(&self.server);
            let response = self.post(&url, &body, deadline, self.server.ready).await?;
            let mut response = refuse(response, &self.server, deadline).await?;
            let body = read_body(&mut response, BODY, deadline).await;
            match api::error_message(&body) {
                Some(message) => Err(Fault::Reported { message, pieces: 0 }),
                None => Ok(()),
            }
        };
        wait.await.map_err(|fault| Error::new(url.as_str(), fault))
    }

    /// Has an OpenAI server generate one token.
    async fn probe(&self, deadline: Instant) -> Result<(), Error> {
        let health = self.url("/health");
        let fault = match self.fetch(&health, deadline.min(soon()), QUESTION).await {
            Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
                refuse(response, &self.server, deadline).await.err()
            }
            Ok(_any) => None,
            Err(fault) => Some(fault),
        };
        if let Some(fault) = fault {
            return Err(Error::new(health.as_str(), fault));
        }
        self.generate_at_most(&self.server.prompt, 1, |_piece| ()).await.map(|_answer| ())
    }

    /// What the server says of itself now.
    ///
    /// # Errors
    /// When an Ollama server cannot be reached or says nothing readable; other servers need not say anything.
    pub async fn facts(&self) -> Result<Facts, Error> {
        let deadline = soon();
        if self.api() == Api::OpenaiChat {
            let version = match self.question::<Version>("/version", deadline).await {
                Ok(version) => Some(version),
                Err(_absent) => self.question::<Version>("/api/version", deadline).await.ok(),
            };
            let running = self.question::<Running>("/api/ps", deadline).await.ok();
            return Ok(self.facts_of(version, running));
        }
        let version = self.question("/api/version", deadline).await?;
        let running = self.question("/api/ps", deadline).await?;
        Ok(self.facts_of(Some(version), Some(running)))
    }

    fn facts_of(&self, version: Option<Version>, running: Option<Running>) -> Facts {
        let plain = |name: &str| name.strip_suffix(":latest").unwrap_or(name).to_owned();
        let mut models = running.map(|running| running.models).unwrap_or_default().into_iter();
        let residency = models.find(|model| plain(&model.name) == plain(&self.server.model)).map(|model| Residency {
            size: Bytes(model.size),
            on_gpu: Bytes(model.size_vram),
            context: model.context_length,
        });
        Facts { version: version.map(|version| crate::excerpt::excerpt(&version.version)), residency }
    }

    /// Asks a small question whose answer is one JSON document.
    async fn question<T: for<'a> Deserialize<'a>>(&self, path: &str, deadline: Instant) -> Result<T, Error> {
        let url = self.url(path);
        let deadline = deadline.min(soon());
        let ask = async {
            let mut response = self.fetch(&url, deadline, QUESTION).await?;
            if !response.status().is_success() {
                refuse(response, &self.server, deadline).await?;
                return Err(Fault::NoAnswer { after: QUESTION });
            }
            let body = read_body(&mut response, BODY, deadline).await;
            let words = crate::excerpt::excerpt_bytes(&body);
            if words.starts_with('<') {
                return Err(Fault::Html { status: response.status().as_u16(), words });
            }
            serde_json::from_slice(&body).map_err(|source| Fault::Garbage { words, pieces: 0, source })
        };
        ask.await.map_err(|fault| Error::new(url.as_str(), fault))
    }
}

/// When a small question is given up.
fn soon() -> Instant {
    Instant::now() + QUESTION.duration()
}
