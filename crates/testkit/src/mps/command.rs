//! The commands of the v2 dialogue.

use std::io;
use std::io::Write as _;
use std::time::Duration;

use super::control::Control;
use super::{Quit, Script, caller};

/// What a command brings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) text: String,
    /// Whether the daemon leaves after it.
    pub(super) quits: bool,
}

impl Reply {
    const fn of(text: String) -> Self {
        Self { text, quits: false }
    }
}

/// Obeys a command, or the script.
pub(super) fn obey(control: &Control, line: &str) -> io::Result<Reply> {
    let script = caller::script()?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some((name, arguments)) = words.split_first() else { return Ok(Reply::default()) };
    if script.unanswered.contains(*name) {
        return block();
    }
    if let Some(reply) = script.replies.get(*name) {
        return Ok(Reply::of(reply.clone()));
    }
    if *name == "quit" {
        return quit(control, &script, arguments);
    }
    let text = servers_and_clients(control, &script, name, arguments)?;
    let text = text.or_else(|| limits(control, name, arguments));
    Ok(Reply::of(text.unwrap_or_else(|| unknown(name))))
}

fn unknown(name: &str) -> String {
    format!("Unknown command \"{name}\"\n")
}

/// Blocks as long as the daemon lives.
fn block() -> io::Result<Reply> {
    loop {
        std::thread::park();
    }
}

fn quit(control: &Control, script: &Script, arguments: &[&str]) -> io::Result<Reply> {
    let limit = match arguments {
        ["-t", seconds] if script.quit_with_timeout => seconds.parse().ok().map(Duration::from_secs),
        [] => None,
        _ => return Ok(Reply::of(unknown(&format!("quit {}", arguments.join(" "))))),
    };
    match script.quit {
        Quit::Well => control.wait_for_clients(limit),
        Quit::Hang => return block(),
        Quit::Refuse => return Ok(Reply::of("Permission denied\n".to_owned())),
        Quit::Ignore => return Ok(Reply::default()),
    }
    Ok(Reply { text: String::new(), quits: true })
}

/// Commands about servers and clients; `None` for another command.
fn servers_and_clients(
    control: &Control,
    script: &Script,
    name: &str,
    arguments: &[&str],
) -> io::Result<Option<String>> {
    let first = arguments.first().and_then(|argument| argument.parse::<u32>().ok());
    Ok(Some(match (name, first) {
        ("get_server_list", _) => lines(control.tables().servers.keys()),
        ("get_server_status", Some(pid)) => server_status(control, script, pid),
        ("start_server", _) => {
            control.ensure_server()?;
            String::new()
        }
        ("shutdown_server", Some(pid)) => {
            control.wait_for_clients((arguments.last() == Some(&"-f")).then_some(Duration::ZERO));
            shut_down_server(control, pid)?
        }
        ("get_client_list", Some(server)) if control.tables().servers.contains_key(&server) => {
            lines(control.tables().clients.keys())
        }
        ("get_client_list", _) => "Server not found\n".to_owned(),
        ("get_device_client_list", _) => device_clients(control),
        ("ps", _) => process_table(control),
        ("terminate_client", Some(_)) => terminate(control, arguments),
        ("device_query", _) => device_query(),
        _ => return Ok(None),
    }))
}

fn lines<'a>(pids: impl Iterator<Item = &'a u32>) -> String {
    pids.map(|pid| format!("{pid}\n")).collect()
}

fn server_status(control: &Control, script: &Script, pid: u32) -> String {
    let known = control.tables().servers.contains_key(&pid);
    if known { format!("{}\n", script.status()) } else { "Server not found\n".to_owned() }
}

fn shut_down_server(control: &Control, pid: u32) -> io::Result<String> {
    let Some(mut child) = control.tables().servers.remove(&pid) else { return Ok("Server not found\n".to_owned()) };
    child.kill()?;
    child.wait()?;
    control.log.control(&format!("Server {pid} exited with status 0"));
    Ok(String::new())
}

/// The GPU that the daemon was started for.
fn device() -> String {
    std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_else(|_unset| "GPU-00000000-0000-0000-0000-000000000000".to_owned())
}

fn device_clients(control: &Control) -> String {
    format!("{}\n{}", device(), lines(control.tables().clients.keys()))
}

fn device_query() -> String {
    format!("Default\nDevice Ordinal    PCI IDs         UUID\n0                 0000:00:00.00   {}\n", device())
}

fn process_table(control: &Control) -> String {
    let tables = control.tables();
    let server = tables.servers.keys().next().copied().unwrap_or_default();
    let head = "PID       ID    SERVER    DEVICE             NAMESPACE     COMMAND\n".to_owned();
    let rows = tables.clients.keys().map(|pid| {
        let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{pid:<9} 0     {server:<9} {:.17}  4026531836    {}\n", device(), command.trim())
    });
    std::iter::once(head).chain(rows).collect()
}

/// Tells a client's process that its work was ended; it stays connected until it leaves by itself.
fn terminate(control: &Control, arguments: &[&str]) -> String {
    let client = arguments.get(1).and_then(|argument| argument.parse().ok()).unwrap_or_default();
    let tables = control.tables();
    let told = tables.clients.get(&client).is_some_and(|mut stream| writeln!(stream, "810").is_ok());
    if told { "0\n".to_owned() } else { "1\n".to_owned() }
}

/// Commands that set and tell limits: a `get_` prints what the `set_` of the same name took, nothing where none was.
fn limits(control: &Control, name: &str, arguments: &[&str]) -> Option<String> {
    let (verb, what) = name.split_once('_')?;
    let default = match what {
        "default_active_thread_percentage" | "active_thread_percentage" => "100.0",
        "default_device_pinned_mem_limit" | "device_pinned_mem_limit" => "",
        "default_client_priority" => "0",
        _ => return None,
    };
    let percentage = what.ends_with("percentage");
    let key = |scope: &[&str]| format!("{what} {}", scope.join(" "));
    match (verb, arguments.split_last()) {
        ("set", Some((value, scope))) => {
            let shown = if percentage { format!("{:.1}", value.parse::<f32>().ok()?) } else { (*value).to_owned() };
            control.tables().settings.insert(key(scope), shown.clone());
            Some(if percentage { format!("{shown}\n") } else { String::new() })
        }
        ("get", _) => {
            let tables = control.tables();
            let value = tables.settings.get(&key(arguments)).map_or(default, String::as_str);
            Some(if value.is_empty() { String::new() } else { format!("{value}\n") })
        }
        _ => None,
    }
}
