//! The first process of a machine, within its namespaces.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::parts::Parts;
use super::wire::{self, Reply, Request};
use super::{INSIDE, READY, RECORD, SOCKET, SPECIFICATION, Specification, door, mounts};
use crate::process::Identity;

/// Turns this process, the first of new namespaces, into the machine of `folder`. It returns only when it cannot.
///
/// # Errors
/// When it is not the first process, or the machine cannot be set up.
pub fn run(folder: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(std::process::id() == 1, "only the first process of a namespace can be a machine's");
    // Before all else: from here on whoever reads the folder can end the machine. `/proc` is the host's still.
    let own = serde_json::to_vec(&Identity::of_this_process()?)?;
    fs::write(folder.join("draft"), own).and_then(|()| fs::rename(folder.join("draft"), folder.join(RECORD)))?;
    let specification = fs::read(folder.join(SPECIFICATION)).context("cannot read what the machine is to be")?;
    let specification: Specification = serde_json::from_slice(&specification)?;
    mounts::prepare(folder, &specification.binds)?;
    rustix::system::sethostname(specification.hostname.as_bytes()).context("cannot name the machine")?;
    let inside = Path::new(INSIDE);
    let listener = UnixListener::bind(inside.join(SOCKET)).context("cannot listen to the harness")?;
    let parts = Arc::new(Parts::new(inside.join("log")));
    let reaped = Arc::clone(&parts);
    std::thread::spawn(move || reaped.reap());
    if let Some(address) = specification.door {
        let outside = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        std::thread::spawn(move || door::keep(&outside, address));
    }
    // A harness that was killed meanwhile cannot read this, and its machine must not stay.
    writeln!(std::io::stdout(), "{READY}").context("the harness is gone")?;
    serve(&listener, &parts);
    Ok(())
}

fn serve(listener: &UnixListener, parts: &Parts) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        // One at a time, each of them short; who does not say what it wants is not waited for.
        drop(stream.set_read_timeout(Some(Duration::from_secs(5))));
        drop(answer(&stream, parts));
    }
}

fn answer(stream: &UnixStream, parts: &Parts) -> anyhow::Result<()> {
    let done = match wire::read(stream)? {
        Request::Start(part) => parts.start(part).map(|()| Reply::Done),
        Request::Again(name) => parts.start_again(&name).map(|()| Reply::Done),
        Request::Signal { name, signal } => parts.signal(&name, signal).map(|()| Reply::Done),
        Request::Parts => Ok(Reply::Parts(parts.list())),
    };
    wire::write(stream, &done.unwrap_or_else(|error| Reply::Refused(format!("{error:#}"))))
}
