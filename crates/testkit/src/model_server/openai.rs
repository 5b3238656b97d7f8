//! OpenAI's messages: server-sent events, with llama-server's `timings` in the last.

use serde_json::{Value, json};

use super::body::Wire;

/// Writes the events of one answer.
pub(super) struct Events {
    pub(super) model: String,
    pub(super) counts_tokens: bool,
    pub(super) awkward: bool,
}

impl Events {
    fn chunk(&self, delta: &Value, finish: Option<&str>) -> Value {
        json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": null
        })
    }

    fn event(&self, data: &str) -> Vec<u8> {
        if !self.awkward {
            return format!("data: {data}\n\n").into_bytes();
        }
        let lines: String = data
            .replace(",\"choices\"", "\n,\"choices\"")
            .lines()
            .fold(String::new(), |all, line| all + "data:" + line + "\r\n");
        format!(": ping\r\nevent: message\r\nid: 1\r\n{lines}retry: 100\r\n\r\n: pong\r\n\r\n").into_bytes()
    }
}

impl Wire for Events {
    const CONTENT_TYPE: &'static str = "text/event-stream; charset=utf-8";

    fn piece(&self, text: &str, thinking: bool) -> Vec<u8> {
        let delta = if thinking { json!({"reasoning_content": text}) } else { json!({"content": text}) };
        self.event(&self.chunk(&delta, None).to_string())
    }

    fn end(&self, tokens: u32, stopped: bool) -> Vec<u8> {
        let finish = self.chunk(&json!({}), Some(if stopped { "stop" } else { "length" }));
        let mut bytes = self.event(&finish.to_string());
        if self.counts_tokens {
            let usage = json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": self.model, "choices": [],
                "usage": {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens},
                "timings": {"prompt_n": 7, "prompt_ms": 3.0, "predicted_n": tokens, "predicted_ms": 4.0}
            });
            bytes.extend(self.event(&usage.to_string()));
        }
        bytes.extend(self.event("[DONE]"));
        bytes
    }

    fn error(&self, message: &str) -> Vec<u8> {
        self.event(&json!({"error": {"code": 500, "message": message, "type": "server_error"}}).to_string())
    }
}
