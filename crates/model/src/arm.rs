//! Arms of a comparison: one sharing strategy with its settings.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Percent;

/// One strategy with its settings; written `solo`, `time-slicing`, `mps`, `mps:50`, `mps:25/75`, `mps-memory`, `mig:1g.18gb`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arm {
    /// Each tenant alone on the GPU: the reference of every slowdown.
    Solo,
    /// The driver's default: whole-GPU time slices in turn.
    TimeSlicing,
    /// CUDA MPS without limits.
    Mps,
    /// CUDA MPS with a share of the streaming multiprocessors: one percentage for every tenant, or one each in file order.
    MpsPercent(Vec<Percent>),
    /// CUDA MPS with each tenant's `memory` as its pinned device memory limit.
    MpsMemory,
    /// One MIG instance of this profile a tenant; only where such instances exist already.
    Mig(String),
}

/// A text that names no arm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an arm")]
pub struct ArmError {
    /// The text as written.
    pub text: String,
}

impl ArmError {
    /// The arms that exist, for a hint.
    pub const KNOWN: &'static str =
        "solo, time-slicing, mps, mps:PERCENT (mps:50, or one for each tenant: mps:25/75), mps-memory, mig:PROFILE";
}

impl Arm {
    /// Whether the tenants are clients of an MPS server.
    #[must_use]
    pub const fn uses_mps(&self) -> bool {
        matches!(self, Self::Mps | Self::MpsPercent(_) | Self::MpsMemory)
    }

    /// The share of streaming multiprocessors of tenant number `index`, where the arm limits it.
    #[must_use]
    pub fn percent(&self, index: usize) -> Option<Percent> {
        match self {
            Self::MpsPercent(shares) => match shares.as_slice() {
                [all] => Some(*all),
                each => each.get(index).copied(),
            },
            Self::Solo | Self::TimeSlicing | Self::Mps | Self::MpsMemory | Self::Mig(_) => None,
        }
    }
}

impl FromStr for Arm {
    type Err = ArmError;

    fn from_str(text: &str) -> Result<Self, ArmError> {
        let wrong = || ArmError { text: text.to_owned() };
        match (text, text.split_once(':')) {
            ("solo", _) => Ok(Self::Solo),
            ("time-slicing", _) => Ok(Self::TimeSlicing),
            ("mps", _) => Ok(Self::Mps),
            ("mps-memory", _) => Ok(Self::MpsMemory),
            (_, Some(("mps", shares))) => {
                let shares = shares.split('/').map(str::parse).collect::<Result<Vec<Percent>, _>>();
                shares.map(Self::MpsPercent).map_err(|_percent| wrong())
            }
            (_, Some(("mig", profile))) if !profile.is_empty() => Ok(Self::Mig(profile.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Solo => f.write_str("solo"),
            Self::TimeSlicing => f.write_str("time-slicing"),
            Self::Mps => f.write_str("mps"),
            Self::MpsPercent(shares) => {
                let shares: Vec<String> = shares.iter().map(Percent::to_string).collect();
                write!(f, "mps:{}", shares.join("/"))
            }
            Self::MpsMemory => f.write_str("mps-memory"),
            Self::Mig(profile) => write!(f, "mig:{profile}"),
        }
    }
}

impl Serialize for Arm {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Arm {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Arm {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Arm".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "One sharing strategy with its settings.",
            "examples": ["solo", "time-slicing", "mps", "mps:50", "mps:25/75", "mps-memory", "mig:1g.18gb"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arm_reads_what_it_prints() {
        for text in ["solo", "time-slicing", "mps", "mps:50", "mps:25/75", "mps-memory", "mig:1g.18gb"] {
            assert_eq!(text.parse::<Arm>().expect(text).to_string(), text);
        }
        for text in ["", "mig:", "mps:", "mps:0", "mps:25/", "mps:25/101", "MPS", "mps-x"] {
            assert!(text.parse::<Arm>().is_err(), "{text}");
        }
    }

    #[test]
    fn one_percentage_is_for_all_and_several_are_in_order() {
        let all: Arm = "mps:40".parse().expect("arm");
        let each: Arm = "mps:25/75".parse().expect("arm");
        assert_eq!((all.percent(0).map(Percent::get), all.percent(9).map(Percent::get)), (Some(40), Some(40)));
        assert_eq!((each.percent(1).map(Percent::get), each.percent(2)), (Some(75), None));
    }
}
