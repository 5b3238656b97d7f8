//! The simulated control daemon.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::log::Log;
use super::{Start, caller, command, server};

/// Between two looks at the socket, or at the clients that a `quit` waits for.
const LOOK: Duration = Duration::from_millis(5);

/// A daemon that runs.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) log: Log,
    pipe: PathBuf,
    over: AtomicBool,
    tables: Mutex<Tables>,
}

/// What a daemon knows; all of it is lost when it quits.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) servers: BTreeMap<u32, Child>,
    /// Clients by process id, each with the way to tell it of an error.
    pub(super) clients: BTreeMap<u32, UnixStream>,
    /// What was set: by the command's name after `set_` and its arguments but the last.
    pub(super) settings: BTreeMap<String, String>,
}

/// Runs a daemon until it is told to quit.
pub(super) fn run(pipe: &Path, log: &Path) -> io::Result<ExitCode> {
    let script = caller::script()?;
    if script.deaf {
        caller::ignore_sigterm()?;
    }
    match script.start {
        Start::Well => {}
        Start::Late(milliseconds) => std::thread::sleep(Duration::from_millis(milliseconds)),
        Start::Never => return server::run(false).map(|()| ExitCode::FAILURE),
        Start::Die(words) => return Err(io::Error::other(words)),
    }
    fs::create_dir_all(pipe)?;
    let socket = pipe.join("control");
    if UnixStream::connect(&socket).is_ok() {
        return Err(io::Error::other("An instance of this daemon is already running"));
    }
    drop(fs::remove_file(&socket));
    let listener = UnixListener::bind(&socket)?;
    fs::write(pipe.join("nvidia-cuda-mps-control.pid"), format!("{}\n", std::process::id()))?;
    let control = Arc::new(Control::new(pipe, log));
    control.log.control(&format!("Starting control daemon using socket {}", socket.display()));
    let how =
        format!("To connect CUDA applications to this daemon, set env CUDA_MPS_PIPE_DIRECTORY={}", pipe.display());
    control.log.control(&how);
    serve(&control, &listener)
}

fn serve(control: &Arc<Control>, listener: &UnixListener) -> io::Result<ExitCode> {
    listener.set_nonblocking(true)?;
    while !control.over.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _address)) => {
                stream.set_nonblocking(false)?;
                control.log.control("Accepting connection...");
                let control = Arc::clone(control);
                std::thread::spawn(move || converse(&control, stream));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOOK),
            Err(error) => return Err(error),
        }
    }
    control.end_servers();
    drop(fs::remove_file(control.pipe.join("control")));
    drop(fs::remove_file(control.pipe.join("nvidia-cuda-mps-control.pid")));
    control.log.control("Exit");
    Ok(ExitCode::SUCCESS)
}

/// One connection: a client that stays, or a caller with one command. Who left early is not told anything.
fn converse(control: &Control, stream: UnixStream) {
    let mut line = String::new();
    let mut lines = BufReader::new(stream);
    if lines.read_line(&mut line).is_err() {
        return;
    }
    let stream = lines.into_inner();
    match line.trim().strip_prefix("client ").map(str::parse) {
        Some(Ok(pid)) => drop(control.serve_client(pid, stream)),
        _ => drop(answer(control, line.trim(), stream)),
    }
}

fn answer(control: &Control, line: &str, mut stream: UnixStream) -> io::Result<()> {
    control.log.control("NEW UI");
    control.log.control(&format!("Cmd:{line}"));
    let reply = command::obey(control, line)?;
    stream.write_all(reply.text.as_bytes())?;
    control.log.control("UI closed");
    drop(stream);
    if reply.quits {
        control.over.store(true, Ordering::SeqCst);
    }
    Ok(())
}

impl Control {
    fn new(pipe: &Path, log: &Path) -> Self {
        Self {
            log: Log::new(log.to_owned()),
            pipe: pipe.to_owned(),
            over: AtomicBool::new(false),
            tables: Mutex::new(Tables::default()),
        }
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server of this daemon, started where there is none.
    pub(super) fn ensure_server(&self) -> io::Result<u32> {
        let mut tables = self.tables();
        if let Some(pid) = tables.servers.keys().next() {
            return Ok(*pid);
        }
        let child = server::start()?;
        let pid = child.id();
        self.log.control(&format!("Starting new server {pid} for user 0"));
        self.log.control(&format!("NEW SERVER {pid}: Ready"));
        self.log.server(pid, "Started server");
        tables.servers.insert(pid, child);
        Ok(pid)
    }

    fn serve_client(&self, pid: u32, mut stream: UnixStream) -> io::Result<()> {
        let server = self.ensure_server()?;
        self.log.control(&format!("NEW CLIENT {pid} from user 0: Server already exists"));
        if caller::script()?.status() == "FAULT" {
            return writeln!(stream, "807");
        }
        self.tables().clients.insert(pid, stream.try_clone()?);
        self.log.server(server, &format!("Client {{PID: {pid}, Context ID: 1}} connected"));
        writeln!(stream, "server {server}")?;
        // It says nothing more: the end of its stream is its end.
        let ended = stream.read(&mut [0]);
        self.tables().clients.remove(&pid);
        self.log.server(server, &format!("Client process {pid} disconnected"));
        ended.map(|_length| ())
    }

    /// Waits until no client is left, as `quit` does; for ever, unless there is a limit.
    pub(super) fn wait_for_clients(&self, limit: Option<Duration>) {
        let mut waited = Duration::ZERO;
        while !self.tables().clients.is_empty() && limit.is_none_or(|limit| waited < limit) {
            std::thread::sleep(LOOK);
            waited += LOOK;
        }
    }

    pub(super) fn end_servers(&self) {
        for (pid, mut child) in std::mem::take(&mut self.tables().servers) {
            for text in ["Server has been notified to shutdown", "Waiting for current clients to finish", "Exiting"] {
                self.log.server(pid, text);
            }
            drop(child.kill());
            drop(child.wait());
            self.log.control(&format!("Server {pid} exited with status 0"));
        }
    }
}
