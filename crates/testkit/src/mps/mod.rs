//! A simulated MPS: a control program, its servers, and clients.
//!
//! The program `nvidia-cuda-mps-control` of this crate is used as the real one is: `-d` or `-f` starts a daemon for
//! `CUDA_MPS_PIPE_DIRECTORY`, any other call carries commands (its arguments, else the lines of its standard input) to that
//! daemon's `control` socket. What passes through the socket is this crate's own; what a caller sees is the real thing's:
//! replies, exit statuses, log lines, a server process that comes with the first client, a `quit` that blocks while clients
//! run.
//!
//! A [`Script`] in a file beside the program, read again at each command, makes it misbehave. It lies beside the program
//! because a daemon is started with a clean environment. A [`Client`] stands for a CUDA process; the program
//! `fake-cuda-client` is one for pods ([`run_cuda_client`]). A client can fault: its server then says `FAULT`, every client
//! fails, new ones get 807 until the affected ones have left.
//!
//! Seen on driver 580 and imitated: the replies and log lines of protocol 2, where they go (with `-f` to the standard
//! output), the files in the pipe directory and their modes, memory limits told in whole gigabytes, `quit -t`, clients of
//! other users that wait, `FAULT` of a server that leaves for one of another user, servers of other users that cannot reach the
//! sockets, a log that names the first client whoever faulted, `terminate_client` that blocks everything in a fault. Different on purpose: a server outlives its killed daemon
//! (the real one goes with it), so that what is left behind is found. From documentation alone: protocol 3.

mod admission;
mod caller;
mod client;
mod command;
mod control;
mod cuda_client;
mod installation;
mod log;
mod options;
mod script;
mod server;
mod tables;
mod three;

pub use caller::run;
pub use client::{Client, Grant, Trigger};
pub use cuda_client::run_cuda_client;
pub use installation::{Installation, program};
pub use script::{Quit, Script, ServerStart, Start};

/// Name of the control program.
pub const CONTROL: &str = "nvidia-cuda-mps-control";
/// Name of the server program.
pub const SERVER: &str = "nvidia-cuda-mps-server";

/// What the real program says when no daemon listens.
const NO_DAEMON: &str = "Cannot find MPS control daemon process";
