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
use std::thread::JoinHandle;

use anyhow::Context as _;
use tokio::sync::oneshot;

pub use self::script::{Behaviour, Fault, Script};

/// A running fake; it stops when dropped.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    state: Arc<routes::State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
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
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = Arc::new(routes::State::new(script));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let router = routes::router(Arc::clone(&state));
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("model-server".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! {
                    _served = async { axum::serve(listener, router).await } => {}
                    _asked = stopped => {}
                }
            });
        })?;
        Ok(Self { address, state, stop: Some(stop), thread: Some(thread) })
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
        if let Some(thread) = self.thread.take() {
            // A panic in the server has printed itself; the process ends either way.
            drop(thread.join());
        }
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The receiver is gone only when the server has ended already.
            stop.send(()).unwrap_or_default();
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
