//! The paths of both APIs.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::body::{Wire, stream_body};
use super::ollama::{Endpoint, Lines};
use super::openai::Events;
use super::script::{Behaviour, Fault, Script};

const PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Welcome to nginx!</title></head><body>hello</body></html>\n";

/// What the server remembers.
#[derive(Debug)]
pub(super) struct State {
    script: Script,
    start: Instant,
    resident: AtomicBool,
    pub(super) requests: AtomicU32,
    pub(super) bodies: Mutex<Vec<Value>>,
}

impl State {
    pub(super) fn new(script: Script) -> Self {
        Self {
            script,
            start: Instant::now(),
            resident: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            bodies: Mutex::default(),
        }
    }

    fn loaded(&self) -> bool {
        self.start.elapsed() >= Duration::from_micros(self.script.load_micros)
    }

    fn record(&self, body: &Value) {
        if let Ok(mut bodies) = self.bodies.lock() {
            bodies.push(body.clone());
        }
    }

    fn knows(&self, body: &Value) -> bool {
        let asked = body["model"].as_str().unwrap_or_default();
        asked.strip_suffix(":latest").unwrap_or(asked) == self.script.model
    }

    /// The behaviour of the next request for tokens.
    fn next(&self) -> Behaviour {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        if self.script.dies_after.is_some_and(|last| number >= last) {
            die();
        }
        self.script.requests.get(number as usize).unwrap_or(&self.script.then).clone()
    }
}

#[expect(clippy::exit, clippy::print_stderr, reason = "a crash is what the script asks for, with last words")]
fn die() {
    eprintln!("fake-model-server: CUDA error: an illegal memory access was encountered");
    std::process::exit(3);
}

pub(super) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/", get(async || "Ollama is running"))
        .route("/health", get(health))
        .route("/api/version", get(version))
        .route("/api/ps", get(resident))
        .route("/api/chat", post(async |state, body| ollama(Endpoint::Chat, state, body).await))
        .route("/api/generate", post(async |state, body| ollama(Endpoint::Generate, state, body).await))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(openai))
        .with_state(state)
}

async fn health(Shared(state): Shared<Arc<State>>) -> Response {
    if !state.script.health {
        return (StatusCode::NOT_FOUND, "404 page not found").into_response();
    }
    if state.loaded() { Json(json!({"status": "ok"})).into_response() } else { loading() }
}

async fn version(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    Json(json!({"version": state.script.version}))
}

async fn resident(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    if !state.resident.load(Ordering::SeqCst) {
        return Json(json!({"models": []}));
    }
    let name = format!("{}:latest", state.script.model);
    Json(json!({"models": [{
        "name": name, "model": name, "size": state.script.size, "size_vram": state.script.size_vram, "context_length": 2048
    }]}))
}

async fn models(Shared(state): Shared<Arc<State>>) -> Response {
    if !state.loaded() {
        return loading();
    }
    Json(json!({"object": "list", "data": [{"id": state.script.model, "object": "model"}]})).into_response()
}

async fn ollama(endpoint: Endpoint, Shared(state): Shared<Arc<State>>, Json(body): Json<Value>) -> Response {
    state.record(&body);
    if !state.knows(&body) {
        let message = format!("model '{}' not found", body["model"].as_str().unwrap_or_default());
        return (StatusCode::NOT_FOUND, Json(json!({"error": message}))).into_response();
    }
    if !state.loaded() {
        return loading();
    }
    state.resident.store(true, Ordering::SeqCst);
    let model = state.script.model.clone();
    if endpoint == Endpoint::Generate && body["prompt"].as_str().unwrap_or_default().is_empty() {
        return Json(json!({"model": model, "response": "", "done": true, "done_reason": "load"})).into_response();
    }
    let behaviour = state.next();
    let wire = Lines { endpoint, model, counts_tokens: behaviour.counts_tokens };
    answer(wire, behaviour, allowed(&body["options"]["num_predict"])).await
}

async fn openai(Shared(state): Shared<Arc<State>>, Json(body): Json<Value>) -> Response {
    state.record(&body);
    if !state.knows(&body) {
        let message = format!("The model `{}` does not exist.", body["model"].as_str().unwrap_or_default());
        let error = json!({"error": {"message": message, "type": "NotFoundError", "code": 404}});
        return (StatusCode::NOT_FOUND, Json(error)).into_response();
    }
    if !state.loaded() {
        return loading();
    }
    state.resident.store(true, Ordering::SeqCst);
    let behaviour = state.next();
    let counts_tokens = behaviour.counts_tokens && body["stream_options"]["include_usage"] == true;
    let wire = Events { model: state.script.model.clone(), counts_tokens, awkward: behaviour.awkward_events };
    answer(wire, behaviour, allowed(&body["max_tokens"])).await
}

/// Tokens a request allows; 128 when it names no number.
fn allowed(value: &Value) -> u32 {
    value.as_u64().and_then(|tokens| u32::try_from(tokens).ok()).unwrap_or(128)
}

fn loading() -> Response {
    let error = json!({"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}});
    (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response()
}

/// The answer to a request, or the fault that takes its place.
async fn answer<W: Wire>(wire: W, behaviour: Behaviour, allowed: u32) -> Response {
    let error = |text: &str| Json(json!({"error": text}));
    match behaviour.fault {
        Some(Fault::Html) => page(StatusCode::OK),
        Some(Fault::BadGateway) => page(StatusCode::BAD_GATEWAY),
        Some(Fault::HangsBeforeHeaders) => std::future::pending().await,
        Some(Fault::Busy) => {
            let message = "server busy, please try again.  maximum pending requests exceeded";
            (StatusCode::SERVICE_UNAVAILABLE, error(message)).into_response()
        }
        Some(Fault::Internal) => {
            (StatusCode::INTERNAL_SERVER_ERROR, error("llama runner process has terminated")).into_response()
        }
        Some(Fault::NoSuchPath) => (StatusCode::NOT_FOUND, "404 page not found").into_response(),
        Some(Fault::Redirect) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response(),
        Some(Fault::ErrorInsteadOfStream) => error("invalid option provided").into_response(),
        _ => stream(stream_body(wire, &behaviour, allowed), W::CONTENT_TYPE),
    }
}

fn stream(body: Body, content_type: &'static str) -> Response {
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

fn page(status: StatusCode) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html")], PAGE).into_response()
}
