//! What keeps a configuration from being carried out on the GPUs at hand.

use std::fmt;

/// One thing that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferProblem {
    /// The keys of the file that ask for it, such as `cotenant.gpus[1].classes`.
    pub path: String,
    /// What is wrong, a lowercase fragment.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}

impl fmt::Display for OfferProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  fix: {}", self.path, self.message, self.fix)
    }
}

/// Everything that keeps a configuration from being carried out, in order of GPU; never empty. Displayed one block a problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct OfferProblems(pub Vec<OfferProblem>);

impl fmt::Display for OfferProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
