//! What a fake model server does, as data, so that a test writes it in Rust and a process reads it as JSON.

use serde::{Deserialize, Serialize};

/// A fake model server's whole behaviour; every field has a default, times are in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Script {
    /// The only model the server knows; `NAME:latest` asks for it too. Any other is answered 404, as Ollama does.
    pub model: String,
    /// Version that `/api/version` tells.
    pub version: String,
    /// Time from the start until the model is loaded; until then everything but `/api/version` is answered 503.
    pub load_micros: u64,
    /// `size` in `/api/ps`.
    pub size: u64,
    /// `size_vram` in `/api/ps`; smaller than `size` when part of the model fell back to the CPU.
    pub size_vram: u64,
    /// Whether `/health` exists, as in llama-server and vLLM and not in Ollama.
    pub health: bool,
    /// Behaviour of each request for tokens in the order they come (readiness asks for one token over the OpenAI API).
    pub requests: Vec<Behaviour>,
    /// Behaviour of every request after those.
    pub then: Behaviour,
    /// Requests for tokens after which the program `fake-model-server` dies with status 3, as a crashed model server does.
    pub dies_after: Option<u32>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            model: "fake".to_owned(),
            version: "0.0.0-fake".to_owned(),
            load_micros: 0,
            size: 1 << 30,
            size_vram: 1 << 30,
            health: true,
            requests: Vec::new(),
            then: Behaviour::default(),
            dies_after: None,
        }
    }
}

impl Script {
    /// A script that answers every request so.
    #[must_use]
    pub fn always(then: Behaviour) -> Self {
        Self { then, ..Self::default() }
    }
}

/// How one request is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Behaviour {
    /// Time to the first piece.
    pub first_micros: u64,
    /// Time from each piece to the next.
    pub gap_micros: u64,
    /// Tokens after which the model stops by itself, when the request allows that many.
    pub stops_at: Option<u32>,
    /// Tokens in each piece.
    pub tokens_per_piece: u32,
    /// Empty pieces before the first one with text.
    pub empty_pieces: u32,
    /// Pieces, from the first, that are thinking instead of content.
    pub thinking_pieces: u32,
    /// Bytes written to the socket at a time; `None` writes each message whole.
    pub write_bytes: Option<usize>,
    /// Whether the server counts tokens itself (`eval_count`, `usage`).
    pub counts_tokens: bool,
    /// Whether events come with comments, CRLF and data over several lines; OpenAI API only.
    pub awkward_events: bool,
    /// What goes wrong.
    pub fault: Option<Fault>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            first_micros: 0,
            gap_micros: 0,
            stops_at: None,
            tokens_per_piece: 1,
            empty_pieces: 0,
            thinking_pieces: 0,
            write_bytes: None,
            counts_tokens: true,
            awkward_events: false,
            fault: None,
        }
    }
}

impl From<Fault> for Behaviour {
    fn from(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }
}

/// What goes wrong with a request; numbers are pieces that come before it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// 200 with a page of HTML.
    Html,
    /// 502 with a page of HTML, as a proxy answers whose server is away.
    BadGateway,
    /// Never any headers.
    HangsBeforeHeaders,
    /// Silence for ever.
    HangsAfter(u32),
    /// The connection is cut.
    DropsAfter(u32),
    /// The body ends properly, without the last message.
    EndsAfter(u32),
    /// `{"error": …}` in the stream, whose status is 200.
    ErrorAfter(u32),
    /// Bytes that are not JSON, control characters among them.
    GarbageAfter(u32),
    /// A line that never ends.
    EndlessLine,
    /// Tokens without end, whatever the request allows.
    NeverStops,
    /// 503, the queue is full.
    Busy,
    /// 500 with an error object.
    Internal,
    /// 404 with a plain text, as a server answers that lacks the path.
    NoSuchPath,
    /// 307 to another path.
    Redirect,
    /// 200 with an error object instead of a stream.
    ErrorInsteadOfStream,
}
