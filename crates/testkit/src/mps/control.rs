//! The simulated control daemon.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::log::Log;
use super::options::Daemon;
use super::tables::Tables;
use super::three::Route;
use super::{Start, caller, command, server, three};

/// Between two looks at the socket, or at the clients that a `quit` waits for.
const LOOK: Duration = Duration::from_millis(5);

/// A daemon that runs.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) log: Log,
    pub(super) pipe: PathBuf,
    pub(super) options: Daemon,
    pub(super) over: AtomicBool,
    tables: Mutex<Tables>,
    /// Told whenever a client or a server has gone.
    pub(super) changed: Condvar,
    /// Held by a command that keeps the daemon, which has one thread, from every other one.
    pub(super) blocked: Mutex<()>,
}

/// Runs a daemon until it is told to quit.
pub(super) fn run(pipe: &Path, log: &Path, options: Daemon) -> io::Result<ExitCode> {
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
    let control = Arc::new(Control::new(pipe, log, options));
    control.log.control(&format!("Starting control daemon using socket {}", socket.display()));
    let how =
        format!("To connect CUDA applications to this daemon, set env CUDA_MPS_PIPE_DIRECTORY={}", pipe.display());
    control.log.control(&how);
    let listener = listen(&socket, 0o666)?;
    make_files(pipe)?;
    serve(&control, &listener)
}

/// A socket for everybody, in the place of a stale one.
pub(super) fn listen(socket: &Path, mode: u32) -> io::Result<UnixListener> {
    drop(fs::remove_file(socket));
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// What else the real daemon has in its pipe directory, but for the pipe `log`.
fn make_files(pipe: &Path) -> io::Result<()> {
    drop(listen(&pipe.join("control_privileged"), 0o755)?);
    for (name, text) in
        [("control_lock", String::new()), ("nvidia-cuda-mps-control.pid", std::process::id().to_string())]
    {
        let path = pipe.join(name);
        drop(fs::remove_file(&path));
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o666).open(path)?;
        file.write_all(text.as_bytes())?;
    }
    Ok(())
}

fn serve(control: &Arc<Control>, listener: &UnixListener) -> io::Result<ExitCode> {
    listener.set_nonblocking(true)?;
    while !control.over.load(Ordering::SeqCst) {
        control.reap();
        match listener.accept() {
            Ok((stream, _address)) => {
                stream.set_nonblocking(false)?;
                control.log.control("Accepting connection...");
                let control = Arc::clone(control);
                std::thread::spawn(move || converse(&control, stream, &Route::Main));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOOK),
            Err(error) => return Err(error),
        }
    }
    control.end_servers();
    // The real one leaves its sockets behind.
    drop(fs::remove_file(control.pipe.join("nvidia-cuda-mps-control.pid")));
    control.log.control("Exit with status 0");
    Ok(ExitCode::SUCCESS)
}

/// One connection: a client that stays, or a caller with one command. Who left early is not told anything.
pub(super) fn converse(control: &Arc<Control>, stream: UnixStream, route: &Route) {
    let mut line = String::new();
    let mut lines = BufReader::new(stream);
    if lines.read_line(&mut line).is_err() {
        return;
    }
    control.wait_while_blocked();
    match line.trim().strip_prefix("join") {
        Some(who) => drop(control.serve_client(who, lines, route)),
        None => drop(answer(control, line.trim(), lines.into_inner())),
    }
}

fn answer(control: &Arc<Control>, line: &str, mut stream: UnixStream) -> io::Result<()> {
    control.log.control("NEW UI");
    control.log.control(&format!("Cmd:{line}"));
    let reply = if control.options.three { three::obey(control, line) } else { command::obey(control, line) }?;
    for told in reply.text.lines() {
        control.log.control(told);
    }
    stream.write_all(reply.text.as_bytes())?;
    control.log.control("UI closed");
    drop(stream);
    if reply.quits {
        control.over.store(true, Ordering::SeqCst);
    }
    Ok(())
}

impl Control {
    fn new(pipe: &Path, log: &Path, options: Daemon) -> Self {
        Self {
            log: Log::new((!options.foreground).then(|| log.to_owned())),
            pipe: pipe.to_owned(),
            options,
            over: AtomicBool::new(false),
            tables: Mutex::new(Tables::default()),
            changed: Condvar::new(),
            blocked: Mutex::new(()),
        }
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while_blocked(&self) {
        drop(self.blocked.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits with the tables in hand until `done`, or for at most `limit`; whether it was done.
    pub(super) fn wait_until(&self, limit: Option<Duration>, mut done: impl FnMut(&Tables) -> bool) -> bool {
        let (mut tables, mut waited) = (self.tables(), Duration::ZERO);
        while !done(&tables) {
            if limit.is_some_and(|limit| waited >= limit) || self.over.load(Ordering::SeqCst) {
                return false;
            }
            let (again, _timed_out) = self.changed.wait_timeout(tables, LOOK).unwrap_or_else(PoisonError::into_inner);
            tables = again;
            waited += LOOK;
        }
        true
    }

    /// Notices servers that have ended by themselves or were killed.
    fn reap(&self) {
        let mut tables = self.tables();
        let ended: Vec<(u32, i32)> = tables
            .servers
            .iter_mut()
            // A server that was killed by a signal is told as one that exited with 0, as the real daemon does.
            .filter_map(|(pid, server)| Some((*pid, server.child.try_wait().ok()??.code().unwrap_or(0))))
            .collect();
        for (pid, status) in ended {
            drop(tables.remove_server(pid));
            self.log.control(&format!("Server {pid} exited with status {status}"));
            self.changed.notify_all();
        }
    }

    pub(super) fn end_servers(&self) {
        let servers: Vec<u32> = self.tables().servers.keys().copied().collect();
        for pid in servers {
            self.end_server(pid);
        }
    }

    /// Ends a server; whether there was one.
    pub(super) fn end_server(&self, pid: u32) -> bool {
        let Some(mut server) = self.tables().remove_server(pid) else { return false };
        for text in ["Server has been notified to shutdown", "Waiting for current clients to finish", "Exiting"] {
            self.log.server(pid, text);
        }
        drop(server.child.kill());
        drop(server.child.wait());
        self.log.control(&format!("Server {pid} exited with status 0"));
        self.changed.notify_all();
        true
    }
}
