//! MPS control daemons: started, watched, spoken to, stopped, and never left behind.
//!
//! This room owns control daemons, one a GPU: [`Daemon`] for the time of a run, ended with it, and [`ResidentDaemon`], which
//! outlives its starter in fixed folders ([`Place`]) and is adopted by the next. It owns their [`Dialogue`] with its replies
//! ([`reply`]), their logs ([`log`]), the environment of their clients ([`ClientLimits`], [`inspection`]), the register of the
//! processes that cotenant started ([`Registry`]), the lock of a GPU ([`GpuLock`]), the tie of a child to its parent
//! ([`exec_with_parent`]) and the look for daemons of others ([`foreign_daemons`]). It refuses to touch a daemon, a process or a
//! directory that cotenant did not start or make, to signal a process whose identity it has not checked, and to wait without
//! a bound.
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
//! A daemon that dies unasked, or whose start failed, ends in `Failed` instead of `Stopped`; one in `Fault` is told to quit
//! without draining. [`life::step`] is that drawing as a function without input or output; both kinds of daemons carry out its
//! actions.
//!
//! Daemons speak protocol version 2 (drivers before 615 have no other); resident ones speak 3 where the control program has it
//! ([`Protocol`], [`three`]).
//!
//! Seen on an H100 and an H200 with driver 580: a daemon under `-f` answers 14 ms after its start and has its limits read back
//! after 31 ms; a question takes 1.3 ms; one that lost its starter by SIGKILL is adopted in 19 ms; its own death is noticed in
//! 2 ms, its server dies with it, clients get CUDA error 806, and a fresh daemon in the same folders serves after 70 ms; a stop
//! takes 37 ms without clients. A fault of one client fails every client of that server, shows in the daemon's output at once,
//! and ends 18 to 90 ms after the last client has left, or with a new server (4 ms) when it is shut down by force. Clients of
//! other users wait; a closed parent folder fails them with 805. The texts of replies and logs are from there.
//!
//! The simulation alone has proven the rest: daemons that hang, refuse to quit or survive SIGKILL, servers that do not come
//! up, several servers of one daemon, drivers that do not know `quit -t`, `SELinux`, and all of protocol 3.

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
