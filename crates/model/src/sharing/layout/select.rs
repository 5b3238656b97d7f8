//! Which configuration a node has, by the rules of NVIDIA's config-manager.

use super::{Configs, Fallback, Layout, Named};
use crate::document::closest;
use crate::document::quantity::shown;

/// Why no configuration could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// There is none by the name of the label or default.
    #[error("there is no configuration `{}`{}; there are: {}", shown(name), hint(meant.as_deref()), list(known))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The name that may have been meant.
        meant: Option<String>,
        /// Names that are there.
        known: Vec<String>,
    },
    /// No name was asked for, and no rule chooses one.
    #[error(
        "several configurations and no rule that chooses one: label the node `nvidia.com/device-plugin.config=NAME`, set a default \
         or name one `default`; there are: {}",
        list(known)
    )]
    Ambiguous {
        /// Names that are there.
        known: Vec<String>,
    },
    /// They are not in this file.
    #[error("the configurations are in the ConfigMap `{}`", shown(name))]
    Elsewhere {
        /// Its name.
        name: String,
    },
}

fn hint(meant: Option<&str>) -> String {
    meant.map(|meant| format!(" (did you mean `{meant}`?)")).unwrap_or_default()
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ")
    }
}

impl Configs {
    /// The configuration of a node whose label `nvidia.com/device-plugin.config` has the value `label`; `None` is the empty
    /// one.
    ///
    /// In order: the label's, the default, the fallbacks. In a file that is one configuration, and in one that has none,
    /// the label does not matter.
    ///
    /// # Errors
    /// When the name is unknown, or no rule chooses one.
    pub fn select(&self, label: Option<&str>) -> Result<Option<&Named>, SelectError> {
        if matches!(self.layout, Layout::Plain | Layout::MigParted) {
            return Ok(self.named.first());
        }
        if self.named.is_empty() {
            let elsewhere = self.external.clone().map(|name| Err(SelectError::Elsewhere { name }));
            return elsewhere.unwrap_or(Ok(None));
        }
        let asked = label.filter(|label| !label.is_empty()).or(self.default.as_deref());
        if let Some(name) = asked {
            return self.by_name(name).map(Some).ok_or_else(|| self.unknown(name));
        }
        for fallback in &self.fallbacks {
            match fallback {
                Fallback::Named => {
                    if let Some(named) = self.by_name("default") {
                        return Ok(Some(named));
                    }
                }
                Fallback::Single => {
                    if let [only] = self.named.as_slice() {
                        return Ok(Some(only));
                    }
                }
                Fallback::Empty => return Ok(None),
            }
        }
        Err(SelectError::Ambiguous { known: self.names() })
    }

    fn unknown(&self, name: &str) -> SelectError {
        let known = self.names();
        let meant = closest(name, known.iter().map(String::as_str)).map(str::to_owned);
        SelectError::Unknown { name: name.to_owned(), meant, known }
    }

    fn names(&self) -> Vec<String> {
        self.named.iter().map(|named| named.name.clone()).collect()
    }
}
