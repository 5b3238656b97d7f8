//! What can go wrong between a client and a model server.

use cotenant_model::Nanoseconds;
use cotenant_model::workload::Api;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[error("{endpoint}: {fault}")]
pub struct Error {
    /// Address that was asked.
    pub endpoint: String,
    /// What went wrong. Its causes are this error's causes; its own text is part of this error's text.
    pub fault: Fault,
    /// What the user can do, where that is clear.
    pub hint: Option<String>,
}

impl Error {
    pub(crate) fn new(endpoint: &str, fault: Fault) -> Self {
        let hint = fault.hint();
        Self { endpoint: endpoint.to_owned(), fault, hint }
    }

    /// The error and its causes on one line, for counts of equal messages.
    #[must_use]
    pub fn one_line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(&self.fault);
        while let Some(error) = cause {
            line = format!("{line}: {}", crate::excerpt::excerpt(&error.to_string()));
            cause = error.source();
        }
        line
    }
}

/// What went wrong. Texts of a server are cut short and made printable.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The endpoint is no `http` or `https` address.
    #[error("not an address a model server can have: {reason}")]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// No HTTP client could be made.
    #[error("cannot set up an HTTP client")]
    Setup(#[source] reqwest::Error),
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// The host has no address.
    #[error("the host name has no address")]
    Unresolved(#[source] reqwest::Error),
    /// No connection for another reason (network unreachable, TLS).
    #[error("cannot connect")]
    Unreachable(#[source] reqwest::Error),
    /// The request or its answer broke before the first message.
    #[error("the connection failed before an answer came")]
    Exchange(#[source] reqwest::Error),
    /// Nothing came.
    #[error("no answer within {after}")]
    NoAnswer {
        /// How long the client waited.
        after: Nanoseconds,
    },
    /// The stream fell silent.
    #[error("silent for {after} after {pieces} pieces")]
    Silence {
        /// How long the client waited.
        after: Nanoseconds,
        /// Pieces that had come.
        pieces: u32,
    },
    /// The stream ended before its last message.
    #[error("the stream ended after {pieces} pieces, before its last message")]
    Dropped {
        /// Pieces that had come.
        pieces: u32,
        /// Why; `None` when the server ended it in good order.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// A page for people instead of an API.
    #[error("answered {status} with a web page: \"{words}\"")]
    Html {
        /// HTTP status.
        status: u16,
        /// The page's first words.
        words: String,
    },
    /// The server lacks the model.
    #[error("the server has no model `{model}`: {message}")]
    ModelMissing {
        /// The model asked for.
        model: String,
        /// The server's words.
        message: String,
        /// The API it was asked over.
        api: Api,
    },
    /// The server takes no more requests, or is still loading.
    #[error("busy ({status}): {message}")]
    Busy {
        /// HTTP status, 429 or 503.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// Any other HTTP status.
    #[error("answered {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// The server's words; empty where it gave none.
        message: String,
    },
    /// The answer points elsewhere; clients do not follow, since that would measure another server.
    #[error("answered {status}, redirecting to \"{location}\"")]
    Redirect {
        /// HTTP status.
        status: u16,
        /// Where to.
        location: String,
    },
    /// The server speaks, but not this API.
    #[error("does not serve {} as asked: {found}", path(*.asked))]
    WrongApi {
        /// The API it was asked over.
        asked: Api,
        /// What it answered.
        found: String,
    },
    /// The server reported an error although its status was 200.
    #[error("reported an error after {pieces} pieces: {message}")]
    Reported {
        /// The server's words.
        message: String,
        /// Pieces that had come.
        pieces: u32,
    },
    /// A message that is not what the API says.
    #[error("message after {pieces} pieces is not this API's: \"{words}\"")]
    Garbage {
        /// The message's first words.
        words: String,
        /// Pieces that had come.
        pieces: u32,
        /// Why it cannot be read.
        #[source]
        source: serde_json::Error,
    },
    /// A line or event longer than any message.
    #[error("a message longer than {limit} bytes")]
    EndlessLine {
        /// The bound.
        limit: usize,
    },
    /// More text than was asked for.
    #[error("the answer outgrew the {allowed} tokens it was asked for: {pieces} pieces, {bytes} bytes")]
    TooLong {
        /// Tokens the request allowed.
        allowed: u32,
        /// Pieces that had come.
        pieces: u32,
        /// Bytes that had come.
        bytes: u64,
    },
    /// The server did not become ready in time.
    #[error("not ready within {after}")]
    NotReady {
        /// The bound.
        after: Nanoseconds,
        /// What the last try met.
        #[source]
        last: Box<Self>,
    },
}

/// The path an API is asked at.
pub(crate) const fn path(api: Api) -> &'static str {
    match api {
        Api::OllamaChat => "/api/chat",
        Api::OllamaGenerate => "/api/generate",
        Api::OpenaiChat => "/v1/chat/completions",
    }
}

impl Fault {
    /// Whether waiting cannot cure it, so that waiting for readiness ends at once.
    pub(crate) const fn is_lasting(&self) -> bool {
        if let Self::Html { status, .. } | Self::Status { status, .. } = self {
            return *status < 500;
        }
        matches!(
            self,
            Self::Address { .. }
                | Self::Setup(_)
                | Self::ModelMissing { .. }
                | Self::Redirect { .. }
                | Self::WrongApi { .. }
                | Self::TooLong { .. }
                | Self::EndlessLine { .. }
                | Self::Garbage { .. }
        )
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::ModelMissing { model, api: Api::OllamaChat | Api::OllamaGenerate, .. } => {
                return Some(format!("pull it with `ollama pull {model}`, or create it with `ollama create`"));
            }
            // A server that is busy while it loads has no full queue.
            Self::NotReady { last, .. } if matches!(**last, Self::Busy { .. }) => return None,
            Self::NotReady { last, .. } => return last.hint(),
            Self::ModelMissing { .. } => "name the model as the server's `/v1/models` lists it",
            Self::WrongApi { asked: Api::OpenaiChat, .. } => "is this an Ollama server? then write `engine: ollama`",
            Self::WrongApi { .. } => "is this llama-server or vLLM? then write `engine: openai`",
            Self::Refused => "start the server, or correct the endpoint's port",
            Self::Html { .. } | Self::Redirect { .. } => {
                "give the address of the model server itself, not of a web page or proxy"
            }
            Self::Busy { .. } => "the server's queue is full: lower the load, or raise its limit",
            Self::Address { .. }
            | Self::Setup(_)
            | Self::Unresolved(_)
            | Self::Unreachable(_)
            | Self::Exchange(_)
            | Self::NoAnswer { .. }
            | Self::Silence { .. }
            | Self::Dropped { .. }
            | Self::Status { .. }
            | Self::Reported { .. }
            | Self::Garbage { .. }
            | Self::EndlessLine { .. }
            | Self::TooLong { .. } => return None,
        };
        Some(text.to_owned())
    }
}
