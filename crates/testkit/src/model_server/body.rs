//! The bytes of an answer and when each is written.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use tokio::time::Instant;

use super::script::{Behaviour, Fault};

/// An API's way to write messages.
pub(super) trait Wire: Send + 'static {
    /// Content type of a stream.
    const CONTENT_TYPE: &'static str;
    /// A piece of the answer.
    fn piece(&self, text: &str, thinking: bool) -> Vec<u8>;
    /// What ends a good answer of so many tokens.
    fn end(&self, tokens: u32, stopped: bool) -> Vec<u8>;
    /// An error in the stream.
    fn error(&self, message: &str) -> Vec<u8>;
}

/// One thing the server does with the connection.
enum Step {
    /// Waits until so long after the request came.
    At(Duration),
    /// Lets the HTTP server hand to the socket what was written: it does so whenever the body has nothing more.
    Pause,
    Write(Vec<u8>),
    Hang,
    Cut,
}

/// The text of a piece: its number, after a letter of two bytes, so that order and split letters can be checked.
pub(super) fn text_of(piece: u32) -> String {
    format!("é{piece} ")
}

/// The pieces of an answer in order, at most `limit` of them, without what ends it.
fn pieces<W: Wire>(wire: &W, behaviour: &Behaviour, tokens: u32, limit: u32) -> Vec<Step> {
    let count = tokens.div_ceil(behaviour.tokens_per_piece.max(1)).min(limit);
    let empty = (0..behaviour.empty_pieces).map(|_piece| Step::Write(wire.piece("", false)));
    let full = (0..count).flat_map(|piece| {
        let at = Duration::from_micros(behaviour.first_micros + behaviour.gap_micros * u64::from(piece));
        [Step::At(at), Step::Write(wire.piece(&text_of(piece), piece < behaviour.thinking_pieces))]
    });
    empty.chain(full).collect()
}

/// Everything the server does for one request, lazily, because some answers never end.
fn steps<W: Wire>(wire: W, behaviour: &Behaviour, allowed: u32) -> Box<dyn Iterator<Item = Step> + Send> {
    let tokens = behaviour.stops_at.map_or(allowed, |stop| stop.min(allowed));
    let stopped = tokens < allowed;
    let take = |limit: u32| pieces(&wire, behaviour, tokens, limit);
    let (good, last) = match behaviour.fault {
        Some(Fault::HangsAfter(count)) => (take(count), vec![Step::Hang]),
        Some(Fault::DropsAfter(count)) => (take(count), vec![Step::Pause, Step::Cut]),
        Some(Fault::EndsAfter(count)) => (take(count), Vec::new()),
        Some(Fault::ErrorAfter(count)) => (take(count), vec![Step::Write(wire.error("CUDA error: out of memory"))]),
        Some(Fault::GarbageAfter(count)) => (take(count), vec![Step::Write(b"data: \x1b[31m{]\x07\n\n".to_vec())]),
        Some(Fault::EndlessLine) => {
            let start = std::iter::once(Step::Write(b"data: {\"response\":\"".to_vec()));
            return Box::new(start.chain(std::iter::repeat_with(|| Step::Write(vec![b'x'; 1 << 16]))));
        }
        Some(Fault::NeverStops) => {
            return Box::new((0..u32::MAX).map(move |piece| Step::Write(wire.piece(&text_of(piece), false))));
        }
        _ => (take(u32::MAX), vec![Step::Write(wire.end(tokens, stopped))]),
    };
    Box::new(good.into_iter().chain(last))
}

/// Cuts writes into runs of `size` bytes, each on its own way through the socket.
fn cut_up(step: Step, size: usize) -> Vec<Step> {
    match step {
        Step::Write(ref bytes) => {
            bytes.chunks(size.max(1)).flat_map(|run| [Step::Write(run.to_vec()), Step::Pause]).collect()
        }
        Step::At(_) | Step::Pause | Step::Hang | Step::Cut => vec![step],
    }
}

/// The body of the answer to a request that allows so many tokens.
pub(super) fn stream_body<W: Wire>(wire: W, behaviour: &Behaviour, allowed: u32) -> Body {
    let size = behaviour.write_bytes;
    let steps = steps(wire, behaviour, allowed);
    let steps: Box<dyn Iterator<Item = Step> + Send> = match size {
        Some(size) => Box::new(steps.flat_map(move |step| cut_up(step, size))),
        None => steps,
    };
    let start = Instant::now();
    Body::from_stream(stream::unfold(steps, move |mut steps| async move {
        loop {
            match steps.next()? {
                Step::At(offset) => tokio::time::sleep_until(start + offset).await,
                Step::Pause => tokio::task::yield_now().await,
                Step::Write(bytes) => return Some((Ok::<_, std::io::Error>(Bytes::from(bytes)), steps)),
                Step::Hang => match std::future::pending::<Infallible>().await {},
                Step::Cut => return Some((Err(std::io::Error::other("cut by the script")), steps)),
            }
        }
    }))
}
