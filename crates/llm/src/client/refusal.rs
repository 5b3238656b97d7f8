//! Answers that are no stream of the API asked, told apart.

use std::error::Error as _;
use std::io::ErrorKind;

use cotenant_model::Nanoseconds;
use cotenant_model::workload::{Api, Server};
use reqwest::{Response, StatusCode, header};
use tokio::time::Instant;

use super::read_body;
use crate::api;
use crate::error::Fault;
use crate::excerpt::{excerpt, excerpt_bytes};

/// Bytes of a refusal's body that are read.
const BODY: usize = 64 << 10;

/// Passes a good answer through and turns any other into its fault.
pub(crate) async fn refuse(mut response: Response, server: &Server, deadline: Instant) -> Result<Response, Fault> {
    let status = response.status();
    if status.is_redirection() {
        let location = response.headers().get(header::LOCATION).map(header::HeaderValue::as_bytes).unwrap_or_default();
        return Err(Fault::Redirect { status: status.as_u16(), location: excerpt_bytes(location) });
    }
    let media = media_type(&response);
    if status.is_success() && !is_foreign(server.api, &media) {
        return Ok(response);
    }
    let body = read_body(&mut response, BODY, deadline).await;
    Err(fault_of(status, &media, &body, server))
}

/// The media type of an answer, without parameters; empty where the server names none.
fn media_type(response: &Response) -> String {
    let value = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a good status comes with a body that cannot be the API's stream.
fn is_foreign(api: Api, media: &str) -> bool {
    match api {
        Api::OllamaChat | Api::OllamaGenerate => matches!(media, "text/html" | "text/event-stream"),
        Api::OpenaiChat => matches!(media, "text/html" | "application/x-ndjson" | "application/json"),
    }
}

fn fault_of(status: StatusCode, media: &str, body: &[u8], server: &Server) -> Fault {
    let code = status.as_u16();
    let said = api::error_message(body);
    if media == "text/html" || body.trim_ascii_start().starts_with(b"<") {
        return Fault::Html { status: code, words: excerpt_bytes(body) };
    }
    if let Some(message) = said.clone().filter(|message| api::names_missing_model(message)) {
        return Fault::ModelMissing { model: excerpt(&server.model), message, api: server.api };
    }
    let message = said.clone().unwrap_or_else(|| excerpt_bytes(body));
    match code {
        200..300 => match said {
            Some(message) => Fault::Reported { message, pieces: 0 },
            None => Fault::WrongApi { asked: server.api, found: format!("a stream was asked for, `{media}` came") },
        },
        404 | 405 => Fault::WrongApi { asked: server.api, found: format!("{code} {message}") },
        429 | 503 => Fault::Busy { status: code, message },
        _ => Fault::Status { status: code, message },
    }
}

/// A fault of the network, before any answer.
pub(super) fn network_fault(error: reqwest::Error, after: Nanoseconds) -> Fault {
    let error = error.without_url();
    if error.is_timeout() {
        return Fault::NoAnswer { after };
    }
    if !error.is_connect() {
        return Fault::Exchange(error);
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            return Fault::Refused;
        }
        // The connector's type is private; its words are not.
        if inner.to_string().starts_with("dns error") {
            return Fault::Unresolved(error);
        }
        cause = inner.source();
    }
    Fault::Unreachable(error)
}
