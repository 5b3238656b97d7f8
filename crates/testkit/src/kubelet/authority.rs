//! A call with any text for `:authority`, in HTTP/2 frames of our own: no gRPC library sends one that is not valid.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// How a server took a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It answered.
    Answered,
    /// It refused without an answer.
    Refused,
    /// It broke off the call, with this code of HTTP/2 (1 is a breach of protocol).
    Reset(u32),
    /// It hung up.
    Closed,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(5);

/// Kinds of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// Flags: the last of a stream, the last of the headers.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Calls `GetDevicePluginOptions` at a socket.
pub(super) async fn options(socket: &Path, authority: &str) -> anyhow::Result<Reply> {
    let mut stream = UnixStream::connect(socket).await.with_context(|| format!("dialling {}", socket.display()))?;
    let mut headers = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/v1beta1.DevicePlugin/GetDevicePluginOptions"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // A field that is not indexed, with a new name.
        headers.push(0);
        for text in [name, value] {
            headers.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).context("a short text")?);
            headers.extend_from_slice(text.as_bytes());
        }
    }
    let frames = [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &[])?,
        frame(HEADERS, END_HEADERS, 1, &headers)?,
        // An empty message: not compressed, no bytes.
        frame(DATA, END_STREAM, 1, &[0; 5])?,
    ];
    stream.write_all(&frames.concat()).await.context("sending the call")?;
    tokio::time::timeout(PATIENCE, reply(&mut stream)).await.context("the server says nothing")?
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> anyhow::Result<Vec<u8>> {
    let length = u32::try_from(payload.len())?.to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    Ok([&head, payload].concat())
}

async fn reply(stream: &mut UnixStream) -> anyhow::Result<Reply> {
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return Ok(Reply::Closed);
        }
        let [a, b, c, kind, flags, number @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c]))?;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.context("reading a frame")?;
        let is_last = flags & END_STREAM != 0;
        match (u32::from_be_bytes(number), kind) {
            (1, DATA) => return Ok(Reply::Answered),
            (1, HEADERS) if is_last => return Ok(Reply::Refused),
            (1, RESET) => return Ok(Reply::Reset(code(&payload))),
            (_, GOAWAY) => return Ok(Reply::Closed),
            _ => {}
        }
    }
}

fn code(payload: &[u8]) -> u32 {
    payload.first_chunk().copied().map_or(0, u32::from_be_bytes)
}
