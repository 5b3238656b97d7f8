//! The APIs: what is asked, and what a message of the stream means.

mod ollama;
mod openai;

use cotenant_model::workload::{Api, Server};
use serde::Deserialize;
use serde_json::Value;

use crate::answer::{Figures, Finish};
use crate::stream::{Events, Frames, Lines};

pub(crate) use self::ollama::load_body;

/// What one message says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// Content and thinking, whichever is not empty.
    pub(crate) content: String,
    pub(crate) thinking: String,
    /// Tokens generated up to here, where the server counts along.
    pub(crate) tokens_so_far: Option<u32>,
    pub(crate) finish: Option<Finish>,
    pub(crate) figures: Figures,
    /// Nothing follows.
    pub(crate) done: bool,
    /// The server reports an error, in its own words.
    pub(crate) error: Option<String>,
}

impl Message {
    fn error(value: &Value) -> Self {
        Self { error: Some(error_text(value)), ..Self::default() }
    }
}

/// The body that asks `server` to go on from `prompt` with at most `tokens` tokens.
pub(crate) fn request_body(server: &Server, prompt: &str, tokens: u32) -> Value {
    match server.api {
        Api::OllamaChat => ollama::chat_body(server, prompt, tokens),
        Api::OllamaGenerate => ollama::generate_body(server, prompt, tokens),
        Api::OpenaiChat => openai::body(server, prompt, tokens),
    }
}

/// Reads one message.
pub(crate) fn read(api: Api, bytes: &[u8]) -> Result<Message, serde_json::Error> {
    match api {
        Api::OllamaChat | Api::OllamaGenerate => ollama::read(bytes),
        Api::OpenaiChat => openai::read(bytes),
    }
}

/// The framing of an API's streams.
pub(crate) fn frames(api: Api) -> Frames {
    match api {
        Api::OllamaChat | Api::OllamaGenerate => Frames::Lines(Lines::default()),
        Api::OpenaiChat => Frames::Events(Events::default()),
    }
}

/// An error object of either API: `{"error": "text"}`, `{"error": {"message": "text"}}`, or vLLM's `{"detail": "text"}`.
#[derive(Debug, Deserialize)]
struct ErrorBody {
    error: Option<Value>,
    detail: Option<Value>,
    message: Option<Value>,
}

/// The words of an error object, when `body` is one.
pub(crate) fn error_message(body: &[u8]) -> Option<String> {
    let body: ErrorBody = serde_json::from_slice(body).ok()?;
    body.error.or(body.detail).or(body.message).map(|value| error_text(&value))
}

/// The words of an `error` field, whatever its shape.
fn error_text(value: &Value) -> String {
    let text = value.as_str().or_else(|| value["message"].as_str());
    crate::excerpt::excerpt(&text.map_or_else(|| value.to_string(), str::to_owned))
}

/// Whether an error's words say that the model is unknown.
pub(crate) fn names_missing_model(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("model")
        && ["not found", "does not exist", "not exist"].iter().any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_every_server_are_read() {
        let message = |text: &str| error_message(text.as_bytes());
        assert_eq!(message(r#"{"error":"model 'x' not found"}"#).as_deref(), Some("model 'x' not found"));
        assert_eq!(message(r#"{"error":{"code":503,"message":"Loading model"}}"#).as_deref(), Some("Loading model"));
        assert_eq!(message(r#"{"object":"error","message":"no \u0007bell"}"#).as_deref(), Some("no bell"));
        assert_eq!(message(r#"{"detail":"Not Found"}"#).as_deref(), Some("Not Found"));
        assert_eq!(message("<html>"), None);
    }

    #[test]
    fn missing_models_are_told_from_missing_paths() {
        for text in
            ["model 'x' not found", "model \"x\" not found, try pulling it first", "The model `x` does not exist."]
        {
            assert!(names_missing_model(text), "{text}");
        }
        assert!(!names_missing_model("File Not Found"));
        assert!(!names_missing_model("Not Found"));
    }
}
