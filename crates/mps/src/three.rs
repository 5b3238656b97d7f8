//! What a daemon of protocol 3 needs before clients come: one named server, and a namespace with limits for each size class.
//!
//! From the documentation of release 615 and the simulation alone; no driver that has it was at hand.

use std::path::{Path, PathBuf};

use cotenant_model::GpuUuid;
use serde::{Deserialize, Serialize};

use crate::dialogue::{Dialogue, DialogueError};
use crate::limits::{ClientLimits, LimitError};
use crate::reply::{excerpt, is_name, parse_memory, parse_named_servers, parse_percent};

/// Name of the one server of a daemon.
pub const SERVER_NAME: &str = "gpu";
/// The namespace that every server has.
const DEFAULT: &str = "default";

/// A group of clients with limits of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    /// Its name; see [`namespace_name`].
    pub name: String,
    /// What each of its clients may use at most.
    pub limits: ClientLimits,
}

/// The name of a size class as one of a namespace: lower-case letters, digits and underscores, at most 64.
#[must_use]
pub fn namespace_name(class: &str) -> String {
    let allowed = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' };
    class.to_ascii_lowercase().chars().map(allowed).take(64).collect()
}

/// The directory to which a client of a namespace points `CUDA_MPS_PIPE_DIRECTORY`, under the daemon's pipe directory as the
/// client sees that.
#[must_use]
pub fn client_directory(pipe: &Path, namespace: &str) -> PathBuf {
    pipe.join(SERVER_NAME).join(namespace)
}

/// Makes the server and its namespaces where they are missing, sets their limits, and reads them back. Clients of a namespace
/// without limits could use the whole GPU, so the default one gets the daemon's.
///
/// # Errors
/// When the daemon refuses, does not answer, or tells other limits than it was given.
pub fn set_up(
    dialogue: &Dialogue,
    gpu: &GpuUuid,
    defaults: ClientLimits,
    namespaces: &[Namespace],
) -> Result<(), LimitError> {
    let servers = ask(dialogue, "server list --format=csv,noheader")?;
    let servers = parse_named_servers(&servers).unwrap_or_default();
    if !servers.iter().any(|server| server.name == SERVER_NAME) {
        ask(dialogue, &format!("server create {SERVER_NAME} --allowed-devices={gpu}"))?;
        check_server(dialogue)?;
    }
    set_limits(dialogue, DEFAULT, defaults)?;
    for namespace in namespaces.iter().filter(|namespace| is_name(&namespace.name)) {
        let name = &namespace.name;
        let exists = ask(dialogue, &format!("namespace get {name} {SERVER_NAME} name")).is_ok();
        if !exists {
            ask(dialogue, &format!("namespace create {name} --server={SERVER_NAME}"))?;
        }
        set_limits(dialogue, name, namespace.limits)?;
    }
    Ok(())
}

/// A server whose devices do not exist vanishes without a word, and its clients run without limits (reported by others).
fn check_server(dialogue: &Dialogue) -> Result<(), LimitError> {
    let command = format!("server get {SERVER_NAME} status");
    let found = ask(dialogue, &command);
    found.map(drop).map_err(|_missing| LimitError::NotKept {
        what: "the server",
        wanted: SERVER_NAME.to_owned(),
        told: "no such server".to_owned(),
    })
}

fn set_limits(dialogue: &Dialogue, namespace: &str, limits: ClientLimits) -> Result<(), LimitError> {
    let memory = limits.mebibytes().map(|mebibytes| format!(" --pinned-memory-limit={mebibytes}M"));
    let percent = limits.percent.map(|percent| format!(" --active-thread-percentage={}", percent.get()));
    let options: String = memory.into_iter().chain(percent).collect();
    if options.is_empty() {
        return Ok(());
    }
    ask(dialogue, &format!("namespace set {namespace} --server={SERVER_NAME}{options}"))?;
    limits.check(field(dialogue, namespace, "pinned-memory-limit", parse_memory)?, percent_of(dialogue, namespace)?)
}

fn percent_of(dialogue: &Dialogue, namespace: &str) -> Result<f64, LimitError> {
    Ok(field(dialogue, namespace, "active-thread-percentage", parse_percent)?.unwrap_or(100.0))
}

/// A field of a namespace; `None` where it is not set.
fn field<T>(
    dialogue: &Dialogue,
    namespace: &str,
    name: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, LimitError> {
    let command = format!("namespace get {namespace} {SERVER_NAME} {name}");
    let reply = ask(dialogue, &command)?;
    if matches!(reply.trim(), "" | "-" | "none" | "unlimited") {
        return Ok(None);
    }
    let odd = || LimitError::Dialogue(DialogueError::Reply { command, reply: excerpt(&reply) });
    parse(&reply).map(Some).ok_or_else(odd)
}

fn ask(dialogue: &Dialogue, command: &str) -> Result<String, LimitError> {
    dialogue.ask(command).map_err(LimitError::Dialogue)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_class_has_a_valid_name(class in "\\PC{1,80}") {
            let name = namespace_name(&class);
            prop_assert!(is_name(&name), "{name}");
        }
    }

    #[test]
    fn a_client_points_to_its_namespace() {
        assert_eq!(
            client_directory(Path::new("/mps/pipe"), &namespace_name("gpu.Small")),
            Path::new("/mps/pipe/gpu/gpu_small")
        );
    }
}
