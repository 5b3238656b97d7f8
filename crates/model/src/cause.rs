//! How an error is told with its causes.

use std::error::Error;
use std::iter::successors;

/// An error and its causes in one text, the outermost first, joined by `between`. A cause that the text before it says
/// already is left out, since libraries repeat theirs.
#[must_use]
pub fn chain(error: &dyn Error, between: &str) -> String {
    successors(error.source(), |&cause| cause.source()).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}{between}{cause}") }
    })
}

#[cfg(test)]
mod tests {
    use std::{fmt, io};

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<dyn Error>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref()
        }
    }

    #[test]
    fn causes_follow_each_other_and_none_is_said_twice() {
        let last = Layer("no such file", None);
        let same = Layer("cannot open: no such file", Some(Box::new(last)));
        let first = Layer("cannot load", Some(Box::new(same)));
        assert_eq!(chain(&first, "; "), "cannot load; cannot open: no such file");
        assert_eq!(chain(&io::Error::other("alone"), "; "), "alone");
    }
}
