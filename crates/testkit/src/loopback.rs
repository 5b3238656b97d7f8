//! An HTTP server on a socket of loopback, in a thread of its own.

use std::net::TcpListener;
use std::thread::JoinHandle;

use axum::Router;
use tokio::sync::oneshot;

/// A server that runs; it ends when told to.
#[derive(Debug)]
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Serves `router` on `listener`, in a thread of this name.
    pub(crate) fn start(name: &str, router: Router, listener: TcpListener) -> anyhow::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! {
                    _served = async { axum::serve(listener, router).await } => {}
                    _asked = stopped => {}
                }
            });
        })?;
        Ok(Self { stop, thread })
    }

    /// Goes away: open connections break and new ones are refused.
    pub(crate) fn stop(self) {
        // The receiver is gone only when the server has ended already.
        self.stop.send(()).unwrap_or_default();
        drop(self.thread.join());
    }

    /// Waits until the server ends, which it does only when something else ends the process.
    pub(crate) fn wait(self) {
        // Told to nobody: the server is to go on.
        let Self { stop: _stop, thread } = self;
        // A panic in the server has printed itself; the process ends either way.
        drop(thread.join());
    }
}
