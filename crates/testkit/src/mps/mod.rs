//! A simulated MPS: a control program that speaks the v2 dialogue, its servers, and clients.
//!
//! The program `nvidia-cuda-mps-control` of this crate is used as the real one is: `-d` or `-f` starts a daemon for
//! `CUDA_MPS_PIPE_DIRECTORY`, any other call reads commands from its standard input and carries them to that daemon's
//! `control` socket. What passes through the socket is this crate's own; what a caller sees is the real thing's: replies,
//! exit statuses, log lines, a server process that comes with the first client, a `quit` that blocks while clients run.
//!
//! A [`Script`] in a file beside the program, read again at each command, makes it misbehave. It lies beside the program
//! because a daemon is started with a clean environment.
//!
//! Seen on driver 580 and imitated: `get_server_list`, `get_client_list`, `start_server -uid`, the blocking `quit` without a
//! time limit, `Unknown command`, the order of log lines, silence of `set_default_device_pinned_mem_limit`. From
//! documentation alone: the status `FAULT`, the header of `ps`, the code that `terminate_client` prints, `shutdown_server`,
//! `device_query`.

mod caller;
mod client;
mod command;
mod control;
mod installation;
mod log;
mod script;
mod server;

pub use caller::run;
pub use client::Client;
pub use installation::{Installation, program};
pub use script::{Quit, Script, Start};

/// Name of the control program.
pub const CONTROL: &str = "nvidia-cuda-mps-control";
/// Name of the server program.
pub const SERVER: &str = "nvidia-cuda-mps-server";

/// What the real program says when no daemon listens.
const NO_DAEMON: &str = "Cannot find MPS control daemon process";
