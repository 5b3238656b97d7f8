//! Units: a number never travels without one.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A text that is not a quantity of the wanted unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct QuantityError {
    /// The text as written.
    pub text: String,
    /// What was wanted, with an example.
    pub wanted: &'static str,
}

/// A span of time in nanoseconds; read from `250us`, `5ms`, `1.5s`, `2m` or `1h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Nanoseconds(pub u64);

/// A size in bytes; read from `512MiB`, `2GiB`, `1.5GiB`, `64KiB`, `100B`, or the decimal `kB`, `MB`, `GB`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A whole percentage from 1 to 100, of a GPU's streaming multiprocessors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Percent(u8);

/// Money in millionths of a US dollar; all sums of money are of this type, never floats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct MicroUsd(pub u64);

const DURATION: &str = "a duration such as 250us, 5ms, 1.5s, 2m or 1h";
const SIZE: &str = "a size such as 512MiB or 2GiB";
const PERCENT: &str = "a whole percentage from 1 to 100";
const MONEY: &str = "an amount of US dollars such as 3.95";

/// Reads `NUMBER SUFFIX` exactly, in decimal, as a whole number of the smallest unit.
fn scaled(text: &str, wanted: &'static str, suffixes: &[(&str, u64)]) -> Result<u64, QuantityError> {
    let wrong = || QuantityError { text: text.to_owned(), wanted };
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
    let (number, suffix) = trimmed.split_at(split);
    let (_, factor) = suffixes.iter().find(|(name, _)| *name == suffix.trim_start()).ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || (number.contains('.') && fraction.is_empty()) {
        return Err(wrong());
    }
    let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_parse| wrong())?;
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_length| wrong())?);
    let total = digits.checked_mul(u128::from(*factor)).ok_or_else(wrong)? / divisor;
    u64::try_from(total).map_err(|_range| wrong())
}

impl FromStr for Nanoseconds {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        const SUFFIXES: &[(&str, u64)] = &[
            ("ns", 1),
            ("us", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000),
        ];
        scaled(text, DURATION, SUFFIXES).map(Self)
    }
}

impl Nanoseconds {
    /// The span in seconds.
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The span in milliseconds.
    #[must_use]
    pub fn milliseconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The nearest whole nanosecond to a number of seconds; negative and not-a-number become 0.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and the sign is cut off before"
    )]
    pub fn from_seconds(seconds: f64) -> Self {
        Self((seconds.max(0.0) * 1e9).round() as u64)
    }

    /// The same span for the standard library.
    #[must_use]
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0)
    }
}

impl fmt::Display for Nanoseconds {
    /// Three significant figures in the largest unit that keeps the number at 1 or more: `1.13 ms`, `250 us`, `90 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0 as f64;
        let (value, unit) = match self.0 {
            0 => return f.write_str("0 s"),
            1..1_000 => (nanoseconds, "ns"),
            1_000..1_000_000 => (nanoseconds / 1e3, "us"),
            1_000_000..1_000_000_000 => (nanoseconds / 1e6, "ms"),
            _ => (nanoseconds / 1e9, "s"),
        };
        write!(f, "{} {unit}", significant(value))
    }
}

/// Three significant figures, without trailing zeros after the point; whole numbers from 100 on.
#[must_use]
pub fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    if decimals == 0 {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl FromStr for Bytes {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        const SUFFIXES: &[(&str, u64)] = &[
            ("B", 1),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
            ("kB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
        ];
        scaled(text, SIZE, SUFFIXES).map(Self)
    }
}

impl Bytes {
    /// So many mebibytes.
    #[must_use]
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }

    /// The size in whole mebibytes, rounded up.
    #[must_use]
    pub const fn to_mebibytes(self) -> u64 {
        self.0.div_ceil(1 << 20)
    }

    /// The size in gibibytes.
    #[must_use]
    pub fn gibibytes(self) -> f64 {
        self.0 as f64 / f64::from(1 << 30)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..1024 => write!(f, "{} B", self.0),
            1024..1_048_576 => write!(f, "{} KiB", significant(self.0 as f64 / 1024.0)),
            1_048_576..1_073_741_824 => write!(f, "{} MiB", significant(self.0 as f64 / 1_048_576.0)),
            _ => write!(f, "{} GiB", significant(self.gibibytes())),
        }
    }
}

impl Percent {
    /// All of it.
    pub const ALL: Self = Self(100);

    /// The number, 1 to 100.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Percent {
    type Error = QuantityError;

    fn try_from(number: u8) -> Result<Self, QuantityError> {
        if (1..=100).contains(&number) {
            Ok(Self(number))
        } else {
            Err(QuantityError { text: number.to_string(), wanted: PERCENT })
        }
    }
}

impl FromStr for Percent {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let wrong = || QuantityError { text: text.to_owned(), wanted: PERCENT };
        let number: u8 = text.trim().trim_end_matches('%').parse().map_err(|_parse| wrong())?;
        Self::try_from(number).map_err(|_range| wrong())
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for MicroUsd {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let amount = text.trim().trim_start_matches('$');
        scaled(amount, MONEY, &[("", 1_000_000)])
            .map(Self)
            .map_err(|_plain| QuantityError { text: text.to_owned(), wanted: MONEY })
    }
}

impl MicroUsd {
    /// The amount in dollars, for ratios and display only.
    #[must_use]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The nearest micro-dollar to a number of dollars; negative and not-a-number become 0.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and the sign is cut off before"
    )]
    pub fn from_dollars(dollars: f64) -> Self {
        Self((dollars.max(0.0) * 1e6).round() as u64)
    }
}

impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:02}", self.0 / 1_000_000, self.0 % 1_000_000 / 10_000)?;
        let rest = self.0 % 10_000;
        if rest == 0 {
            return Ok(());
        }
        f.write_str(format!("{rest:04}").trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_exactly() {
        assert_eq!("1.5s".parse(), Ok(Nanoseconds(1_500_000_000)));
        assert_eq!("250 us".parse(), Ok(Nanoseconds(250_000)));
        assert_eq!("0.3ms".parse(), Ok(Nanoseconds(300_000)));
    }

    #[test]
    fn wrong_units_are_refused_with_what_was_wanted() {
        for text in ["5", "5 minutes", "-1s", "1.s", "s", "", "9999999999999h", "1e3s", "NaNs"] {
            let error = text.parse::<Nanoseconds>().expect_err(text);
            assert_eq!(error.to_string(), format!("`{text}` is not {DURATION}"));
        }
        assert!("2GB/s".parse::<Bytes>().is_err());
        assert!("0".parse::<Percent>().is_err());
        assert!("101".parse::<Percent>().is_err());
        assert!("-3".parse::<MicroUsd>().is_err());
    }

    #[test]
    fn quantities_print_short() {
        assert_eq!(Nanoseconds(1_130_000).to_string(), "1.13 ms");
        assert_eq!(Nanoseconds(8_394_000_000).to_string(), "8.39 s");
        assert_eq!(Bytes::mebibytes(2048).to_string(), "2 GiB");
        assert_eq!(MicroUsd(7_912_000).to_string(), "$7.912");
        assert_eq!(MicroUsd(500_000).to_string(), "$0.50");
        assert_eq!(significant(9.999), "10");
        assert_eq!(significant(660.4), "660");
    }
}
