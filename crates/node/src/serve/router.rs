//! The two doors: HTTP for probes and scrapes, a UNIX socket for the other commands of this program.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::get;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::metrics::{self, Format};
use super::view::View;

/// Why a door cannot be opened, or closed by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("cannot make the socket {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another agent answers on the socket.
    #[error("another agent runs here: it answers on {}", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Serving ended by itself.
    #[error("serving ended")]
    Ended(#[source] io::Error),
}

type Shown = watch::Receiver<Arc<View>>;

/// `/metrics`, `/healthz` and `/readyz`.
pub fn probes(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .with_state(shown)
}

/// `/status`: the picture as JSON, and all of [`probes`].
pub fn local(shown: Shown) -> Router {
    Router::new().route("/status", get(status)).with_state(shown.clone()).merge(probes(shown))
}

async fn scrape(State(shown): State<Shown>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    let view = Arc::clone(&shown.borrow());
    match metrics::text(&view, format) {
        Ok(text) => ([(CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn readiness(State(shown): State<Shown>) -> Response {
    let view = Arc::clone(&shown.borrow());
    if view.is_ready() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, view.unready.join("\n") + "\n").into_response()
}

async fn status(State(shown): State<Shown>) -> Json<Arc<View>> {
    Json(Arc::clone(&shown.borrow()))
}

/// Opens the HTTP door and serves until `stop`.
///
/// # Errors
/// When the address is taken or not allowed.
pub async fn serve_probes(address: SocketAddr, shown: Shown, stop: CancellationToken) -> Result<(), ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    let served = axum::serve(listener, probes(shown)).with_graceful_shutdown(stop.cancelled_owned());
    served.await.map_err(ServeError::Ended)
}

/// Makes the local socket, for its owner alone, and serves until `stop`; the socket is removed then. One that a dead
/// agent left is replaced.
///
/// # Errors
/// When another agent answers on it, or it cannot be made.
pub async fn serve_local(path: &Path, shown: Shown, stop: CancellationToken) -> Result<(), ServeError> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(ServeError::Taken { path: path.to_owned() });
    }
    let failed = |source| ServeError::Socket { path: path.to_owned(), source };
    let listener = make_socket(path).map_err(failed)?;
    let served = axum::serve(listener, local(shown)).with_graceful_shutdown(stop.cancelled_owned()).await;
    remove(path).map_err(failed)?;
    served.map_err(ServeError::Ended)
}

fn make_socket(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    remove(path)?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
