//! The process of one tenant: it prepares its work, serves the load it is told, and records what its requests met.
//!
//! [`run`] is the whole process. It speaks [`crate::protocol`] over standard input and output, where the drawing of its
//! states is; its last words go to standard error. Everything is timed on the host's monotonic clock, so that all tenants
//! of a comparison mean the same window.
//!
//! ```text
//! arrivals ─ due times ─▶ kernel (one slot)  ─┐
//!          └───────────▶ server (in flight)  ─┴─ tokens, ends ─▶ recorder ─▶ Window
//! ```
//!
//! How it ends: the order to stop, the end of standard input, SIGTERM and SIGINT all end it with status 0, its server
//! stopped first. When its parent is killed the kernel sends it SIGTERM. When it is itself killed with SIGKILL, the
//! launcher's tie kills the server with it; what that server had started is left, and found by the process id in
//! [`crate::protocol::Ready`], which leads their group. A driver call that never returns holds all of this up: who started
//! the process must kill it after a while.

mod arrivals;
mod error;
mod gpu;
mod kernel;
mod process;
mod recorder;
mod server;
mod session;
mod stop;

use std::io::{Read, Write};
use std::sync::Arc;

use rustix::process::{Signal, set_parent_process_death_signal};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

pub use self::error::TenantError;
pub use self::gpu::KernelError;
pub use self::server::ServerError;
use self::session::{Session, order_stop};

/// Runs a tenant's process to its end.
///
/// `launcher` is a program and its first arguments that start a server tied to this process
/// ([`cotenant_mps::exec_with_parent`]); when empty, servers are started without. Call it once, on the main thread: the
/// server is tied to the thread that starts it.
///
/// # Errors
/// Why the tenant could not go on, after it was reported as [`crate::protocol::Event::Failed`]; the caller prints it on
/// standard error and leaves with status 1.
pub fn run<I, O>(input: I, output: O, launcher: Vec<String>) -> Result<(), TenantError>
where
    I: Read + Send + 'static,
    O: Write,
{
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(|source| TenantError::Tie(source.into()))?;
    let session = Session::new(launcher);
    stop_on_signals(&session)?;
    session.serve(input, output)
}

/// Turns SIGTERM and SIGINT into the order to stop.
fn stop_on_signals(session: &Session) -> Result<(), TenantError> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(TenantError::Signals)?;
    let (orders, stop) = (session.sender.clone(), Arc::clone(&session.stop));
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || signals.forever().for_each(|_signal| order_stop(&orders, &stop)))
        .map(drop)
        .map_err(TenantError::Thread)
}
