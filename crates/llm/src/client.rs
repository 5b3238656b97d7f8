//! One server's client: connections, requests, and streams followed to their end.

mod follow;
mod refusal;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cotenant_model::workload::{Api, Server};
use cotenant_model::{Clock, Nanoseconds};
use reqwest::{Method, Response, Url};
use serde_json::Value;
use tokio::time::Instant;

use self::follow::Follower;
pub(crate) use self::refusal::refuse;
use crate::answer::{Answer, Piece};
use crate::api;
use crate::error::{Error, Fault, path};

/// Longest wait for a connection, when the server's own time-out is not shorter.
const CONNECT: Duration = Duration::from_secs(10);

/// A client of one model server.
///
/// It keeps its connections, so only a stream's first request pays for one. It may be shared by tasks; each request is a
/// future, and dropping it closes the request's connection, which makes the servers stop generating.
#[derive(Clone)]
pub struct Client {
    pub(crate) server: Server,
    base: Url,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of `server` that stamps pieces with `clock`. Nothing is sent yet.
    ///
    /// # Errors
    /// When the endpoint is no `http` or `https` address, or the host has no certificates for `https`.
    pub fn new(server: &Server, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let endpoint = crate::excerpt::excerpt(&server.endpoint);
        let base = parse(&server.endpoint).map_err(|fault| Error::new(&endpoint, fault))?;
        let http = http_client(&base, server.timeout.duration().min(CONNECT))
            .map_err(|source| Error::new(&endpoint, Fault::Setup(source)))?;
        Ok(Self { server: server.clone(), base, http, clock })
    }

    /// The server it asks.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Asks the server to go on from `prompt` and hands each piece to `on_piece` as it comes, in order.
    ///
    /// The request allows the server's `max_tokens`; the server's `timeout` bounds the wait for the first piece and for each
    /// next one. Pieces without text only move the stream on: neither TTFT nor the time-out sees them.
    ///
    /// # Errors
    /// The first [`Fault`] met, also when pieces had come before it.
    pub async fn generate(&self, prompt: &str, on_piece: impl FnMut(&Piece) + Send) -> Result<Answer, Error> {
        self.generate_at_most(prompt, self.server.max_tokens, on_piece).await
    }

    pub(crate) async fn generate_at_most(
        &self,
        prompt: &str,
        tokens: u32,
        on_piece: impl FnMut(&Piece) + Send,
    ) -> Result<Answer, Error> {
        let api = self.server.api;
        let url = self.url(path(api));
        let body = api::request_body(&self.server, prompt, tokens);
        let follow = async {
            let start = self.clock.monotonic();
            let deadline = Instant::now() + self.server.timeout.duration();
            let response = self.post(&url, &body, deadline, self.server.timeout).await?;
            let response = refuse(response, &self.server, deadline).await?;
            Follower::new(self, tokens, start, deadline, on_piece).follow(response).await
        };
        follow.await.map_err(|fault| Error::new(url.as_str(), fault))
    }

    /// Stamps now.
    fn now(&self) -> Nanoseconds {
        self.clock.monotonic()
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    pub(crate) async fn post(
        &self,
        url: &Url,
        body: &Value,
        deadline: Instant,
        after: Nanoseconds,
    ) -> Result<Response, Fault> {
        let request = self.http.request(Method::POST, url.clone()).json(body);
        send(request, deadline, after).await
    }

    pub(crate) async fn fetch(&self, url: &Url, deadline: Instant, after: Nanoseconds) -> Result<Response, Fault> {
        send(self.http.get(url.clone()), deadline, after).await
    }

    pub(crate) const fn api(&self) -> Api {
        self.server.api
    }
}

async fn send(request: reqwest::RequestBuilder, deadline: Instant, after: Nanoseconds) -> Result<Response, Fault> {
    match tokio::time::timeout_at(deadline, request.send()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(source)) => Err(refusal::network_fault(source, after)),
        Err(_elapsed) => Err(Fault::NoAnswer { after }),
    }
}

/// Reads a body to its end, at most `limit` bytes of it.
pub(crate) async fn read_body(response: &mut Response, limit: usize, deadline: Instant) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < limit {
        match tokio::time::timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(bytes))) => body.extend_from_slice(&bytes),
            _ => break,
        }
    }
    body.truncate(limit);
    body
}

fn parse(endpoint: &str) -> Result<Url, Fault> {
    let url = Url::parse(endpoint).map_err(|error| Fault::Address { reason: error.to_string() })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Fault::Address { reason: "it does not begin with http:// or https://".to_owned() });
    }
    Ok(url)
}

/// Whether an address is this machine's own.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// HTTP/1.1 only, as the servers speak it; without Nagle's delay, which would be measured as the server's.
fn http_client(base: &Url, connect: Duration) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("cotenant/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        .tcp_nodelay(true)
        .http1_only()
        .pool_max_idle_per_host(usize::MAX)
        .redirect(reqwest::redirect::Policy::none());
    if base.scheme() == "http" {
        // A host without certificates can still ask a plain server.
        builder = builder.tls_certs_only(std::iter::empty());
    }
    if is_loopback(base) {
        builder = builder.no_proxy();
    }
    builder.build()
}
