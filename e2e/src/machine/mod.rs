//! A machine of the cluster: namespaces of this host, with a first process that keeps its parts.
//!
//! ```text
//!  unshare ──▶ init: mounts, record, ready ──▶ serving ──kill──▶ gone, with every process, mount and network device
//!                          │ harness gone                 ▲
//!                          └──────────▶ gone              └── parts: started, signalled, reaped
//! ```
//!
//! The namespaces are those of mounts, network, processes, IPC and names. Killing the first process kills all others, and
//! what lies in the namespaces (mounts, bridges, packet rules, files in memory) goes with them; nothing else has to be
//! undone but the control groups.

mod door;
mod init;
mod mounts;
mod parts;
mod wire;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use self::wire::{Reply, Request};
use crate::process::{Identity, command, tail};
use crate::wait;

pub use self::init::run;
pub use self::mounts::{Bind, INSIDE};
pub use self::wire::{Part, PartStatus};

/// File with the identity of the first process.
const RECORD: &str = "init.json";
/// File that says what the machine is to be.
const SPECIFICATION: &str = "machine.json";
/// Socket of the first process.
const SOCKET: &str = "init.sock";
/// What the first process says when the machine is set up.
const READY: &str = "ready";

/// Time to set up a machine; it takes a tenth of a second on an idle host.
const SET_UP: Duration = Duration::from_secs(30);
/// Time for the kernel to end a machine's processes.
const END: Duration = Duration::from_secs(60);
/// Search path within a machine.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a machine is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Specification {
    /// Its host name.
    pub hostname: String,
    /// Folders of the host that it sees.
    pub binds: Vec<Bind>,
    /// Where connections go that a socket outside takes for it.
    pub door: Option<SocketAddr>,
}

/// A machine, known by its folder on the host.
#[derive(Debug, Clone)]
pub struct Machine {
    folder: PathBuf,
    init: Identity,
}

impl Machine {
    /// Starts a machine in `folder`, with `program` as its first process. `outside` is the socket of its door.
    ///
    /// # Errors
    /// When the namespaces cannot be made, or the first process ends or is not ready in time; with what it said.
    pub fn start(
        folder: &Path,
        program: &Path,
        specification: &Specification,
        outside: Option<TcpListener>,
    ) -> anyhow::Result<Self> {
        let logs = folder.join("log");
        fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        fs::write(folder.join(SPECIFICATION), serde_json::to_vec_pretty(specification)?)?;
        let words = fs::File::create(logs.join("init.log"))?;
        let stdin = outside.map_or_else(Stdio::null, |listener| Stdio::from(OwnedFd::from(listener)));
        let mut unshare = command("unshare");
        unshare.args(["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child=SIGKILL", "--"]);
        unshare.arg(program).arg(folder).env_clear().envs([("PATH", PATH), ("HOME", "/"), ("LANG", "C.UTF-8")]);
        unshare.process_group(0).stdin(stdin).stdout(Stdio::piped()).stderr(words);
        let mut parent = unshare.spawn().context("cannot start `unshare` (Debian's util-linux)")?;
        let said = parent.stdout.take().context("`unshare` has no output")?;
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let first = BufReader::new(said).lines().next().and_then(Result::ok);
            drop(tell.send(first));
            // The parent of the namespaces is a child of this process.
            drop(parent.wait());
        });
        let ready = told.recv_timeout(SET_UP).ok().flatten();
        if ready.as_deref() != Some(READY) {
            let words = fs::read_to_string(logs.join("init.log")).unwrap_or_default();
            anyhow::bail!("the machine {} did not come up: {}", folder.display(), tail(&words, 10));
        }
        Self::attach(folder)
    }

    /// The machine that runs in `folder`.
    ///
    /// # Errors
    /// When there is none.
    pub fn attach(folder: &Path) -> anyhow::Result<Self> {
        let init = Self::record(folder)?.with_context(|| format!("{} holds no machine", folder.display()))?;
        anyhow::ensure!(init.is_alive(), "the machine {} has ended", folder.display());
        Ok(Self { folder: folder.to_owned(), init })
    }

    fn record(folder: &Path) -> anyhow::Result<Option<Identity>> {
        match fs::read(folder.join(RECORD)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => Ok(Some(serde_json::from_slice(&read?)?)),
        }
    }

    /// Ends whatever machine runs in `folder`, with all its processes.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(folder: &Path) -> anyhow::Result<()> {
        match Self::record(folder)? {
            Some(init) => init.kill(END).with_context(|| format!("cannot end the machine {}", folder.display())),
            None => Ok(()),
        }
    }

    /// Its folder on the host, which it sees as [`INSIDE`].
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Process id of its first process, as the host sees it.
    #[must_use]
    pub const fn init(&self) -> i32 {
        self.init.id
    }

    /// A command that runs within the machine.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut inside = self.enter(&["--mount", "--net", "--pid", "--ipc", "--uts"]);
        inside.arg(program).env_clear().envs([("PATH", PATH), ("HOME", "/"), ("LANG", "C.UTF-8")]);
        inside.stdin(Stdio::null());
        inside
    }

    /// A command of the host that runs in the machine's network.
    #[must_use]
    pub fn network_command(&self, program: &str) -> Command {
        let mut inside = self.enter(&["--net"]);
        inside.arg(program).stdin(Stdio::null());
        inside
    }

    fn enter(&self, namespaces: &[&str]) -> Command {
        let mut enter = command("nsenter");
        enter.arg("--target").arg(self.init.id.to_string()).args(namespaces).arg("--");
        enter
    }

    /// Starts a part.
    ///
    /// # Errors
    /// When a part of this name runs already, or its program cannot be started.
    pub fn start_part(&self, part: &Part) -> anyhow::Result<()> {
        self.ask(&Request::Start(part.clone())).map(|_done| ())
    }

    /// Starts a part once more that has ended, as it was started before.
    ///
    /// # Errors
    /// When it runs, or was never started.
    pub fn start_again(&self, name: &str) -> anyhow::Result<()> {
        self.ask(&Request::Again(name.to_owned())).map(|_done| ())
    }

    /// Sends a signal to a part.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal_part(&self, name: &str, signal: Signal) -> anyhow::Result<()> {
        self.ask(&Request::Signal { name: name.to_owned(), signal: signal.as_raw() }).map(|_done| ())
    }

    /// Ends a part: SIGTERM, and SIGKILL when it runs still after `grace`.
    ///
    /// # Errors
    /// When it does not run, or survives.
    pub fn stop_part(&self, name: &str, grace: Duration) -> anyhow::Result<()> {
        self.signal_part(name, Signal::TERM)?;
        match self.wait_for_end(name, grace) {
            Ok(()) => Ok(()),
            Err(_it_runs) => self.kill_part(name),
        }
    }

    /// Kills a part and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_part(&self, name: &str) -> anyhow::Result<()> {
        self.signal_part(name, Signal::KILL)?;
        self.wait_for_end(name, END)
    }

    fn wait_for_end(&self, name: &str, limit: Duration) -> anyhow::Result<()> {
        wait::until(&format!("the end of {name}"), limit, || {
            let parts = self.parts()?;
            let part = parts.iter().find(|part| part.name == name).context("it is unknown")?;
            anyhow::ensure!(part.ended.is_some(), "it runs");
            Ok(())
        })
    }

    /// Every part that was started, with how it ended.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn parts(&self) -> anyhow::Result<Vec<PartStatus>> {
        match self.ask(&Request::Parts)? {
            Reply::Parts(parts) => Ok(parts),
            Reply::Done | Reply::Refused(_) => anyhow::bail!("the machine gave another answer than was asked for"),
        }
    }

    fn ask(&self, request: &Request) -> anyhow::Result<Reply> {
        match wire::ask(&self.folder.join(SOCKET), request)? {
            Reply::Refused(why) => anyhow::bail!("{}: {why}", self.folder.display()),
            reply @ (Reply::Done | Reply::Parts(_)) => Ok(reply),
        }
    }
}
