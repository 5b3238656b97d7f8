//! A way into a machine's network: what connects to a socket made outside is carried to an address inside.
//!
//! A socket stays in the network namespace it was made in. The harness listens on loopback outside and hands the socket
//! to the machine's first process, which connects inside; so the machine needs no address that others could reach.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Time to connect inside, where nothing is far.
const LIMIT: Duration = Duration::from_secs(5);

/// Carries connections for ever.
pub(super) fn keep(listener: &TcpListener, inside: SocketAddr) {
    for outer in listener.incoming() {
        match outer {
            Ok(outer) => drop(std::thread::spawn(move || drop(carry(outer, inside)))),
            // Out of descriptors: connections that end give some back.
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Carries one connection; where nobody listens inside, it is closed.
fn carry(outer: TcpStream, inside: SocketAddr) -> io::Result<()> {
    let inner = TcpStream::connect_timeout(&inside, LIMIT)?;
    let (from_outer, to_inner) = (outer.try_clone()?, inner.try_clone()?);
    let back = std::thread::spawn(move || copy(&inner, &outer));
    copy(&from_outer, &to_inner);
    drop(back.join());
    Ok(())
}

/// Copies until the source ends or the target is closed, and tells the target.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    drop(io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Write));
    drop(from.shutdown(Shutdown::Read));
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_door_carries_both_ways_and_closes_where_nobody_is() {
        let inside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, door) = (inside.local_addr().unwrap(), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let outside = door.local_addr().unwrap();
        std::thread::spawn(move || keep(&door, address));
        let mut caller = TcpStream::connect(outside).unwrap();
        let (mut callee, _peer) = inside.accept().unwrap();
        caller.write_all(b"question").unwrap();
        caller.shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        callee.read_to_string(&mut heard).unwrap();
        callee.write_all(b"answer").unwrap();
        drop((callee, inside));
        let mut answer = String::new();
        caller.read_to_string(&mut answer).unwrap();
        assert_eq!((heard.as_str(), answer.as_str()), ("question", "answer"));
        let mut refused = TcpStream::connect(outside).unwrap();
        assert_eq!(refused.read(&mut [0]).unwrap_or_default(), 0);
    }
}
