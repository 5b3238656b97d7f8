//! What the server answers instead of what it would, and what it was asked.

use serde_json::{Value, json};

/// An answer that does not come from the objects.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A refusal as an API server writes it.
    #[must_use]
    pub fn status(code: u16, reason: &str, message: &str) -> Self {
        let body = status(code, reason, message).to_string();
        Self { code, content_type: "application/json", body }
    }

    /// The page of a proxy that reaches no API server.
    #[must_use]
    pub fn page(code: u16) -> Self {
        let body =
            format!("<html>\r\n<head><title>{code} Bad Gateway</title></head>\r\n<body>nothing here</body></html>");
        Self { code, content_type: "text/html", body }
    }
}

/// An API server's own refusal.
pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code})
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Method, path and query, such as `GET /api/v1/nodes?watch=true`.
    pub request: String,
    /// `Content-Type`.
    pub content_type: String,
    /// The body; null when it is no JSON.
    pub body: Value,
}

#[derive(Debug, Default)]
pub(super) struct Script {
    answers: Vec<(String, u32, Answer)>,
    pub(super) recorded: Vec<Recorded>,
}

impl Script {
    pub(super) fn add(&mut self, request: &str, times: u32, answer: Answer) {
        self.answers.push((request.to_owned(), times, answer));
    }

    /// The scripted answer to `request`, used up once more.
    pub(super) fn take(&mut self, request: &str) -> Option<Answer> {
        let matches = |(wanted, left, _): &&mut (String, u32, Answer)| *left > 0 && request.contains(wanted.as_str());
        let (_, left, answer) = self.answers.iter_mut().find(matches)?;
        *left -= 1;
        Some(answer.clone())
    }
}
