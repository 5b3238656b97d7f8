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
    /// Whether it knows `quit -t SECONDS`, as drivers newer than 580 do.
    pub quit_with_timeout: bool,
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
