//! Which XID errors count, from the environment variables of NVIDIA's device plugin.

use std::collections::BTreeSet;

/// Environment variable with XIDs that do not count: `all`, `xids`, or numbers with commas.
pub const DISABLE_VARIABLE: &str = "DP_DISABLE_HEALTHCHECKS";
/// Environment variable with XIDs that count all the same, likewise.
pub const ENABLE_VARIABLE: &str = "DP_ENABLE_HEALTHCHECKS";

/// XIDs of applications, after which the GPU is well; NVIDIA's device plugin (0.20) never counts them unless told to.
const OF_APPLICATIONS: [u64; 6] = [13, 31, 43, 45, 68, 109];

/// Which XID errors make a GPU unhealthy.
///
/// As NVIDIA's plugin has it: what is enabled counts, whatever else is said; then what is disabled does not, and neither do the
/// XIDs of applications (13, 31, 43, 45, 68, 109); every other one does. Two corners differ: with everything disabled, single
/// XIDs can be enabled (NVIDIA's comments say so, its code then watches nothing), and `0` is reported instead of meaning `all`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct XidPolicy {
    disabled: Xids,
    enabled: Xids,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Xids {
    all: bool,
    some: BTreeSet<u64>,
}

/// An entry that is no XID; it is left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{entry}` in {variable} is neither an XID nor `all` or `xids`, and is ignored")]
pub struct InvalidXid {
    /// The variable.
    pub variable: &'static str,
    /// The entry as written.
    pub entry: String,
}

impl XidPolicy {
    /// From the values of the two variables, with the entries that are no XIDs.
    #[must_use]
    pub fn parse(disable: Option<&str>, enable: Option<&str>) -> (Self, Vec<InvalidXid>) {
        let mut invalid = Vec::new();
        let disabled = Xids::parse(DISABLE_VARIABLE, disable, &mut invalid);
        let enabled = Xids::parse(ENABLE_VARIABLE, enable, &mut invalid);
        (Self { disabled, enabled }, invalid)
    }

    /// Whether an XID error makes a GPU unhealthy.
    #[must_use]
    pub fn counts(&self, xid: u64) -> bool {
        let is_off = self.disabled.has(xid) || OF_APPLICATIONS.contains(&xid);
        self.enabled.has(xid) || !is_off
    }

    /// Whether no XID error counts.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.disabled.all && self.enabled == Xids::default()
    }
}

impl Xids {
    /// Reads a list; `all` and `xids` stand for every XID and end the list.
    fn parse(variable: &'static str, value: Option<&str>, invalid: &mut Vec<InvalidXid>) -> Self {
        let mut some = BTreeSet::new();
        for entry in value.unwrap_or_default().split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            if entry.eq_ignore_ascii_case("all") || entry.eq_ignore_ascii_case("xids") {
                return Self { all: true, some: BTreeSet::new() };
            }
            match entry.parse() {
                Ok(xid) if xid != 0 => drop(some.insert(xid)),
                Ok(_) | Err(_) => invalid.push(InvalidXid { variable, entry: entry.to_owned() }),
            }
        }
        Self { all: false, some }
    }

    fn has(&self, xid: u64) -> bool {
        self.all || self.some.contains(&xid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(disable: &str, enable: &str) -> Vec<u64> {
        let (policy, invalid) = XidPolicy::parse(Some(disable), Some(enable));
        assert_eq!(invalid, [], "{disable:?} {enable:?}");
        [13, 31, 43, 45, 48, 68, 79, 109].into_iter().filter(|xid| policy.counts(*xid)).collect()
    }

    #[test]
    fn errors_of_applications_do_not_count_unless_enabled() {
        assert_eq!(counted("", ""), [48, 79]);
        assert_eq!(counted("", "13"), [13, 48, 79]);
        assert_eq!(counted("", "all"), [13, 31, 43, 45, 48, 68, 79, 109]);
    }

    #[test]
    fn what_is_disabled_does_not_count_unless_enabled() {
        assert_eq!(counted("48, 79", ""), [0; 0]);
        assert_eq!(counted("48, 79", "79"), [79]);
        for everything in ["all", "xids", "ALL", " Xids ", "48,all", "all,48"] {
            assert_eq!(counted(everything, ""), [0; 0], "{everything}");
            assert_eq!(counted(everything, "79"), [79], "{everything}");
            assert_eq!(counted(everything, "all"), [13, 31, 43, 45, 48, 68, 79, 109], "{everything}");
        }
    }

    #[test]
    fn nothing_is_watched_only_when_all_is_off_and_nothing_on() {
        let is_off = |disable, enable| XidPolicy::parse(Some(disable), Some(enable)).0.is_off();
        assert!(is_off("all", "") && !is_off("all", "79") && !is_off("all", "xids") && !is_off("48", ""));
        assert!(!XidPolicy::parse(None, None).0.is_off());
    }

    #[test]
    fn what_is_no_xid_is_reported_and_left_out() {
        let (policy, invalid) = XidPolicy::parse(Some("48,-1,0,,x79"), Some("13 31"));
        let entries: Vec<_> = invalid.iter().map(|invalid| (invalid.variable, invalid.entry.as_str())).collect();
        assert_eq!(
            entries,
            [(DISABLE_VARIABLE, "-1"), (DISABLE_VARIABLE, "0"), (DISABLE_VARIABLE, "x79"), (ENABLE_VARIABLE, "13 31")]
        );
        assert!(!policy.counts(48) && policy.counts(79) && !policy.counts(13) && !policy.is_off());
    }
}
