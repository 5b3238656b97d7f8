//! Ollama's `/api/chat` and `/api/generate`: NDJSON, durations in nanoseconds.
//!
//! Every request carries `keep_alive: -1`, since a request without it sets the model's life back to five minutes, and all
//! carry the same options, since other ones would load the model anew.

use cotenant_model::Nanoseconds;
use cotenant_model::workload::Server;
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Map, Value, json};

use super::Message;
use crate::answer::{Figures, Finish};

fn options(server: &Server) -> Map<String, Value> {
    server.options.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn limited(server: &Server, tokens: u32) -> Map<String, Value> {
    let mut options = options(server);
    options.insert("num_predict".to_owned(), json!(tokens));
    options
}

pub(super) fn chat_body(server: &Server, prompt: &str, tokens: u32) -> Value {
    json!({
        "model": server.model, "messages": [{"role": "user", "content": prompt}], "stream": true, "keep_alive": -1,
        "options": limited(server, tokens)
    })
}

/// The prompt is raw: no template of the model is laid around it.
pub(super) fn generate_body(server: &Server, prompt: &str, tokens: u32) -> Value {
    json!({
        "model": server.model, "prompt": prompt, "raw": true, "stream": true, "keep_alive": -1,
        "options": limited(server, tokens)
    })
}

/// The body for `/api/generate` that loads the model and generates nothing.
pub(crate) fn load_body(server: &Server) -> Value {
    json!({"model": server.model, "stream": false, "keep_alive": -1, "options": options(server)})
}

/// A line of either endpoint.
#[derive(Debug, Deserialize)]
struct Line {
    message: Option<ChatMessage>,
    response: Option<String>,
    thinking: Option<String>,
    done: Option<bool>,
    done_reason: Option<String>,
    error: Option<Value>,
    total_duration: Option<u64>,
    load_duration: Option<u64>,
    prompt_eval_count: Option<u32>,
    prompt_eval_duration: Option<u64>,
    eval_count: Option<u32>,
    eval_duration: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct ChatMessage {
    #[serde(default)]
    content: String,
    #[serde(default)]
    thinking: String,
}

pub(super) fn read(bytes: &[u8]) -> Result<Message, serde_json::Error> {
    let line: Line = serde_json::from_slice(bytes)?;
    if let Some(error) = &line.error {
        return Ok(Message::error(error));
    }
    let Some(done) = line.done else { return Err(serde_json::Error::missing_field("done")) };
    let figures = Figures {
        total: line.total_duration.map(Nanoseconds),
        load: line.load_duration.map(Nanoseconds),
        prompt: line.prompt_eval_duration.map(Nanoseconds),
        generation: line.eval_duration.map(Nanoseconds),
        prompt_tokens: line.prompt_eval_count,
        generated_tokens: line.eval_count,
    };
    let (content, thinking) = line.message.map_or_else(
        || (line.response.unwrap_or_default(), line.thinking.unwrap_or_default()),
        |message| (message.content, message.thinking),
    );
    let finish = line.done_reason.as_deref().map(Finish::from_server);
    Ok(Message { content, thinking, tokens_so_far: None, finish, figures, done, error: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_endpoints_are_read() {
        let chat = read(br#"{"message":{"role":"assistant","content":"a","thinking":"b"},"done":false}"#).unwrap();
        assert_eq!((chat.content.as_str(), chat.thinking.as_str(), chat.done), ("a", "b", false));
        let last = read(br#"{"response":"","done":true,"done_reason":"length","eval_count":5,"eval_duration":70}"#);
        let last = last.unwrap();
        assert_eq!((last.done, last.finish), (true, Some(Finish::Length)));
        assert_eq!(last.figures.generated_tokens, Some(5));
        assert_eq!(last.figures.generation, Some(Nanoseconds(70)));
        assert_eq!(last.figures.load, None, "what is not said is not zero");
    }

    #[test]
    fn another_api_is_not_read_as_an_empty_piece() {
        assert!(read(br#"{"choices":[]}"#).is_err());
        assert!(read(b"3").is_err());
        assert_eq!(read(br#"{"error":"out of memory"}"#).unwrap().error.as_deref(), Some("out of memory"));
    }
}
