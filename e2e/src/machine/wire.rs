//! What passes between the harness and the first process of a machine: a line of JSON each way, one pair a connection.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The first process answers at once; this is for a machine that is short of everything.
const LIMIT: Duration = Duration::from_secs(20);

/// A program that a machine keeps running until it ends or is told to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Name, also that of its log.
    pub name: String,
    /// Program, a path or a name to be found in `PATH`.
    pub program: String,
    /// Arguments.
    pub arguments: Vec<String>,
}

/// A part as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartStatus {
    /// Name.
    pub name: String,
    /// Process id within the machine.
    pub id: i32,
    /// How it ended; `None` while it runs.
    pub ended: Option<String>,
}

/// What the harness asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Request {
    /// Start a part; one of this name must not run.
    Start(Part),
    /// Start a part once more that has ended, by its name.
    Again(String),
    /// Send a signal to a part, by its number.
    Signal { name: String, signal: i32 },
    /// Tell of every part that was ever started.
    Parts,
}

/// What the machine answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reply {
    Done,
    Parts(Vec<PartStatus>),
    Refused(String),
}

/// Asks the machine whose first process listens on `socket`.
pub(super) fn ask(socket: &Path, request: &Request) -> anyhow::Result<Reply> {
    let stream = UnixStream::connect(socket).with_context(|| format!("nobody listens on {}", socket.display()))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write(&stream, request)?;
    read(&stream).with_context(|| format!("no answer on {}", socket.display()))
}

/// Writes one line.
pub(super) fn write(mut stream: &UnixStream, message: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(stream.write_all(&line)?)
}

/// Reads one line.
pub(super) fn read<T: DeserializeOwned>(stream: &UnixStream) -> anyhow::Result<T> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
