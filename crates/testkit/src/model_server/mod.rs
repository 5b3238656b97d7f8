//! A fake model server on loopback: Ollama's API and OpenAI's, with scripted timing and faults.
//!
//! It stands on the real wire, so a client's HTTP, its readers of lines and events and its time-outs are all in the test.
//! What only this fake has shown is shown for this fake: the shapes follow Ollama 0.17.4 and llama-server.
//!
//! [`ModelServer::start`] runs one inside the test; the program `fake-model-server` runs one as a process of its own.

mod body;
mod ollama;
mod openai;
mod routes;
mod script;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;

pub use self::script::{Behaviour, Fault, Script};
use crate::loopback::Running;

/// A running fake; it stops when dropped.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    state: Arc<routes::State>,
    running: Option<Running>,
}

impl ModelServer {
    /// Starts a fake on a free port of loopback, in a thread of its own.
    ///
    /// # Errors
    /// When no port is free or no thread can be started.
    pub fn start(script: Script) -> anyhow::Result<Self> {
        Self::start_at(script, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Starts a fake at `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be listened on or no thread can be started.
    pub fn start_at(script: Script, address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        let state = Arc::new(routes::State::new(script));
        let router = routes::router(Arc::clone(&state));
        let running = Some(Running::start("model-server", router, listener)?);
        Ok(Self { address, state, running })
    }

    /// Base address for clients, such as `http://127.0.0.1:40001`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests for tokens that have come.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Bodies of all posted requests in the order they came, those that load the model too.
    #[must_use]
    pub fn bodies(&self) -> Vec<serde_json::Value> {
        self.state.bodies.lock().map(|bodies| bodies.clone()).unwrap_or_default()
    }

    /// The text of piece number `piece`, from 0, of every answer.
    #[must_use]
    pub fn text_of(piece: u32) -> String {
        body::text_of(piece)
    }

    /// Waits until the server ends, which it does only when something else ends the process.
    pub fn wait(mut self) {
        if let Some(running) = self.running.take() {
            running.wait();
        }
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}
