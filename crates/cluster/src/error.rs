//! What the API server, or its absence, answered.

use std::time::Duration;

use kube::core::Status;

/// Longest part of a foreign body that is kept: an error page may be long.
const KEPT: usize = 200;

/// Why a request to the API server failed. `action` says what was tried, such as `set the labels of node n1`.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It answered with an error.
    #[error("cannot {action}: the API server answered {code} {reason}: {message}")]
    Refused {
        /// What was tried.
        action: String,
        /// HTTP status.
        code: u16,
        /// Machine-readable reason, such as `Conflict`; `not an answer of the API` for a body that is no status.
        reason: String,
        /// Its words, at most one line of 200 characters.
        message: String,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// No answer came in time.
    #[error("cannot {action}: no answer of the API server within {} s", limit.as_secs())]
    TimedOut {
        /// What was tried.
        action: String,
        /// The limit.
        limit: Duration,
    },
    /// It could not be reached.
    #[error("cannot {action}: the API server is not reached")]
    Unreached {
        /// What was tried.
        action: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// What answered is no API server, or one that speaks another version.
    #[error("cannot {action}: the answer is not one of an API server")]
    Unreadable {
        /// What was tried.
        action: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

impl ApiError {
    /// What `error` means for `action`.
    #[must_use]
    pub fn new(action: String, error: kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            return Self::refused(action, *status);
        }
        let unreadable = matches!(
            error,
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) | kube::Error::LinesCodecMaxLineLengthExceeded
        );
        let source = Box::new(error);
        if unreadable { Self::Unreadable { action, source } } else { Self::Unreached { action, source } }
    }

    fn refused(action: String, status: Status) -> Self {
        let retry_after = status.details.as_ref().map(|details| details.retry_after_seconds).filter(|after| *after > 0);
        // The client library gives a body that is no status these words.
        let foreign = status.reason == "Failed to parse error data";
        let reason = if foreign { "not an answer of the API".to_owned() } else { status.reason };
        let retry_after = retry_after.map(|seconds| Duration::from_secs(u64::from(seconds)));
        Self::Refused { action, code: status.code, reason, message: line(&status.message), retry_after }
    }

    /// The HTTP status, where one came.
    #[must_use]
    pub const fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::TimedOut { .. } | Self::Unreached { .. } | Self::Unreadable { .. } => None,
        }
    }

    /// Whether the object is not there (404).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether somebody else changed the object meanwhile, or it is another one of the same name (409).
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Whether the right is missing (401, 403): asking again helps only when somebody grants it.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self.code(), Some(401 | 403))
    }

    /// Whether asking again later may help without anybody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.code() {
            Some(code) => matches!(code, 408 | 409 | 410 | 429 | 500..),
            None => true,
        }
    }

    /// Whether an API server answered at all: errors of its own making do not count, nor pages of a proxy before it.
    #[must_use]
    pub fn shows_reachable(&self) -> bool {
        match self {
            Self::Refused { code, reason, .. } => *code < 500 && reason != "not an answer of the API",
            Self::TimedOut { .. } | Self::Unreached { .. } | Self::Unreadable { .. } => false,
        }
    }
}

/// The first line that says something, without tags and cut short.
fn line(text: &str) -> String {
    let first = text.lines().map(without_tags).find(|line| !line.is_empty()).unwrap_or_default();
    if first.chars().count() <= KEPT { first } else { first.chars().take(KEPT).chain(['…']).collect() }
}

fn without_tags(line: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for character in line.chars() {
        match character {
            '<' => inside = true,
            '>' if inside => {
                inside = false;
                kept.push(' ');
            }
            _ if inside => {}
            character if character.is_control() => kept.push(' '),
            character => kept.push(character),
        }
    }
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, message: &str, reason: &str) -> ApiError {
        let status = Status::failure(message, reason).with_code(code);
        ApiError::new("look".to_owned(), kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn a_page_of_a_proxy_is_cut_to_what_it_says() {
        let page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\n<p>no upstream</p>";
        let error = refused(502, page, "Failed to parse error data");
        assert_eq!(
            error.to_string(),
            "cannot look: the API server answered 502 not an answer of the API: 502 Bad Gateway"
        );
        assert!(error.is_transient() && !error.shows_reachable());
        assert!(refused(400, &"x".repeat(1000), "BadRequest").to_string().chars().count() < 300);
    }

    #[test]
    fn a_missing_right_is_not_worth_asking_again_at_once_and_a_conflict_is() {
        assert!(!refused(403, "no", "Forbidden").is_transient() && refused(403, "no", "Forbidden").shows_reachable());
        assert!(refused(409, "no", "Conflict").is_transient() && refused(409, "no", "Conflict").is_conflict());
        assert!(refused(404, "no", "NotFound").is_not_found());
    }
}
