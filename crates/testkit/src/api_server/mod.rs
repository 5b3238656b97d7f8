//! A fake Kubernetes API server on loopback: objects as they are written, lists and watches by field and label, merge
//! patches and server-side apply of labels and annotations, evictions, and whatever a script makes it answer instead.
//!
//! It stands on the real wire, so a client's HTTP, its reading of watches and its time-outs are all in the test. It checks
//! no schema, no rights and no types, and its server-side apply knows labels and annotations only.

mod patch;
mod routes;
mod script;
mod store;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use serde_json::Value;

use self::script::Script;
pub use self::script::{Answer, Recorded};
use self::store::Store;
use crate::loopback::Running;

/// What the server holds, whether it is up or not.
#[derive(Debug, Default)]
struct State {
    store: Mutex<Store>,
    script: Mutex<Script>,
}

/// A fake API server; it stops when dropped.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    state: Arc<State>,
    running: Option<Running>,
}

impl ApiServer {
    /// Starts a server without objects on a free port of loopback, in a thread of its own.
    ///
    /// # Errors
    /// When no port is free or no thread can be started.
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
        let address = listener.local_addr()?;
        let mut server = Self { address, state: Arc::default(), running: None };
        server.serve(listener)?;
        Ok(server)
    }

    /// Goes away: open connections break and new ones are refused. Objects stay.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }

    /// Comes back at the same address.
    ///
    /// # Errors
    /// When the port was taken meanwhile or no thread can be started.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.stop();
        let listener = TcpListener::bind(self.address).with_context(|| format!("cannot listen on {}", self.address))?;
        self.serve(listener)
    }

    fn serve(&mut self, listener: TcpListener) -> anyhow::Result<()> {
        let router = routes::router(Arc::clone(&self.state));
        self.running = Some(Running::start("api-server", router, listener)?);
        Ok(())
    }

    /// Base address, such as `http://127.0.0.1:40001`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Writes a kubeconfig that leads here.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path) -> anyhow::Result<()> {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\nclusters:\n- name: fake\n  cluster:\n    server: {}\n\
             contexts:\n- name: fake\n  context: {{cluster: fake, user: fake, namespace: default}}\nusers:\n- name: fake\n  user: {{}}\n",
            self.url()
        );
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Puts an object in place, whatever was there, as somebody else would. `collection` is its path without its name, such
    /// as `/api/v1/nodes` or `/api/v1/namespaces/default/pods`.
    pub fn put(&self, collection: &str, object: Value) {
        self.store().put(collection, object);
    }

    /// Takes an object away.
    pub fn delete(&self, collection: &str, name: &str) {
        self.store().delete(collection, name);
    }

    /// An object as it stands.
    #[must_use]
    pub fn object(&self, collection: &str, name: &str) -> Option<Value> {
        self.store().object(collection, name)
    }

    /// Every object of a collection, in order of name.
    #[must_use]
    pub fn objects(&self, collection: &str) -> Vec<Value> {
        self.store().list(collection)
    }

    /// Forgets the history: watches from an earlier version are answered with 410 Gone, and running ones end so.
    pub fn forget_history(&self) {
        self.store().forget_history();
    }

    /// Answers the next `times` requests whose `METHOD /path?query` contains `request` with `answer`.
    pub fn answer(&self, request: &str, times: u32, answer: Answer) {
        self.state.script.lock().unwrap_or_else(PoisonError::into_inner).add(request, times, answer);
    }

    /// Every request that came, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.script.lock().unwrap_or_else(PoisonError::into_inner).recorded.clone()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.state.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}
