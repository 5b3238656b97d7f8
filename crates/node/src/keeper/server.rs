//! The keeper's socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::protocol::{Answer, Ask, LINE_LIMIT, Refusal, Refused, parse_request};
use super::{Keeper, KeeperError};

/// Callers at a time; watchers count.
const CALLERS: usize = 32;
/// How long a caller may take to say what it wants, and to take a line.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the keeper of an MPS root listens.
#[must_use]
pub(super) fn socket(root: &Path) -> PathBuf {
    root.join("keeper.sock")
}

/// Listens; the caller holds the root's lock, so a socket that is there is nobody's.
pub(super) fn listen(root: &Path) -> Result<UnixListener, KeeperError> {
    let path = socket(root);
    let failed = |source| KeeperError::Socket { path: path.clone(), source };
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    // Between these two steps others could only connect if the umask let them write.
    fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

pub(super) fn remove_socket(root: &Path) {
    drop(fs::remove_file(socket(root)));
}

/// Takes callers for ever.
pub(super) async fn serve(keeper: &Keeper, listener: &UnixListener) {
    let seats = Arc::new(Semaphore::new(CALLERS));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _address)) => {
                let (caller, stop) = (keeper.clone(), keeper.shared.stop.clone());
                keeper.shared.tasks.spawn(async move {
                    let _seat = seat;
                    // A request that is being carried out is answered; a watcher is let go.
                    if let Err(error) = converse(&caller, stream, &stop).await {
                        tracing::debug!(%error, "a caller left");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a caller");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(keeper: &Keeper, stream: UnixStream, stop: &tokio_util::sync::CancellationToken) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(LINE_LIMIT));
    let mut line = String::new();
    let Some(length) = stop.run_until_cancelled(timeout(PATIENCE, reader.read_line(&mut line))).await else {
        return Ok(());
    };
    let _length = length??;
    match parse_request(&line) {
        Ok(Ask::Watch) => watch(keeper, reader, &mut writer).await,
        Ok(ask) => say(&mut writer, answer(keeper, ask).await).await,
        Err(refused) => say(&mut writer, refused.into()).await,
    }
}

async fn answer(keeper: &Keeper, ask: Ask) -> Answer {
    match ask {
        Ask::Ensure { gpu, settings } => {
            keeper.with_slot(gpu, move |keeper, slot| keeper.ensure(slot, &settings)).await
        }
        Ask::Restart { gpu, settings } => {
            keeper.with_slot(gpu, move |keeper, slot| keeper.restart(slot, &settings)).await
        }
        Ask::Stop { gpu, idle } => keeper.with_slot(gpu, move |keeper, slot| keeper.stop_one(slot, idle)).await,
        Ask::ShutServers { gpu } => keeper.with_slot(gpu, |_keeper, slot| slot.answer_to_shut()).await,
        Ask::List => Answer::All(keeper.list().await),
        Ask::Watch => Refused::new(Refusal::Request, "a watch is not one answer").into(),
        Ask::Shutdown { cleanup } => {
            *keeper.shared.cleanup.lock().unwrap_or_else(PoisonError::into_inner) = cleanup;
            keeper.shared.stop.cancel();
            keeper.shared.over.cancelled().await;
            Answer::Done
        }
    }
}

/// Every daemon, then each happening, until the watcher hangs up or is too slow.
async fn watch(
    keeper: &Keeper,
    mut reader: BufReader<tokio::io::Take<OwnedReadHalf>>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let mut happenings = keeper.shared.happenings.subscribe();
    say(writer, Answer::All(keeper.list().await)).await?;
    let mut end = [0];
    loop {
        tokio::select! {
            () = keeper.shared.stop.cancelled() => return Ok(()),
            _hung_up = reader.read(&mut end) => return Ok(()),
            happening = happenings.recv() => match happening {
                Ok(happening) => say(writer, Answer::Happened(happening)).await?,
                // It asks again and gets the whole list.
                Err(RecvError::Lagged(_) | RecvError::Closed) => return Ok(()),
            },
        }
    }
}

async fn say(writer: &mut OwnedWriteHalf, answer: Answer) -> io::Result<()> {
    let line = answer.line()?;
    timeout(PATIENCE, writer.write_all(line.as_bytes())).await?
}
