//! MPS control daemons: started, watched, spoken to, stopped, and never left behind.
//!
//! This room owns one control daemon per GPU ([`Daemon`]), its dialogue, the environment of its clients
//! ([`ClientLimits`]), the register of the processes that cotenant started ([`Registry`]), the lock of a GPU
//! ([`GpuLock`]), the tie of a child to its parent ([`exec_with_parent`]) and the look for daemons of others
//! ([`foreign_daemons`]). It refuses to touch a daemon, a process or a directory that cotenant did not start or make,
//! to signal a process whose identity it has not checked, and to wait without a bound.
//!
//! A control daemon is ready as soon as its dialogue answers. It then has no server: the server comes with the first
//! client or with [`Daemon::start_server`], and stays when the last client leaves.
//!
//! ```text
//!              start                answers           server            server
//!  Stopped ───────────▶ Starting ───────────▶ Idle ◀────────▶ Active ◀────────▶ Fault      (Silent: no answer in time)
//!     ▲                    │ late, or stop      └───────┬────────┴─────────────────┘
//!     │                    │                            │ stop
//!     │                    │                            ▼  clients gone,                late
//!     │                    │                        Draining ───────────▶ Quitting ─────────────┐
//!     │                    │                                 or late         │ refused          │
//!     │                    └────────────────▶ Terminating ◀─────────────────┴──────────────────┘
//!     │ the process is gone,                        │ late
//!     │ swept                                       ▼         late
//!     └──────────────── every ending state ◀──── Killing ───────────▶ Stuck
//! ```
//!
//! A daemon that dies unasked, or whose start failed, ends in `Failed` instead of `Stopped`. [`life::step`] is that
//! drawing as a function without input or output; [`Daemon`] carries out its actions.
//!
//! The dialogue is protocol version 2, which drivers up to 580 speak by default.
//!
//! Seen on an H200 with driver 580: a daemon under `-f` answers `get_server_list` milliseconds after its start,
//! `start_server -uid 0` brings an active server, `get_client_list` names the clients, a stop leaves nothing, also after
//! Ctrl-C. When cotenant is killed with SIGKILL its daemon and server live on, and the next run ends both. An illegal access
//! of one client fails every client of that server (`CUDA_ERROR_ILLEGAL_ADDRESS`), and a new daemon serves afterwards. The
//! simulation alone has proven the rest: daemons that hang, die, refuse to quit or survive SIGKILL, a server that says
//! `FAULT`, several servers of one daemon, and drivers that do not know `quit -t`.

mod clock;
mod daemon;
mod dialogue;
mod foreign;
pub mod inspection;
pub mod life;
mod limits;
mod lock;
pub mod log;
mod place;
mod probe;
mod process;
mod program;
mod registry;
pub mod reply;
pub mod resident;
mod run_root;
mod shim;
pub mod three;

pub use daemon::{Daemon, Health, MpsError, Patience, Settings};
pub use dialogue::{Dialect, Dialogue, DialogueError, Server};
pub use foreign::{ForeignDaemon, Role, foreign_daemons};
pub use limits::{ClientLimits, LimitError, MPS_VARIABLES, environment_without_daemon};
pub use lock::{GpuLock, LockError};
pub use place::{OUTPUT, Place, PlaceError, Trap, trim_output};
pub use probe::{Protocol, speaks_three};
pub use process::{Ended, Identity, end_process_group, family};
pub use program::{PROGRAM_VARIABLE, ProgramError, find_program};
pub use registry::{Outcome, Reaped, Registry, RegistryError};
pub use reply::ServerStatus;
pub use resident::{Difference, Opened, ResidentDaemon, ResidentSettings};
pub use run_root::{RunRoot, RunRootError};
pub use shim::{ShimError, exec_with_parent, shim_arguments};
