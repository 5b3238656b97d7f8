//! The outcome of comparing a load's results with the CPU's.

/// How far a load's results are from the CPU's reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Check {
    /// ‖out − reference‖ / ‖reference‖, Euclidean; not-a-number or infinite where a result is.
    pub relative_error: f64,
    /// The largest relative error that correct arithmetic can show; its reason is at each kind's `verify`.
    pub bound: f64,
    /// Results compared with the reference one by one.
    pub compared: u64,
}

impl Check {
    /// Compares pairs of result and reference.
    pub(crate) fn of(pairs: impl IntoIterator<Item = (f64, f64)>, bound: f64) -> Self {
        let (mut difference, mut norm, mut compared) = (0.0, 0.0, 0);
        for (result, reference) in pairs {
            difference += (result - reference).powi(2);
            norm += reference.powi(2);
            compared += 1;
        }
        let relative_error = if difference == 0.0 { 0.0 } else { (difference / norm).sqrt() };
        Self { relative_error, bound, compared }
    }

    /// A check of results that must be equal: the share of them that is not.
    pub(crate) fn exact(wrong: u64, compared: u64) -> Self {
        Self { relative_error: wrong as f64 / compared.max(1) as f64, bound: 0.0, compared }
    }

    /// The same, failed: something was wrong besides the compared results.
    pub(crate) const fn spoiled_if(self, wrong: bool) -> Self {
        if wrong { Self { relative_error: f64::INFINITY, ..self } } else { self }
    }

    /// Whether anything was compared and nothing is further off than the bound; never with a not-a-number.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.compared > 0 && self.relative_error <= self.bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_a_number_nothing_and_a_spoiled_check_never_pass() {
        assert!(!Check::of([(f64::NAN, 1.0)], 1.0).passed());
        assert!(!Check::of([(f64::INFINITY, 1.0)], 1.0).passed());
        assert!(!Check::of([(1.0, 0.0)], 1.0).passed());
        assert!(!Check::of([], 1.0).passed());
        assert!(!Check::of([(1.0, 1.0)], 1.0).spoiled_if(true).passed());
    }

    #[test]
    fn the_error_is_relative_to_the_reference() {
        let check = Check::of([(3.0, 3.0), (4.1, 4.0)], 0.021);
        assert!((check.relative_error - 0.02).abs() < 1e-9 && check.passed());
        assert!(Check::exact(0, 8).passed() && !Check::exact(1, 8).passed());
    }
}
