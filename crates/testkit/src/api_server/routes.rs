//! Requests and their answers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::Response;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::script::{Answer, Recorded, status};
use super::store::{Change, Store};
use super::{State, patch};

/// Parameters of a request by name.
type Parameters = HashMap<String, String>;

pub(super) fn router(state: Arc<State>) -> Router {
    Router::new().fallback(answer).with_state(state)
}

/// The parameters of a query, decoded.
fn parameters(query: &str) -> Parameters {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// Percent-encoding undone.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().replace('+', " ").into_bytes();
    for part in parts {
        match part.split_at_checked(2).map(|(code, rest)| (u8::from_str_radix(code, 16), rest)) {
            Some((Ok(byte), rest)) => {
                bytes.push(byte);
                bytes.extend(rest.replace('+', " ").bytes());
            }
            Some((Err(_), _)) | None => bytes.extend(part.bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    collection: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl Target {
    fn new(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let group = if parts.first() == Some(&"api") { 2 } else { 3 };
        let namespaced = parts.get(group) == Some(&"namespaces") && parts.len() > group + 2;
        let end = (group + if namespaced { 3 } else { 1 }).min(parts.len());
        let part = |index: usize| parts.get(index).map(|part| (*part).to_owned());
        Self { collection: format!("/{}", parts[..end].join("/")), name: part(end), subresource: part(end + 1) }
    }
}

async fn answer(
    Shared(state): Shared<Arc<State>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = format!("{method} {uri}");
    let parameters = parameters(uri.query().unwrap_or_default());
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let content_type = text(&headers, header::CONTENT_TYPE.as_str());
    let scripted = {
        let mut script = state.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.recorded.push(Recorded {
            request: request.clone(),
            content_type: content_type.clone(),
            body: body.clone(),
        });
        script.take(&request)
    };
    if let Some(Answer { code, content_type, body }) = scripted {
        return respond(code, content_type, Body::from(body));
    }
    if uri.path() == "/version" {
        return ok(&json!({"major": "1", "minor": "34", "gitVersion": "v1.34.4", "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}));
    }
    let target = Target::new(uri.path());
    let partial = text(&headers, header::ACCEPT.as_str()).contains("as=PartialObjectMetadata");
    if parameters.get("watch").is_some_and(|watch| watch == "true" || watch == "1") {
        return watch(state, target.collection, parameters, partial);
    }
    let mut store = state.store.lock().unwrap_or_else(PoisonError::into_inner);
    match (method, target.subresource.as_deref()) {
        (Method::GET, None) => read(&store, &target, &parameters, partial),
        (Method::POST, None) => create(&mut store, &target, body),
        (Method::POST, Some("eviction")) => evict(&mut store, &target, &body),
        (Method::PATCH, None) => patched(&mut store, &target, &parameters, (&content_type, &body), partial),
        (Method::DELETE, None) => delete(&mut store, &target),
        (method, _) => refuse(405, "MethodNotAllowed", &format!("{method} is not known here")),
    }
}

fn read(store: &Store, target: &Target, parameters: &Parameters, partial: bool) -> Response {
    let Some(name) = &target.name else {
        let found = store.list(&target.collection).into_iter().filter(|object| selects(parameters, object));
        let items: Vec<Value> = found.map(|object| shown(object, partial)).collect();
        let kind = if partial { "PartialObjectMetadataList" } else { "List" };
        let metadata = json!({"resourceVersion": store.version().to_string()});
        return ok(&json!({"kind": kind, "apiVersion": "v1", "metadata": metadata, "items": items}));
    };
    match store.object(&target.collection, name) {
        Some(object) => ok(&shown(object, partial)),
        None => not_found(name),
    }
}

fn create(store: &mut Store, target: &Target, object: Value) -> Response {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if store.object(&target.collection, name).is_some() {
        return refuse(409, "AlreadyExists", &format!("\"{name}\" already exists"));
    }
    respond(201, "application/json", Body::from(store.put(&target.collection, object).to_string()))
}

fn evict(store: &mut Store, target: &Target, eviction: &Value) -> Response {
    let name = target.name.as_deref().unwrap_or_default();
    let Some(mut pod) = store.object(&target.collection, name) else { return not_found(name) };
    let wanted = &eviction["deleteOptions"]["preconditions"]["uid"];
    let uid = &pod["metadata"]["uid"];
    if !wanted.is_null() && wanted != uid {
        let message = format!(
            "Operation cannot be fulfilled on Pod \"{name}\": the UID in the precondition ({wanted}) does not match the \
             UID in record ({uid}). The object might have been deleted and then recreated"
        );
        return refuse(409, "Conflict", &message);
    }
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    store.put(&target.collection, pod);
    respond(201, "application/json", Body::from(json!({"kind": "Status", "status": "Success"}).to_string()))
}

fn patched(
    store: &mut Store,
    target: &Target,
    parameters: &Parameters,
    (content_type, body): (&str, &Value),
    partial: bool,
) -> Response {
    let name = target.name.as_deref().unwrap_or_default();
    let Some(before) = store.object(&target.collection, name) else { return not_found(name) };
    let mut object = before.clone();
    match content_type {
        "application/apply-patch+yaml" => {
            let manager = parameters.get("fieldManager").map(String::as_str).unwrap_or_default();
            patch::apply(&mut object, body, manager);
        }
        "application/merge-patch+json" => patch::merge(&mut object, body),
        other => return refuse(415, "UnsupportedMediaType", &format!("{other} is not known here")),
    }
    let after = if object == before { before } else { store.put(&target.collection, object) };
    ok(&shown(after, partial))
}

fn delete(store: &mut Store, target: &Target) -> Response {
    let name = target.name.as_deref().unwrap_or_default();
    if store.delete(&target.collection, name) {
        ok(&json!({"kind": "Status", "status": "Success"}))
    } else {
        not_found(name)
    }
}

/// Where a watch stands.
#[derive(Debug)]
struct Watching {
    state: Arc<State>,
    collection: String,
    parameters: Parameters,
    partial: bool,
    version: u64,
    end: Instant,
    over: bool,
}

fn watch(state: Arc<State>, collection: String, parameters: Parameters, partial: bool) -> Response {
    let number = |name: &str| parameters.get(name).and_then(|value| value.parse::<u64>().ok());
    let version = number("resourceVersion").unwrap_or_default();
    let end = Instant::now() + Duration::from_secs(number("timeoutSeconds").unwrap_or(3600));
    let watching = Watching { state, collection, parameters, partial, version, end, over: false };
    let lines = stream::unfold(watching, |watching| async { watching.next().await });
    respond(200, "application/json", Body::from_stream(lines))
}

impl Watching {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            if self.over {
                return None;
            }
            let (mut changed, news) = {
                let store = self.state.store.lock().unwrap_or_else(PoisonError::into_inner);
                (store.changed(), store.since(&self.collection, self.version))
            };
            let Some(news) = news else {
                self.over = true;
                let gone = json!({"type": "ERROR", "object": status(410, "Expired", "too old resource version")});
                return Some((Ok(Bytes::from(format!("{gone}\n"))), self));
            };
            self.version = news.last().map_or(self.version, |change| change.version);
            let lines: String = news.into_iter().filter_map(|change| self.line(change)).collect();
            if !lines.is_empty() {
                return Some((Ok(Bytes::from(lines)), self));
            }
            match timeout_at(self.end, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    }

    fn line(&self, change: Change) -> Option<String> {
        let Change { kind, object, .. } = change;
        selects(&self.parameters, &object)
            .then(|| format!("{}\n", json!({"type": kind, "object": shown(object, self.partial)})))
    }
}

/// Whether the selectors of a request accept an object.
fn selects(parameters: &Parameters, object: &Value) -> bool {
    let holds = |requirement: &str, value: &dyn Fn(&str) -> Value| {
        requirement.split_once('=').is_none_or(|(key, wanted)| value(key).as_str().unwrap_or_default() == wanted)
    };
    let all = |name: &str, value: &dyn Fn(&str) -> Value| {
        let selector = parameters.get(name).map(String::as_str).unwrap_or_default();
        selector.split(',').filter(|requirement| !requirement.is_empty()).all(|requirement| holds(requirement, value))
    };
    all("fieldSelector", &|path| object.pointer(&format!("/{}", path.replace('.', "/"))).cloned().unwrap_or_default())
        && all("labelSelector", &|key| object["metadata"]["labels"][key].clone())
}

fn shown(mut object: Value, partial: bool) -> Value {
    if partial {
        object =
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]});
    }
    object
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn ok(value: &Value) -> Response {
    respond(200, "application/json", Body::from(value.to_string()))
}

fn not_found(name: &str) -> Response {
    refuse(404, "NotFound", &format!("\"{name}\" not found"))
}

fn refuse(code: u16, reason: &str, message: &str) -> Response {
    respond(code, "application/json", Body::from(status(code, reason, message).to_string()))
}

fn respond(code: u16, content_type: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_apart() {
        let target = |collection: &str, name: Option<&str>, subresource: Option<&str>| Target {
            collection: collection.to_owned(),
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
        };
        assert_eq!(Target::new("/api/v1/nodes"), target("/api/v1/nodes", None, None));
        assert_eq!(Target::new("/api/v1/nodes/n"), target("/api/v1/nodes", Some("n"), None));
        assert_eq!(Target::new("/api/v1/namespaces/a"), target("/api/v1/namespaces", Some("a"), None));
        let pods = "/api/v1/namespaces/a/pods";
        assert_eq!(Target::new("/api/v1/namespaces/a/pods/p/eviction"), target(pods, Some("p"), Some("eviction")));
        let sets = "/apis/apps/v1/namespaces/a/daemonsets";
        assert_eq!(Target::new("/apis/apps/v1/namespaces/a/daemonsets/d"), target(sets, Some("d"), None));
    }

    #[test]
    fn selectors_look_at_fields_and_labels() {
        let object =
            json!({"metadata": {"name": "p", "labels": {"app.kubernetes.io/name": "x"}}, "spec": {"nodeName": "n"}});
        let selects = |kind: &str, selector: &str| {
            selects(&parameters(&format!("{kind}={}", selector.replace('=', "%3D"))), &object)
        };
        assert!(selects("fieldSelector", "spec.nodeName=n") && !selects("fieldSelector", "spec.nodeName=m"));
        assert!(selects("labelSelector", "app.kubernetes.io/name=x") && !selects("labelSelector", "other=x"));
    }
}
