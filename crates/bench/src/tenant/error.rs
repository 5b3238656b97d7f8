//! Why a tenant cannot go on.

use std::any::Any;
use std::io;

use super::gpu::KernelError;
use super::server::ServerError;

/// Why a tenant's process ends with status 1.
#[derive(Debug, thiserror::Error)]
pub enum TenantError {
    /// Standard input cannot be read.
    #[error("cannot read orders")]
    Input(#[source] io::Error),
    /// A line of standard input is not what the protocol says.
    #[error("an order is not understood: {line}")]
    Unreadable {
        /// The line.
        line: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Standard output cannot be written: the comparison is gone.
    #[error("cannot report")]
    Output(#[source] io::Error),
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// This process cannot be tied to its parent.
    #[error("cannot ask to be ended with the parent")]
    Tie(#[source] io::Error),
    /// Signals cannot be received.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// The load kernel failed.
    #[error(transparent)]
    Kernel(KernelError),
    /// The model server failed.
    #[error(transparent)]
    Server(ServerError),
    /// A bug of this program.
    #[error("the tenant panicked: {message}")]
    Panic {
        /// What the panic said.
        message: String,
    },
}

impl TenantError {
    pub(super) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self::Panic { message: text.unwrap_or("no message").to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_keeps_its_words() {
        for (payload, words) in [
            (Box::new("plain") as Box<dyn Any + Send>, "the tenant panicked: plain"),
            (Box::new("formatted".to_owned()), "the tenant panicked: formatted"),
            (Box::new(7), "the tenant panicked: no message"),
        ] {
            assert_eq!(TenantError::panicked(payload.as_ref()).to_string(), words);
        }
    }
}
