//! What a simulated daemon is to do wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The behaviour of a simulated control program; the default one does nothing wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Script {
    /// How it starts.
    pub start: Start,
    /// How it quits.
    pub quit: Quit,
    /// Whether it and its servers ignore SIGTERM.
    pub deaf: bool,
    /// Whether it does not know `quit -t SECONDS`, which driver 580 does.
    pub quit_without_timeout: bool,
    /// How its servers start.
    pub server_start: ServerStart,
    /// Whether it knows protocol version 3, as drivers from 615 on do.
    pub protocol_three: bool,
    /// What every server says of itself instead of `ACTIVE`.
    pub server_status: Option<String>,
    /// Replies by the first word of a command, given instead of the true one.
    pub replies: BTreeMap<String, String>,
    /// First words of commands that are never answered.
    pub unanswered: BTreeSet<String>,
}

/// How a simulated daemon starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// At once.
    #[default]
    Well,
    /// After so many milliseconds.
    Late(u64),
    /// Never: it lives and does not listen.
    Never,
    /// It says this and exits with status 1.
    Die(String),
}

/// How the servers of a simulated daemon start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerStart {
    /// At once.
    #[default]
    Well,
    /// After so many milliseconds.
    Late(u64),
    /// Each exits with this status before it is ready; the daemon tries six times for a client.
    Exit(i32),
}

/// How a simulated daemon quits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quit {
    /// Once its clients have left.
    #[default]
    Well,
    /// Never: the call blocks.
    Hang,
    /// Never: it says so.
    Refuse,
    /// Never: it says nothing and lives on.
    Ignore,
}

impl Script {
    /// Where the script of a program lies.
    pub(super) fn path_beside(program: &Path) -> PathBuf {
        program.with_extension("json")
    }

    /// The script beside a program; the default one where there is none.
    pub(super) fn beside(program: &Path) -> io::Result<Self> {
        match fs::read(Self::path_beside(program)) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }
}
