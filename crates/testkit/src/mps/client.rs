//! A simulated client of a daemon.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A client of a simulated daemon; it leaves when it is dropped, or when its process dies.
#[derive(Debug)]
pub struct Client {
    lines: BufReader<UnixStream>,
    grant: Grant,
}

/// What a client is told when it is let in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grant {
    /// Process id of the server that serves it.
    pub server: u32,
    /// UUID of the daemon's GPU.
    pub gpu: String,
    /// The daemon's limit of device memory, in bytes.
    pub memory: Option<u64>,
    /// The daemon's share of the multiprocessors in percent.
    pub percent: f64,
}

/// Breaks a client's GPU work from outside of the thread that waits for its end.
#[derive(Debug)]
pub struct Trigger(UnixStream);

impl Client {
    /// Joins the daemon of a pipe directory as the process `pid`, as a CUDA program does when it makes a context.
    ///
    /// # Errors
    /// When no daemon listens, or it turns the client away (with CUDA's error code as the text).
    pub fn connect(pipe: &Path, pid: u32) -> io::Result<Self> {
        Self::introduce(pipe, &format!("join {pid}"))
    }

    /// The same as a process of another user.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_as(pipe: &Path, pid: u32, user: u32) -> io::Result<Self> {
        Self::introduce(pipe, &format!("join {pid} {user}"))
    }

    /// Joins as this very process: the daemon learns its id, as it sees it in its own PID namespace, and its user from the
    /// kernel.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn join(pipe: &Path) -> io::Result<Self> {
        Self::introduce(pipe, "join")
    }

    fn introduce(pipe: &Path, words: &str) -> io::Result<Self> {
        let mut stream = UnixStream::connect(pipe.join("control"))?;
        writeln!(stream, "{words}")?;
        let mut client = Self { lines: BufReader::new(stream), grant: Grant::default() };
        let reply = client.read_line()?;
        client.grant = Grant::parse(&reply).ok_or_else(|| io::Error::other(reply))?;
        Ok(client)
    }

    /// Process id of the server that serves it.
    #[must_use]
    pub const fn server(&self) -> u32 {
        self.grant.server
    }

    /// What it was told when it was let in.
    #[must_use]
    pub const fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Makes a fatal fault, such as a kernel that writes to a bad address: every client of the server fails.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub fn fault(&mut self) -> io::Result<()> {
        self.trigger()?.fault()
    }

    /// The means to do so while another thread waits for the client's end.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub fn trigger(&self) -> io::Result<Trigger> {
        self.lines.get_ref().try_clone().map(Trigger)
    }

    /// Waits for the daemon to end its work; CUDA's error code: `700` after a fault of any client of the server, `810` when
    /// it was terminated, `806` when its server is gone.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub fn wait_for_error(&mut self) -> io::Result<String> {
        self.read_line()
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim().to_owned())
    }
}

impl Trigger {
    /// Makes the fault.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub fn fault(&mut self) -> io::Result<()> {
        writeln!(self.0, "fault")
    }
}

impl Grant {
    fn parse(reply: &str) -> Option<Self> {
        let mut words = reply.strip_prefix("server ")?.split(' ');
        let (server, gpu) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        let memory = words.next()?.parse().ok();
        Some(Self { server, gpu, memory, percent: words.next()?.parse().ok()? })
    }
}
