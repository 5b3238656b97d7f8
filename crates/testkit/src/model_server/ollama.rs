//! Ollama's messages: one JSON object a line.

use serde_json::{Value, json};

use super::body::Wire;

/// Which of the two endpoints the messages belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Generate,
}

/// Writes the lines of one answer.
pub(super) struct Lines {
    pub(super) endpoint: Endpoint,
    pub(super) model: String,
    pub(super) counts_tokens: bool,
}

impl Lines {
    fn message(&self, text: &str, thinking: bool, done: bool) -> Value {
        let mut message = json!({"model": self.model, "created_at": "2026-01-01T00:00:00Z", "done": done});
        let (content, thought) = if thinking { ("", text) } else { (text, "") };
        match self.endpoint {
            Endpoint::Chat => {
                message["message"] = json!({"role": "assistant", "content": content, "thinking": thought});
            }
            Endpoint::Generate => {
                message["response"] = json!(content);
                message["thinking"] = json!(thought);
            }
        }
        message
    }
}

fn line(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

impl Wire for Lines {
    const CONTENT_TYPE: &'static str = "application/x-ndjson";

    fn piece(&self, text: &str, thinking: bool) -> Vec<u8> {
        line(&self.message(text, thinking, false))
    }

    fn end(&self, tokens: u32, stopped: bool) -> Vec<u8> {
        let mut last = self.message("", false, true);
        last["done_reason"] = json!(if stopped { "stop" } else { "length" });
        last["total_duration"] = json!(9_000_000);
        last["load_duration"] = json!(2_000_000);
        last["prompt_eval_count"] = json!(7);
        last["prompt_eval_duration"] = json!(3_000_000);
        last["eval_duration"] = json!(4_000_000);
        if self.counts_tokens {
            last["eval_count"] = json!(tokens);
        }
        line(&last)
    }

    fn error(&self, message: &str) -> Vec<u8> {
        line(&json!({"error": message}))
    }
}
