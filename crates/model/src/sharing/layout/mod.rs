//! Where configurations stand: in a file of their own, in the values of a Helm chart, or in a `ConfigMap`; and which of
//! them a node has.
//!
//! ```text
//! config: {map: {NAME: |-…}, default, name, fallbackStrategies}     values of NVIDIA's device-plugin chart
//! devicePlugin: {config: {data: {NAME: |-…}, default, name}}         values of NVIDIA's gpu-operator chart
//! kind: ConfigMap, data: {NAME: |-…}                                 a manifest
//! version, flags, sharing, …                                         a configuration
//! ```

mod read;
mod select;

use std::collections::BTreeMap;

use serde::Serialize;

use super::config::MigConfig;
use super::{Sharing, check};
use crate::document::{self, Node, Position, Problem, Problems};

pub use select::SelectError;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// One configuration.
    Plain,
    /// A file of mig-parted: no configuration, MIG layouts alone.
    MigParted,
    /// Values of NVIDIA's device-plugin chart, or of cotenant's.
    ChartValues,
    /// Values of NVIDIA's gpu-operator chart.
    OperatorValues,
    /// A `ConfigMap`.
    ConfigMap,
}

impl Layout {
    /// What it is, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Plain => "a configuration",
            Self::MigParted => "MIG layouts of mig-parted",
            Self::ChartValues => "values of a device-plugin chart",
            Self::OperatorValues => "values of the gpu-operator chart",
            Self::ConfigMap => "a ConfigMap",
        }
    }
}

/// What is tried when no configuration is asked for and there is no default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// The one named `default`.
    Named,
    /// The only one.
    Single,
    /// An empty one.
    Empty,
}

/// The configurations of a file.
#[derive(Debug)]
pub struct Configs {
    /// What the file is.
    pub layout: Layout,
    /// The configurations, in file order.
    pub named: Vec<Named>,
    /// The one that a node without the label has.
    pub default: Option<String>,
    /// What is tried without a default, in order.
    pub fallbacks: Vec<Fallback>,
    /// The `ConfigMap` that holds the configurations instead of this file.
    pub external: Option<String>,
    /// What is noted of the file around the configurations.
    pub notes: Vec<Problem>,
}

/// A configuration by name.
#[derive(Debug)]
pub struct Named {
    /// Its name, the value of the node label `nvidia.com/device-plugin.config`; empty in a file of one.
    pub name: String,
    /// The file, for problems.
    file: String,
    /// Its documents, or why they could not be read.
    documents: Result<Vec<Node>, Problems>,
}

impl Named {
    /// Reads the configuration.
    ///
    /// # Errors
    /// Every problem of it at once, at its place in the whole file.
    pub fn sharing(&self) -> Result<Sharing, Problems> {
        Sharing::of_documents(&self.file, self.documents.as_ref().map_err(Clone::clone)?)
    }

    /// Reads MIG layouts, where [`Self::is_mig_parted`].
    ///
    /// # Errors
    /// Every problem at once.
    pub fn mig_configs(&self) -> Result<BTreeMap<String, Vec<MigConfig>>, Problems> {
        let documents = self.documents.as_ref().map_err(Clone::clone)?;
        let empty = Node::empty();
        let (raw, lines) = document::typed(&self.file, documents.first().unwrap_or(&empty))?;
        check::mig_file(&raw, lines)
    }

    /// Where the value at `path` stands in the file, or the nearest value around it that is there.
    #[must_use]
    pub fn position(&self, path: &str) -> Position {
        let root = self.documents.as_ref().ok().and_then(|documents| documents.first());
        root.map_or(Position::START, |root| document::position(root, path))
    }

    /// Whether it is no configuration but a file of mig-parted.
    #[must_use]
    pub fn is_mig_parted(&self) -> bool {
        self.documents.as_ref().is_ok_and(|documents| documents.first().is_some_and(read::is_mig_parted))
    }
}

impl Configs {
    /// Finds the configurations of a file. A broken one is no error here: [`Named::sharing`] says what is wrong.
    ///
    /// # Errors
    /// What keeps the file around them from being read.
    pub fn read(file: &str, text: &str) -> Result<Self, Problems> {
        read::configs(file, text)
    }

    /// Configurations that stand in files of one folder, as a `ConfigMap` is mounted: pairs of file name and text. Names
    /// that begin with `..` are the mount's own and left out.
    #[must_use]
    pub fn of_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>, default: Option<String>) -> Self {
        let named = files.into_iter().filter(|(name, _)| !name.starts_with("..")).map(|(name, text)| Named {
            name: name.to_owned(),
            file: name.to_owned(),
            documents: document::documents(document::Dialect::Kubernetes, name, text),
        });
        let fallbacks = vec![Fallback::Named, Fallback::Single, Fallback::Empty];
        Self {
            layout: Layout::ConfigMap,
            named: named.collect(),
            default,
            fallbacks,
            external: None,
            notes: Vec::new(),
        }
    }

    /// The configuration by this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Named> {
        self.named.iter().find(|named| named.name == name)
    }
}
