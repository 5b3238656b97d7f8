//! What agent and keeper say to each other: one JSON object a line, over a UNIX socket that only its owner may open.
//!
//! A caller sends one [`Request`] and reads one [`Reply`]; after `watch` it goes on reading one reply a happening until it
//! hangs up. The keeper may be older than the agent, since it is not upgraded with it: fields that are new get defaults,
//! [`VERSION`] changes only when an old keeper could misunderstand.

use std::path::PathBuf;

use cotenant_model::GpuUuid;
use cotenant_mps::three::Namespace;
use cotenant_mps::{ClientLimits, Protocol};
use serde::{Deserialize, Serialize};

/// The version that this program speaks.
pub const VERSION: u32 = 1;
/// Longest line, in bytes: far above a list of 64 GPUs.
pub const LINE_LIMIT: u64 = 256 << 10;

/// What a control daemon is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSettings {
    /// The control program; `None` lets the keeper look for it.
    pub program: Option<PathBuf>,
    /// What a client may use at most, whatever its environment says.
    pub limits: ClientLimits,
    /// Groups of clients with limits of their own, where the daemon speaks protocol 3.
    pub namespaces: Vec<Namespace>,
    /// One server for every user.
    pub multi_user: bool,
    /// Whether the GPU's compute mode is exclusive-process meanwhile.
    pub exclusive: bool,
    /// The dialogue's protocol.
    pub protocol: Protocol,
    /// Whether clients get the keeper's shared memory as their own.
    pub shared_memory: bool,
}

impl DaemonSettings {
    /// Whether a daemon with these settings cannot become one with `other` while it runs. Default limits it can be told.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let rest =
            |settings: &Self| Self { limits: ClientLimits::default(), namespaces: Vec::new(), ..settings.clone() };
        rest(self) != rest(other)
    }
}

/// A request with the speaker's version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// [`VERSION`] of the speaker.
    pub version: u32,
    /// What is wanted.
    pub ask: Ask,
}

/// What is wanted of the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// A daemon with these settings: one that runs with them is kept, one that runs with others is replaced unless it has
    /// clients.
    Ensure {
        /// The GPU.
        gpu: GpuUuid,
        /// What it is to be.
        settings: DaemonSettings,
    },
    /// A fresh daemon with these settings, whatever is there; its clients lose their server.
    Restart {
        /// The GPU.
        gpu: GpuUuid,
        /// What it is to be.
        settings: DaemonSettings,
    },
    /// No daemon; its clients lose their server, and the compute mode is put back.
    Stop {
        /// The GPU.
        gpu: GpuUuid,
        /// Refuse while it has clients.
        #[serde(default)]
        idle: bool,
    },
    /// End every server of a daemon by force, whatever its clients do; the daemon stays.
    ShutServers {
        /// The GPU.
        gpu: GpuUuid,
    },
    /// Every daemon.
    List,
    /// Every daemon now, then each happening until the caller hangs up.
    Watch,
    /// End every daemon, put everything back, answer, and leave.
    Shutdown {
        /// Whether the folders that containers have mounted are removed too: for an uninstallation.
        cleanup: bool,
    },
}

/// One line of the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// [`VERSION`] of the speaker.
    pub version: u32,
    /// What it says.
    pub answer: Answer,
}

/// What the keeper says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The daemon that was wanted runs.
    Runs(Kept),
    /// Every daemon.
    All(Vec<Kept>),
    /// Done.
    Done,
    /// It was not done.
    Refused(Refused),
    /// Something happened (after `watch`).
    Happened(Happening),
}

/// A refusal with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// What stands in the way.
    pub refusal: Refusal,
    /// The same for people.
    pub why: String,
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The line cannot be read as a request of this version.
    Request,
    /// A daemon with other settings runs and has clients.
    Different,
    /// It has clients.
    Busy,
    /// It was tried and failed.
    Failed,
    /// The keeper is ending.
    Ending,
}

/// A daemon as the keeper knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Its GPU.
    pub gpu: GpuUuid,
    /// What it was started with.
    pub settings: DaemonSettings,
    /// Process id; `None` when it is dead.
    pub pid: Option<u32>,
    /// The control program that it was started with.
    pub program: PathBuf,
    /// Whether it speaks protocol 3.
    pub three: bool,
    /// Whether it was found running.
    pub adopted: bool,
    /// How it died, where it did.
    pub death: Option<String>,
    /// What keeps clients of other users out, each as people would say it.
    #[serde(default)]
    pub traps: Vec<String>,
}

/// What happens to daemons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happening {
    /// One runs.
    Started(Kept),
    /// One died unasked; how.
    Died {
        /// Its GPU.
        gpu: GpuUuid,
        /// Its exit status or signal.
        how: String,
    },
    /// One was ended as asked.
    Stopped {
        /// Its GPU.
        gpu: GpuUuid,
    },
}

impl Ask {
    /// The line that carries it.
    ///
    /// # Errors
    /// Never in practice: every field has a JSON form.
    pub fn line(self) -> serde_json::Result<String> {
        line(&Request { version: VERSION, ask: self })
    }
}

impl Answer {
    /// The line that carries it.
    ///
    /// # Errors
    /// Never in practice: every field has a JSON form.
    pub fn line(self) -> serde_json::Result<String> {
        line(&Reply { version: VERSION, answer: self })
    }
}

impl Refused {
    /// A refusal.
    #[must_use]
    pub fn new(refusal: Refusal, why: impl Into<String>) -> Self {
        Self { refusal, why: why.into() }
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

fn line(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(value).map(|text| text + "\n")
}

/// Reads a caller's line.
///
/// # Errors
/// The refusal to answer with: not JSON, not a request, or of a newer version.
pub fn parse_request(line: &str) -> Result<Ask, Refused> {
    let version = serde_json::from_str::<Versioned>(line).map(|request| request.version);
    if let Ok(version) = version
        && version > VERSION
    {
        let why =
            format!("this keeper speaks version {VERSION}, the request is of version {version}; update the keeper");
        return Err(Refused::new(Refusal::Request, why));
    }
    serde_json::from_str::<Request>(line)
        .map(|request| request.ask)
        .map_err(|error| Refused::new(Refusal::Request, format!("not a request: {error}")))
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ensure() -> Ask {
        Ask::Ensure { gpu: GpuUuid("GPU-1".to_owned()), settings: DaemonSettings::default() }
    }

    #[test]
    fn a_line_reads_as_it_was_written() {
        let line = ensure().line().unwrap();
        assert!(line.ends_with('\n') && !line.trim_end().contains('\n'));
        assert_eq!(parse_request(&line).unwrap(), ensure());
    }

    #[test]
    fn fields_that_an_older_agent_does_not_send_have_defaults_and_newer_ones_are_passed_over() {
        let old = r#"{"version":1,"ask":{"ensure":{"gpu":"GPU-1","settings":{}}}}"#;
        assert_eq!(parse_request(old).unwrap(), ensure());
        let new = r#"{"version":1,"ask":{"ensure":{"gpu":"GPU-1","settings":{"sparkle":true}}},"more":1}"#;
        assert_eq!(parse_request(new).unwrap(), ensure());
    }

    #[test]
    fn a_newer_version_is_refused_with_both_numbers_even_when_its_request_is_unknown() {
        let Err(Refused { refusal: Refusal::Request, why }) = parse_request(r#"{"version":9,"ask":"dance"}"#) else {
            panic!("it was understood")
        };
        assert!(why.contains('1') && why.contains('9'), "{why}");
    }

    #[test]
    fn garbage_is_refused() {
        for line in ["", "{}", "null", "{\"version\":1}", "\u{0}", "{\"version\":1,\"ask\":\"dance\"}"] {
            assert!(parse_request(line).is_err(), "{line}");
        }
    }
}
