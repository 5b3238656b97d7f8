//! Clients of a simulated daemon: let in, kept waiting, turned away, broken by a fault, gone.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::command::device;
use super::control::Control;
use super::tables::{Connected, Limits, Server};
use super::three::Route;
use super::{ServerStart, caller, server};

/// How often a daemon starts a server that does not come up for a client (seen by others on driver 580).
const TRIES: u32 = 6;
/// How long a server that leaves for one of another user says `FAULT` (a fifth of a second on driver 580).
const LEAVING: Duration = Duration::from_millis(50);
/// CUDA's code for a client that no server takes.
const CONNECTION_FAILED: &str = "805";
/// CUDA's code for a client of a server in fault.
const NOT_READY: &str = "807";

/// Who a client is: as the kernel says of its connection, or as a test says.
#[derive(Debug, Clone, Copy)]
struct Who {
    pid: u32,
    user: u32,
}

impl Who {
    /// Reads `[PID [USER]]`.
    fn of(text: &str, stream: &UnixStream) -> io::Result<Self> {
        let peer = socket_peercred(stream)?;
        let mut words = text.split_whitespace().map(|word| word.parse().ok());
        let pid = words.next().flatten().unwrap_or_else(|| peer.pid.as_raw_nonzero().get().unsigned_abs());
        Ok(Self { pid, user: words.next().flatten().unwrap_or_else(|| peer.uid.as_raw()) })
    }
}

impl Control {
    /// Serves a client until its stream ends.
    pub(super) fn serve_client(&self, who: &str, lines: BufReader<UnixStream>, route: &Route) -> io::Result<()> {
        let who = Who::of(who, lines.get_ref())?;
        let admitted = self.admit(who, route)?;
        let mut stream = lines.get_ref().try_clone()?;
        match admitted {
            Ok((server, limits)) => {
                self.enter(who.pid, server, stream.try_clone()?, route);
                let memory = limits.memory.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
                let told = writeln!(stream, "server {server} {} {memory} {}", device(), limits.percent);
                let heard = told.and_then(|()| self.listen_to(lines, server));
                self.leave(who.pid, server);
                heard
            }
            Err(code) => {
                self.changed.notify_all();
                writeln!(stream, "{code}")
            }
        }
    }

    /// A server for a client, or CUDA's code for a refusal.
    fn admit(&self, who: Who, route: &Route) -> io::Result<Result<(u32, Limits), &'static str>> {
        let user = if self.options.multi_user { 0 } else { who.user };
        if self.options.three {
            return Ok(self.route(user, route));
        }
        let Some(server) = self.server_for(Who { user, ..who })? else { return Ok(Err(CONNECTION_FAILED)) };
        let scripted = caller::script()?.server_status.is_some_and(|status| status == "FAULT");
        let tables = self.tables();
        let limits = tables.servers.get(&server).map(|server| (server.limits, server.status() == "FAULT"));
        Ok(match limits {
            Some((limits, false)) if !scripted => Ok((server, limits)),
            _ => {
                self.refuse(server, who.pid);
                Err(NOT_READY)
            }
        })
    }

    fn refuse(&self, server: u32, pid: u32) {
        let who = format!("{{PID: {pid}, Context ID: 0}}");
        self.log.server(server, &format!("Server teardown in progress. Refusing to accept new client {who}"));
        self.log.server(server, &format!("Failed to accept client {who} with status 807"));
    }

    /// The server of a user: the one that runs, once the clients of another user have left it, or a new one. `None` when
    /// none comes up.
    fn server_for(&self, who: Who) -> io::Result<Option<u32>> {
        loop {
            let present = self.tables().servers.iter().next().map(|(pid, server)| (*pid, server.user));
            let Some((pid, user)) = present else {
                self.log.control(&waiting(who));
                return self.start_server(who.user);
            };
            if user == who.user {
                self.log.control(&format!("NEW CLIENT {} from user {}: Server already exists", who.pid, who.user));
                return Ok(Some(pid));
            }
            self.log.control(&waiting(who));
            self.replace(pid);
        }
    }

    /// Ends a server for one of another user once its clients have left.
    fn replace(&self, pid: u32) {
        self.log.control(&format!("Try shutting down server {pid}, backoff is disabled"));
        let active = self.tables().clients_of(pid).len();
        if active > 0 {
            self.log.control(&format!("Server {pid} has {active} active worker threads. Server will not shutdown."));
        }
        self.wait_until(None, |tables| tables.clients_of(pid).is_empty());
        if let Some(server) = self.tables().servers.get_mut(&pid) {
            server.leaving = true;
        }
        std::thread::sleep(LEAVING);
        self.end_server(pid);
    }

    /// Starts the server of a user, where there is none, as `start_server` does.
    pub(super) fn start_server(&self, user: u32) -> io::Result<Option<u32>> {
        let scripted = caller::script()?.server_start;
        // The server runs as its client's user.
        let start = if self.is_reachable_by(user) { scripted } else { ServerStart::Exit(0) };
        let tries = if matches!(start, ServerStart::Exit(_)) { TRIES } else { 1 };
        for _ in 0..tries {
            let mut tables = self.tables();
            if let Some((pid, _)) = tables.servers.iter().find(|(_, server)| server.user == user) {
                return Ok(Some(*pid));
            }
            let mut child = server::start()?;
            let pid = child.id();
            self.log.starting(pid, user);
            match start {
                ServerStart::Exit(status) => {
                    drop(tables);
                    self.fail(&mut child, status);
                    continue;
                }
                ServerStart::Late(milliseconds) => std::thread::sleep(Duration::from_millis(milliseconds)),
                ServerStart::Well => {}
            }
            let limits = tables.default_limits(&device());
            let server = Server { child, user, affected: BTreeSet::new(), leaving: false, limits };
            tables.servers.insert(pid, server);
            self.announce(pid, limits);
            return Ok(Some(pid));
        }
        Ok(None)
    }

    /// Whether a server of a user can reach the sockets: the folders above them let others pass.
    fn is_reachable_by(&self, user: u32) -> bool {
        let open = |folder: &Path| folder.metadata().is_ok_and(|folder| folder.permissions().mode() & 0o001 != 0);
        user == geteuid().as_raw() || self.pipe.ancestors().all(open)
    }

    fn fail(&self, child: &mut Child, status: i32) {
        drop(child.kill());
        drop(child.wait());
        if status != 0 {
            self.log.control("Server encountered a fatal exception. Shutting down");
        }
        self.log.control(&format!("Server {} exited with status {status}", child.id()));
    }

    pub(super) fn announce(&self, pid: u32, limits: Limits) {
        self.log.server(pid, "Startup");
        self.log.control(&format!("NEW SERVER {pid}: Ready"));
        self.log.server(pid, &format!("Active Threads Percentage set to {:.1}", limits.percent));
        if let Some(bytes) = limits.memory {
            self.log.server(pid, &format!("Device pinned memory limit for device 0 set to {bytes:#x} bytes"));
        }
        self.log.server(pid, "Server has started");
    }

    fn enter(&self, pid: u32, server: u32, stream: UnixStream, route: &Route) {
        let mut tables = self.tables();
        tables.count += 1;
        let (number, namespace) = (tables.count, route.namespace());
        tables.clients.insert(pid, Connected { stream, server, number, namespace });
        drop(tables);
        for context in [0, 1] {
            self.log.server(server, &format!("Client {{PID: {pid}, Context ID: {context}}} connected"));
        }
        self.log.server(server, &format!("Status of client {{PID: {pid}, Context ID: 1}} is ACTIVE"));
    }

    /// Hears a client until its end; `fault` is a fatal error of its kernel.
    fn listen_to(&self, mut lines: BufReader<UnixStream>, server: u32) -> io::Result<()> {
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            if line.trim() == "fault" {
                self.fault(server);
            }
            line.clear();
        }
        Ok(())
    }

    fn leave(&self, pid: u32, server: u32) {
        let last_affected = self.tables().remove_client(pid);
        self.log.server(
            server,
            &format!("Client {{PID: {pid}, Context ID: 1}} exiting. Number of active client contexts is 0."),
        );
        if last_affected {
            self.log.server(server, "Destroy server context on device 0 (Simulated GPU)");
        }
        self.log.server(server, &format!("Client process {pid} disconnected"));
        self.changed.notify_all();
    }

    /// A fatal fault: every client of the server fails, and the log names the one that came first, whoever it was (seen on
    /// driver 580 where every client has work on the GPU).
    fn fault(&self, pid: u32) {
        let mut tables = self.tables();
        let clients = tables.clients_of(pid);
        let Some(first) = clients.first() else { return };
        self.log.server(pid, &format!("Client {{PID: {first}, Context: 1}} encountered a fatal GPU error."));
        self.log.server(pid, "Server is handling a fatal GPU error.");
        for client in &clients {
            self.log.server(pid, &format!("Client {{PID: {client}, Context ID: 1}} on device 0 to be torn down"));
        }
        for client in &clients {
            self.log
                .server(pid, &format!("All clients belonging to error trigging process {client} will be torn down"));
            let who = format!("Client {{PID: {client}, Context ID: 1}} on the error-trigging process {client}");
            self.log.server(pid, &format!("{who} to be torn down"));
        }
        for text in
            ["The following devices will be reset:", "0", "The following client process have a sticky error set:"]
        {
            self.log.server(pid, text);
        }
        for client in &clients {
            self.log.server(pid, &client.to_string());
        }
        if let Some(server) = tables.servers.get_mut(&pid) {
            server.affected.extend(&clients);
        }
        for client in &clients {
            if let Some(connected) = tables.clients.get_mut(client) {
                connected.tell("700");
            }
        }
    }
}

fn waiting(who: Who) -> String {
    format!("NEW CLIENT {} from user {}: Server is not ready, push client to pending list", who.pid, who.user)
}
