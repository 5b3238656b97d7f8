//! The dialogue with a control daemon: questions and orders, each with a bound.
//!
//! Process ids in replies are what somebody says who listens in the pipe directory: normally the daemon, at worst a client
//! that put a socket of its own there. Check a process before you signal it.

mod exchange;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use cotenant_model::{Bytes, Percent};

use crate::clock::Deadline;
use crate::limits::ClientLimits;
use crate::reply::{
    NamedServer, ServerStatus, excerpt, is_missing, parse_memory, parse_named_clients, parse_named_servers,
    parse_percent, parse_pids, parse_status, parse_termination,
};
use exchange::Exchange;

pub use exchange::DialogueError;
pub(crate) use exchange::base_environment;

/// Between two questions of a wait.
const PAUSE: Duration = Duration::from_millis(20);

/// The protocol that a daemon speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Version 2: commands on the standard input of the control program, one server at a time.
    Two,
    /// Version 3 (drivers from 615 on): commands as its arguments, named servers and namespaces.
    Three,
}

/// A server of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Process id.
    pub pid: u32,
    /// What it says of itself.
    pub status: ServerStatus,
    /// Process ids of its clients.
    pub clients: Vec<u32>,
}

/// Speaks to the daemon of one pipe directory. A question takes about 2 ms (driver 580), and as long as its patience when
/// the daemon hangs.
#[derive(Debug, Clone)]
pub struct Dialogue {
    exchange: Exchange,
}

impl Dialogue {
    /// A dialogue through a control program with the daemon of a pipe directory, each question bounded by `patience`.
    #[must_use]
    pub fn new(program: &Path, pipe: &Path, patience: Duration, dialect: Dialect) -> Self {
        let (program, pipe) = (program.to_owned(), pipe.to_owned());
        Self { exchange: Exchange { program, pipe, patience, dialect } }
    }

    /// The protocol that it speaks.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.exchange.dialect
    }

    /// The daemon's pipe directory.
    #[must_use]
    pub const fn pipe(&self) -> &PathBuf {
        &self.exchange.pipe
    }

    /// Whether the daemon answers in time.
    pub(crate) fn answers(&self, patience: Duration) -> bool {
        self.ask_within(self.list_servers(), patience).is_ok()
    }

    const fn list_servers(&self) -> &'static str {
        match self.dialect() {
            Dialect::Two => "get_server_list",
            Dialect::Three => "server list --format=csv,noheader",
        }
    }

    /// Sends a command and waits for the whole reply.
    pub(crate) fn ask(&self, command: &str) -> Result<String, DialogueError> {
        self.exchange.ask(command)
    }

    /// The same with another patience.
    pub(crate) fn ask_within(&self, command: &str, patience: Duration) -> Result<String, DialogueError> {
        self.exchange.ask_within(command, patience)
    }

    /// Asks, and reads the reply with `parse`.
    fn read<T>(&self, command: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, DialogueError> {
        let reply = self.ask(command)?;
        parse(&reply).ok_or_else(|| odd(command, &reply))
    }

    fn named_servers(&self) -> Result<Vec<NamedServer>, DialogueError> {
        self.read(self.list_servers(), parse_named_servers)
    }

    /// Process ids of the servers.
    ///
    /// # Errors
    /// When the daemon does not answer usably.
    pub fn servers(&self) -> Result<Vec<u32>, DialogueError> {
        match self.dialect() {
            Dialect::Two => self.read(self.list_servers(), parse_pids),
            Dialect::Three => Ok(self.named_servers()?.into_iter().filter_map(|server| server.pid).collect()),
        }
    }

    /// Process ids of a server's clients; none of one that is gone.
    ///
    /// # Errors
    /// When the daemon does not answer usably.
    pub fn clients(&self, server: u32) -> Result<Vec<u32>, DialogueError> {
        match self.dialect() {
            Dialect::Two => self.read(&format!("get_client_list {server}"), |reply| {
                if is_missing(reply) { Some(Vec::new()) } else { parse_pids(reply) }
            }),
            Dialect::Three => {
                let Some(name) = self.name_of(server)? else { return Ok(Vec::new()) };
                let command = format!("client list --server={name} --format=csv,noheader");
                let clients = self.read(&command, parse_named_clients)?;
                Ok(clients.into_iter().map(|client| client.pid).collect())
            }
        }
    }

    /// What a server says of itself.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn status(&self, server: u32) -> Result<ServerStatus, DialogueError> {
        match self.dialect() {
            Dialect::Two => Ok(parse_status(&self.ask(&format!("get_server_status {server}"))?)),
            Dialect::Three => {
                let found = self.named_servers()?.into_iter().find(|named| named.pid == Some(server));
                Ok(found.map_or(ServerStatus::Missing, |named| named.status))
            }
        }
    }

    fn name_of(&self, server: u32) -> Result<Option<String>, DialogueError> {
        Ok(self.named_servers()?.into_iter().find(|named| named.pid == Some(server)).map(|named| named.name))
    }

    /// Every server with its status and clients.
    ///
    /// # Errors
    /// When the daemon does not answer usably.
    pub fn examine(&self) -> Result<Vec<Server>, DialogueError> {
        let mut servers = Vec::new();
        for pid in self.servers()? {
            let status = self.status(pid)?;
            // One that left between two questions is none.
            if status != ServerStatus::Missing {
                servers.push(Server { pid, status, clients: self.clients(pid)? });
            }
        }
        Ok(servers)
    }

    /// Starts a server for a user ahead of its first client (protocol 2).
    ///
    /// # Errors
    /// When the daemon does not answer usably.
    pub fn start_server(&self, user: u32) -> Result<(), DialogueError> {
        self.ask(&format!("start_server -uid {user}")).map(drop)
    }

    /// Ends the GPU work of a client, which then fails with CUDA error 810: what must come before a SIGKILL of a client that
    /// works. Its process stays a client until it exits.
    ///
    /// # Errors
    /// [`DialogueError::Faulty`], and nothing done, when the server is in fault: the daemon would answer nobody until that
    /// client has exited (seen on driver 580). Else when the daemon refuses or does not answer.
    pub fn terminate_client(&self, server: u32, client: u32) -> Result<(), DialogueError> {
        if self.status(server)? == ServerStatus::Fault {
            return Err(DialogueError::Faulty { server });
        }
        let command = match self.dialect() {
            Dialect::Two => format!("terminate_client {server} {client}"),
            Dialect::Three => format!("client terminate {client}"),
        };
        let reply = self.ask(&command)?;
        let done = self.dialect() == Dialect::Three || parse_termination(&reply) == Some(0);
        if done { Ok(()) } else { Err(odd(&command, &reply)) }
    }

    /// Ends a server; with `force` also when it has clients, which then fail with CUDA error 806. The next client gets a new
    /// server (protocol 2; in 33 ms on driver 580, in a fault too). Protocol 3 needs [`crate::three::set_up`] after it.
    ///
    /// # Errors
    /// When the daemon does not answer usably.
    pub fn shut_down_server(&self, server: u32, force: bool) -> Result<(), DialogueError> {
        let command = match self.dialect() {
            Dialect::Two => format!("shutdown_server {server}{}", if force { " -f" } else { "" }),
            Dialect::Three => {
                let Some(name) = self.name_of(server)? else { return Ok(()) };
                format!("server delete {name}{}", if force { " --force" } else { "" })
            }
        };
        self.ask(&command).map(drop)
    }

    /// Waits until a server has no clients; whether that came in `patience`.
    ///
    /// # Errors
    /// When the daemon does not answer usably.
    pub fn wait_until_no_clients(&self, server: u32, patience: Duration) -> Result<bool, DialogueError> {
        wait(patience, || Ok(self.clients(server)?.is_empty()))
    }

    /// Waits until every server is active, no server being well too; whether that came in `patience`.
    ///
    /// # Errors
    /// When the daemon does not answer usably.
    pub fn wait_until_active(&self, patience: Duration) -> Result<bool, DialogueError> {
        wait(patience, || Ok(self.examine()?.iter().all(|server| server.status == ServerStatus::Active)))
    }

    /// The limits that the next servers' clients get by default, as the daemon tells them: memory in whole gigabytes from one
    /// on (protocol 2).
    ///
    /// # Errors
    /// When the daemon does not answer usably.
    pub(crate) fn default_limits(&self) -> Result<(Option<Bytes>, f64), DialogueError> {
        let memory = self.read("get_default_device_pinned_mem_limit 0", |reply| {
            if reply.trim().is_empty() { Some(None) } else { parse_memory(reply).map(Some) }
        })?;
        Ok((memory, self.read("get_default_active_thread_percentage", parse_percent)?))
    }

    /// Sets the limits that clients get by default (protocol 2): of the next servers, and for the next clients of those that
    /// run. The device is ordinal 0: a daemon sees one GPU. A memory limit that was set stays when none is wanted.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub(crate) fn set_default_limits(&self, limits: ClientLimits) -> Result<(), DialogueError> {
        let percent = limits.percent.map_or(100, Percent::get);
        let memory = limits.mebibytes();
        self.ask(&format!("set_default_active_thread_percentage {percent}"))?;
        if let Some(memory) = memory {
            self.ask(&format!("set_default_device_pinned_mem_limit 0 {memory}M"))?;
        }
        for server in self.servers()? {
            self.ask(&format!("set_active_thread_percentage {server} {percent}"))?;
            if let Some(memory) = memory {
                self.ask(&format!("set_device_pinned_mem_limit {server} 0 {memory}M"))?;
            }
        }
        Ok(())
    }
}

fn odd(command: &str, reply: &str) -> DialogueError {
    DialogueError::Reply { command: command.to_owned(), reply: excerpt(reply) }
}

fn wait(patience: Duration, mut done: impl FnMut() -> Result<bool, DialogueError>) -> Result<bool, DialogueError> {
    let deadline = Deadline::after(patience);
    loop {
        if done()? {
            return Ok(true);
        }
        if deadline.passed() {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
}
