//! Model servers: address, API and start command.

use crate::Nanoseconds;
use crate::document::Lines;
use crate::document::quantity::{duration, within};
use crate::workload::raw::{self, OllamaApi, ServerEngine};
use crate::workload::{Api, Server};

/// What is asked when the file names no prompt: a beginning that models go on from, so that a request reaches its token
/// limit instead of the model's end mark.
pub(super) const PROMPT: &str = "Once upon a time, in a small village by the sea, there lived";

const MAXIMUM_PROMPT_BYTES: usize = 64 << 10;
const SECOND: u64 = 1_000_000_000;

/// Checks a server; `many` when `count` asks for several of it.
pub(super) fn server(path: &str, raw: &raw::Server, many: bool, lines: &mut Lines) -> Server {
    let prompt = raw.prompt.clone().unwrap_or_else(|| PROMPT.to_owned());
    texts(path, raw, &prompt, lines);
    endpoint(&format!("{path}.endpoint"), &raw.endpoint, raw.engine, lines);
    command(path, raw, many, lines);
    let span = |key: &str, text: Option<&str>, default: u64, most: u64, lines: &mut Lines| {
        let range = Nanoseconds(SECOND / 10)..=Nanoseconds(most * SECOND);
        text.map_or(Nanoseconds(default * SECOND), |text| duration(&format!("{path}.{key}"), text, range, lines))
    };
    Server {
        api: api(path, raw, lines),
        endpoint: raw.endpoint.trim_end_matches('/').to_owned(),
        command: raw.command.clone(),
        environment: raw.environment.clone(),
        ready: span("ready", raw.ready.as_deref(), 120, 3600, lines),
        model: raw.model.clone(),
        prompt,
        max_tokens: within(&format!("{path}.maxTokens"), raw.max_tokens.unwrap_or(128), 1..=131_072, lines),
        timeout: span("timeout", raw.timeout.as_deref(), 30, 600, lines),
        options: raw.options.clone(),
    }
}

fn texts(path: &str, raw: &raw::Server, prompt: &str, lines: &mut Lines) {
    if raw.model.trim().is_empty() {
        lines.problem(&format!("{path}.model"), "the model has no name", "name it as the server lists it".to_owned());
    }
    if prompt.is_empty() || prompt.len() > MAXIMUM_PROMPT_BYTES {
        let message = format!("the prompt has {} bytes", prompt.len());
        let fix = format!("write 1 to {MAXIMUM_PROMPT_BYTES} bytes, or remove the key for a story's beginning");
        lines.problem(&format!("{path}.prompt"), message, fix);
    }
}

fn api(path: &str, raw: &raw::Server, lines: &mut Lines) -> Api {
    if let ServerEngine::Ollama = raw.engine {
        return match raw.api {
            None | Some(OllamaApi::Chat) => Api::OllamaChat,
            Some(OllamaApi::Generate) => Api::OllamaGenerate,
        };
    }
    if raw.api.is_some() {
        let fix = "remove it: openai is always asked at `/v1/chat/completions`";
        lines.problem(
            &format!("{path}.api"),
            "`api` chooses between Ollama's two, and the engine is openai",
            fix.to_owned(),
        );
    }
    if !raw.options.is_empty() {
        let fix = "remove it, or make the engine ollama";
        lines.problem(&format!("{path}.options"), "`options` go to Ollama only", fix.to_owned());
    }
    Api::OpenaiChat
}

fn endpoint(path: &str, text: &str, engine: ServerEngine, lines: &mut Lines) {
    let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if let Err(wrong) = base_address(text) {
        let fix = "write the base address, such as `http://127.0.0.1:11434`";
        lines.problem(path, format!("`{shown}` {wrong}"), fix.to_owned());
        return;
    }
    let known = match engine {
        ServerEngine::Ollama => "/api",
        ServerEngine::Openai => "/v1",
    };
    let after_host = text.splitn(4, '/').nth(3).map(|rest| format!("/{rest}")).unwrap_or_default();
    if after_host.trim_end_matches('/').starts_with(known) {
        let fix = format!("write the base address; cotenant adds `{known}/…` itself");
        lines.problem(path, format!("`{shown}` goes beyond the base address"), fix);
    }
}

/// What is wrong with a base address, if something is.
fn base_address(text: &str) -> Result<(), &'static str> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let rest = rest.ok_or("does not begin with http:// or https://")?;
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) || rest.contains(['?', '#', '@']) {
        return Err("is not a base address");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let port = authority.get(after_bracket..).and_then(|tail| tail.rsplit_once(':')).map(|(_, port)| port);
    let host = authority.len() - port.map_or(0, |port| port.len() + 1);
    if host == 0 {
        return Err("names no host");
    }
    match port.map(str::parse::<u16>) {
        Some(Err(_) | Ok(0)) => Err("has a port outside 1 to 65535"),
        Some(Ok(_)) | None => Ok(()),
    }
}

fn command(path: &str, raw: &raw::Server, many: bool, lines: &mut Lines) {
    let Some(command) = &raw.command else {
        if !raw.environment.is_empty() {
            let fix = "add the `command` that starts the server, or remove it";
            lines.problem(
                &format!("{path}.environment"),
                "an environment without a `command` reaches nobody",
                fix.to_owned(),
            );
        }
        return;
    };
    let command_path = format!("{path}.command");
    if command.first().is_none_or(|program| program.trim().is_empty()) {
        let fix = "write program and arguments as a list: `[ollama, serve]`";
        lines.problem(&command_path, "the command names no program", fix.to_owned());
    }
    if many {
        let fix = "list the servers one by one, each with its own port";
        lines.problem(&command_path, "`count` would start several servers at one address", fix.to_owned());
    }
    for (index, text) in command.iter().enumerate() {
        variables(&format!("{command_path}[{index}]"), text, lines);
    }
    for (name, text) in &raw.environment {
        let place = format!("{path}.environment.{name}");
        if name.is_empty() || name.contains(['=', '\0']) {
            lines.problem(
                &place,
                "an environment variable cannot have this name",
                "use letters, digits and `_`".to_owned(),
            );
        }
        variables(&place, text, lines);
    }
}

/// Reports a `${` that does not end or names no variable.
fn variables(path: &str, text: &str, lines: &mut Lines) {
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let after = rest.get(start + 2..).unwrap_or_default();
        let end = after.find('}');
        let name = after.get(..end.unwrap_or_default()).unwrap_or_default().split(":-").next().unwrap_or_default();
        let named = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !named {
            let fix = "write `${NAME}`, or `${NAME:-text}` with a text for when it is not set";
            lines.problem(path, "`${` does not begin the name of a variable", fix.to_owned());
            return;
        }
        rest = after.get(end.unwrap_or(after.len())..).unwrap_or_default();
    }
}
