//! A simulated client of a daemon.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A client of a simulated daemon; it leaves when it is dropped, or when its process dies.
#[derive(Debug)]
pub struct Client {
    lines: BufReader<UnixStream>,
    server: u32,
}

impl Client {
    /// Joins the daemon of a pipe directory as the process `pid`, as a CUDA program does when it makes a context.
    ///
    /// # Errors
    /// When no daemon listens, or it turns the client away (with CUDA's error code as the text).
    pub fn connect(pipe: &Path, pid: u32) -> io::Result<Self> {
        let mut stream = UnixStream::connect(pipe.join("control"))?;
        writeln!(stream, "client {pid}")?;
        let mut client = Self { lines: BufReader::new(stream), server: 0 };
        let reply = client.read_line()?;
        let server = reply.strip_prefix("server ").and_then(|pid| pid.parse().ok());
        client.server = server.ok_or_else(|| io::Error::other(reply))?;
        Ok(client)
    }

    /// Process id of the server that serves it.
    #[must_use]
    pub const fn server(&self) -> u32 {
        self.server
    }

    /// Waits for the daemon to end its work; CUDA's error code, `810` when it was terminated.
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
