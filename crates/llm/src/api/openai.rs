//! OpenAI's `/v1/chat/completions` as server-sent events, with what llama-server and vLLM add.

use cotenant_model::Nanoseconds;
use cotenant_model::workload::Server;
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Value, json};

use super::Message;
use crate::answer::{Figures, Finish};

pub(super) fn body(server: &Server, prompt: &str, tokens: u32) -> Value {
    json!({
        "model": server.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "stream": true,
        "stream_options": {"include_usage": true}
    })
}

#[derive(Debug, Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    timings: Option<Timings>,
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

/// vLLM and llama-server call thinking `reasoning_content`; newer vLLM and Ollama call it `reasoning`.
#[derive(Debug, Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    prompt_tokens: Option<u32>,
    completion_tokens: Option<u32>,
}

/// llama-server's own figures, durations in milliseconds.
#[derive(Debug, Deserialize)]
struct Timings {
    prompt_n: Option<u32>,
    prompt_ms: Option<f64>,
    predicted_n: Option<u32>,
    predicted_ms: Option<f64>,
}

pub(super) fn read(bytes: &[u8]) -> Result<Message, serde_json::Error> {
    if bytes.trim_ascii() == b"[DONE]" {
        return Ok(Message { done: true, ..Message::default() });
    }
    let chunk: Chunk = serde_json::from_slice(bytes)?;
    if let Some(error) = &chunk.error {
        return Ok(Message::error(error));
    }
    let figures = figures(&chunk);
    let Some(choices) = chunk.choices else { return Err(serde_json::Error::missing_field("choices")) };
    let mut message = Message { tokens_so_far: figures.generated_tokens, figures, ..Message::default() };
    for choice in choices {
        if let Some(delta) = choice.delta {
            message.content += &delta.content.unwrap_or_default();
            message.thinking += &delta.reasoning_content.or(delta.reasoning).unwrap_or_default();
        }
        message.finish = choice.finish_reason.as_deref().map(Finish::from_server).or(message.finish);
    }
    Ok(message)
}

fn figures(chunk: &Chunk) -> Figures {
    let (usage, timings) = (chunk.usage.as_ref(), chunk.timings.as_ref());
    let span = |milliseconds: Option<f64>| milliseconds.map(|span| Nanoseconds::from_seconds(span / 1e3));
    Figures {
        total: None,
        load: None,
        prompt: span(timings.and_then(|timings| timings.prompt_ms)),
        generation: span(timings.and_then(|timings| timings.predicted_ms)),
        prompt_tokens: usage.and_then(|usage| usage.prompt_tokens).or_else(|| timings?.prompt_n),
        generated_tokens: usage.and_then(|usage| usage.completion_tokens).or_else(|| timings?.predicted_n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_thinking_and_the_end_are_read() {
        let piece =
            read(br#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null}}],"usage":null}"#).unwrap();
        assert_eq!((piece.content.as_str(), piece.done, piece.tokens_so_far), ("", false, None));
        let thought = read(br#"{"choices":[{"delta":{"reasoning_content":"hm"},"finish_reason":"length"}]}"#).unwrap();
        assert_eq!((thought.thinking.as_str(), thought.finish), ("hm", Some(Finish::Length)));
        assert!(read(b" [DONE]").unwrap().done);
    }

    #[test]
    fn usage_is_preferred_to_timings() {
        let last = br#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5},
            "timings":{"prompt_n":1,"prompt_ms":1.5,"predicted_n":4,"predicted_ms":2.0}}"#;
        let figures = read(last).unwrap().figures;
        assert_eq!((figures.prompt_tokens, figures.generated_tokens), (Some(7), Some(5)));
        assert_eq!((figures.prompt, figures.generation), (Some(Nanoseconds(1_500_000)), Some(Nanoseconds(2_000_000))));
    }

    #[test]
    fn another_api_is_not_read_as_an_empty_piece() {
        assert!(read(br#"{"response":"a","done":false}"#).is_err());
        let error = read(br#"{"error":{"message":"out of memory","code":500}}"#).unwrap();
        assert_eq!(error.error.as_deref(), Some("out of memory"));
    }
}
