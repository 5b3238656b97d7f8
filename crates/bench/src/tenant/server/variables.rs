//! `${NAME}` and `${NAME:-text}` in a server's command, environment and endpoint.

use cotenant_model::workload::Server;

/// A text whose variables cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// The variable is not set and has no text to stand for it.
    #[error("the environment variable {name} is not set; set it, or write ${{{name}:-text}} for what to take then")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A `${` that names no variable.
    #[error("`{text}` holds a `${{` that is not ${{NAME}} or ${{NAME:-text}}")]
    Malformed {
        /// The text.
        text: String,
    },
}

/// A server with every variable filled in by `lookup`.
///
/// A variable that is set to nothing counts as not set. A `$` that no `{` follows stands for itself.
///
/// # Errors
/// The first variable that is missing or malformed.
pub(super) fn fill(server: &Server, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Server, VariableError> {
    let mut filled = server.clone();
    filled.endpoint = expand(&server.endpoint, lookup)?;
    for word in filled.command.iter_mut().flatten() {
        *word = expand(word, lookup)?;
    }
    for value in filled.environment.values_mut() {
        *value = expand(value, lookup)?;
    }
    Ok(filled)
}

fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, VariableError> {
    let malformed = || VariableError::Malformed { text: text.to_owned() };
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, behind) = after.split_once('}').ok_or_else(malformed)?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err(malformed());
        }
        let value = lookup(name).filter(|value| !value.is_empty());
        let value = value.or_else(|| default.map(str::to_owned));
        expanded.push_str(before);
        expanded.push_str(&value.ok_or_else(|| VariableError::Missing { name: name.to_owned() })?);
        rest = behind;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|one| one.is_ascii_alphanumeric() || one == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/home/me".to_owned()),
            "NESTED" => Some("${HOME}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_and_their_stand_ins_are_filled_in() {
        for (text, expected) in [
            ("${HOME}/models", "/home/me/models"),
            ("${PORT:-11501}:${HOME}", "11501:/home/me"),
            ("${HOME:-elsewhere}", "/home/me"),
            ("${EMPTY:-text}", "text"),
            ("${ABSENT:-}", ""),
            ("$HOME costs $5", "$HOME costs $5"),
            ("${NESTED}", "${HOME}"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &lookup).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_missing_variable_is_named() {
        for text in ["${ABSENT}", "a${HOME}${ABSENT}b", "${ABSENT:-x}${ABSENT}"] {
            assert_eq!(expand(text, &lookup), Err(VariableError::Missing { name: "ABSENT".to_owned() }), "{text}");
        }
        let empty = expand("${EMPTY}", &lookup).expect_err("empty").to_string();
        assert_eq!(
            empty,
            "the environment variable EMPTY is not set; set it, or write ${EMPTY:-text} for what to take then"
        );
    }

    #[test]
    fn what_is_not_a_variable_is_refused() {
        for text in ["${HOME", "${}", "${1A}", "${A B}", "${:-x}", "${HOME:?}"] {
            assert_eq!(expand(text, &lookup), Err(VariableError::Malformed { text: text.to_owned() }), "{text}");
        }
    }
}
