//! Clients of model servers: Ollama's API, and OpenAI's as llama-server and vLLM serve it.
//!
//! This room owns the wire: requests, streams of pieces, the moment each piece came, and the fault of whatever did not
//! come. It refuses to follow redirects, to send loopback traffic through a proxy, to hold more than 1 MiB of a line, to
//! read on when an answer outgrows what was asked, and to let a server's control characters into messages. When requests
//! start, how many run at once and what the figures mean is the caller's business; so is the server's process.
//!
//! An answer's life:
//!
//! ```text
//!            sent            headers           first text         last message
//!  waiting ────────► asked ──────────► empty ─────────────► growing ──────────► Answer
//!                      │                 │                     │
//!                      ▼                 ▼                     ▼
//!    Refused, NoAnswer, Status, …   Silence, Dropped, Reported, Garbage, TooLong
//! ```
//!
//! Figures, all from the stream as it reached this process: TTFT = first piece with text − start; E2E = last piece with
//! text − start; TPOT = (E2E − TTFT) / (tokens − 1). Thinking counts as text: a user waits for it and the GPU computes it.

mod answer;
mod api;
mod client;
mod error;
mod excerpt;
mod ready;
mod stream;

pub use self::answer::{Answer, Figures, Finish, Piece, TokenCount};
pub use self::client::Client;
pub use self::error::{Error, Fault};
pub use self::ready::{Facts, Residency};
