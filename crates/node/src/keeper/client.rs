//! The agent's side of the keeper's socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::protocol::{Answer, Ask, Happening, Kept, LINE_LIMIT, Refusal, Refused, Reply};
use super::server::socket;

/// How long the keeper may take to take a request.
const SENDING: Duration = Duration::from_secs(5);

/// Why the keeper did not do something.
#[derive(Debug, thiserror::Error)]
pub enum KeeperCallError {
    /// It cannot be reached, or went away in the middle.
    #[error("cannot speak to the keeper on {}", path.display())]
    Away {
        /// Its socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("the keeper did not answer in {patience:?}")]
    Late {
        /// How long was waited.
        patience: Duration,
    },
    /// It said something that this program does not understand.
    #[error("odd answer of the keeper: {what}")]
    Odd {
        /// What was wrong.
        what: String,
    },
    /// It refused.
    #[error("{why}")]
    Refused {
        /// What stands in the way.
        refusal: Refusal,
        /// The same for people.
        why: String,
    },
}

impl KeeperCallError {
    /// Whether the keeper itself is not there, rather than something it was asked for.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Late { .. } | Self::Refused { refusal: Refusal::Ending, .. })
    }
}

/// Speaks to the keeper of one MPS root. Each request is a connection of its own.
#[derive(Debug, Clone)]
pub struct KeeperClient {
    path: PathBuf,
}

impl KeeperClient {
    /// A client of the keeper of an MPS root; it need not run yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { path: socket(root) }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// When the keeper is away, late, or refuses.
    pub async fn ask(&self, ask: Ask, patience: Duration) -> Result<Answer, KeeperCallError> {
        let exchange = async {
            let mut lines = self.send(ask).await?;
            self.read(&mut lines).await
        };
        timeout(patience, exchange).await.map_err(|_elapsed| KeeperCallError::Late { patience })?
    }

    /// The daemons that are kept, and what happens to them from now on.
    ///
    /// # Errors
    /// When the keeper is away, late, or refuses.
    pub async fn watch(&self) -> Result<(Vec<Kept>, Happenings), KeeperCallError> {
        let patience = SENDING;
        let begin = async {
            let mut lines = self.send(Ask::Watch).await?;
            match self.read(&mut lines).await? {
                Answer::All(kept) => Ok((kept, Happenings { client: self.clone(), lines })),
                other @ (Answer::Runs(_) | Answer::Done | Answer::Refused(_) | Answer::Happened(_)) => {
                    Err(KeeperCallError::Odd { what: format!("{other:?} to a watch") })
                }
            }
        };
        timeout(patience, begin).await.map_err(|_elapsed| KeeperCallError::Late { patience })?
    }

    fn away(&self, source: io::Error) -> KeeperCallError {
        KeeperCallError::Away { path: self.path.clone(), source }
    }

    async fn send(&self, ask: Ask) -> Result<BufReader<UnixStream>, KeeperCallError> {
        let line = ask.line().map_err(|error| KeeperCallError::Odd { what: error.to_string() })?;
        let mut stream = UnixStream::connect(&self.path).await.map_err(|source| self.away(source))?;
        stream.write_all(line.as_bytes()).await.map_err(|source| self.away(source))?;
        Ok(BufReader::new(stream))
    }

    async fn read(&self, lines: &mut BufReader<UnixStream>) -> Result<Answer, KeeperCallError> {
        let mut line = String::new();
        let read = lines.take(LINE_LIMIT).read_line(&mut line).await.map_err(|source| self.away(source))?;
        if read == 0 {
            return Err(self.away(io::ErrorKind::UnexpectedEof.into()));
        }
        let reply: Reply =
            serde_json::from_str(&line).map_err(|error| KeeperCallError::Odd { what: error.to_string() })?;
        match reply.answer {
            Answer::Refused(Refused { refusal, why }) => Err(KeeperCallError::Refused { refusal, why }),
            answer @ (Answer::Runs(_) | Answer::All(_) | Answer::Done | Answer::Happened(_)) => Ok(answer),
        }
    }
}

/// What happens to daemons, as it happens.
#[derive(Debug)]
pub struct Happenings {
    client: KeeperClient,
    lines: BufReader<UnixStream>,
}

impl Happenings {
    /// The next happening.
    ///
    /// # Errors
    /// When the keeper is gone; watch again then.
    pub async fn next(&mut self) -> Result<Happening, KeeperCallError> {
        match self.client.read(&mut self.lines).await? {
            Answer::Happened(happening) => Ok(happening),
            other @ (Answer::Runs(_) | Answer::All(_) | Answer::Done | Answer::Refused(_)) => {
                Err(KeeperCallError::Odd { what: format!("{other:?} in a watch") })
            }
        }
    }
}
