//! Connections to the kubelet's own sockets.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

/// Why a socket of the kubelet could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No such socket.
    #[error("{socket} is not there: does a kubelet run here, and is its folder mounted?")]
    Absent {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket cannot be looked at.
    #[error("cannot look at {socket}")]
    Look {
        /// The socket.
        socket: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("cannot connect to {socket}")]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The library's reason.
        source: tonic::transport::Error,
    },
}

/// Connects to a gRPC server on a UNIX socket.
pub(crate) async fn connect(socket: &Path, within: Duration) -> Result<Channel, ConnectError> {
    match std::fs::metadata(socket) {
        Ok(_metadata) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ConnectError::Absent { socket: socket.to_owned() });
        }
        Err(source) => return Err(ConnectError::Look { socket: socket.to_owned(), source }),
    }
    let failed = |source| ConnectError::Connect { socket: socket.to_owned(), source };
    let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).map_err(failed)?;
    endpoint.connect_timeout(within).connect().await.map_err(failed)
}
