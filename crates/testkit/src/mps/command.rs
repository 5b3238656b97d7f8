//! The commands of the v2 dialogue.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::control::Control;
use super::tables::{memory_bytes, memory_shown};
use super::{Quit, Script, caller};

/// What a command brings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) text: String,
    /// Whether the daemon leaves after it.
    pub(super) quits: bool,
}

impl Reply {
    pub(super) const fn of(text: String) -> Self {
        Self { text, quits: false }
    }
}

/// Obeys a command, or the script.
pub(super) fn obey(control: &Arc<Control>, line: &str) -> io::Result<Reply> {
    let script = caller::script()?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some((name, arguments)) = words.split_first() else { return Ok(Reply::of(unknown(line))) };
    if let Some(reply) = scripted(&script, name) {
        return Ok(reply);
    }
    if *name == "quit" {
        return Ok(quit(control, &script, arguments));
    }
    let text = servers(control, &script, name, arguments)?;
    let text = text.or_else(|| clients(control, name, arguments)).or_else(|| limits(control, name, arguments));
    Ok(Reply::of(text.unwrap_or_else(|| unknown(name))))
}

/// What the script says to a command; one that is never answered blocks as long as the daemon lives.
pub(super) fn scripted(script: &Script, name: &str) -> Option<Reply> {
    while script.unanswered.contains(name) {
        std::thread::park();
    }
    script.replies.get(name).map(|reply| Reply::of(reply.clone()))
}

fn unknown(name: &str) -> String {
    format!("Unknown command \"{name}\"\n")
}

pub(super) fn quit(control: &Control, script: &Script, arguments: &[&str]) -> Reply {
    let limit = match arguments {
        ["-t", seconds] if !script.quit_without_timeout => seconds.parse().ok().map(Duration::from_secs),
        [] => None,
        _ => return Reply::of(unknown(&format!("quit {}", arguments.join(" ")))),
    };
    match script.quit {
        Quit::Well => drop(control.wait_until(limit, |tables| tables.clients.is_empty())),
        Quit::Hang => loop {
            std::thread::park();
        },
        Quit::Refuse => return Reply::of("Permission denied\n".to_owned()),
        Quit::Ignore => return Reply::default(),
    }
    Reply { text: String::new(), quits: true }
}

fn not_found(server: u32) -> String {
    format!("Server {server} not found\n")
}

fn number(arguments: &[&str], index: usize) -> u32 {
    arguments.get(index).and_then(|argument| argument.parse().ok()).unwrap_or_default()
}

/// Commands about servers; `None` for another command.
fn servers(control: &Control, script: &Script, name: &str, arguments: &[&str]) -> io::Result<Option<String>> {
    let pid = number(arguments, 0);
    let known = control.tables().servers.contains_key(&pid);
    Ok(Some(match name {
        "get_server_list" => lines(control.tables().servers.keys()),
        "get_server_status" | "shutdown_server" | "get_client_list" if !known => not_found(pid),
        "get_server_status" => server_status(control, script, pid),
        "start_server" => {
            control.start_server(number(arguments, 1))?;
            String::new()
        }
        "shutdown_server" => {
            let force = arguments.contains(&"-f");
            control.log.control(&format!("Force shutting down server {pid}"));
            control.wait_until(force.then_some(Duration::ZERO), |tables| tables.clients_of(pid).is_empty());
            control.end_server(pid);
            String::new()
        }
        "device_query" => device_query(),
        _ => return Ok(None),
    }))
}

fn server_status(control: &Control, script: &Script, pid: u32) -> String {
    let status = control.tables().servers.get(&pid).map_or("INITIALIZING", |server| server.status());
    format!("{}\n", script.server_status.as_deref().unwrap_or(status))
}

/// Commands about clients; `None` for another command.
fn clients(control: &Control, name: &str, arguments: &[&str]) -> Option<String> {
    Some(match name {
        "get_client_list" => lines(control.tables().clients_of(number(arguments, 0)).iter()),
        "get_device_client_list" => device_clients(control),
        "ps" => process_table(control),
        "terminate_client" => terminate(control, number(arguments, 0), number(arguments, 1)),
        _ => return None,
    })
}

fn lines<'a>(pids: impl Iterator<Item = &'a u32>) -> String {
    pids.map(|pid| format!("{pid}\n")).collect()
}

/// The GPU that the daemon was started for.
pub(super) fn device() -> String {
    std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_else(|_unset| "GPU-00000000-0000-0000-0000-000000000000".to_owned())
}

fn device_clients(control: &Control) -> String {
    let tables = control.tables();
    if tables.clients.is_empty() {
        return String::new();
    }
    let clients: String = tables.clients.keys().map(|pid| format!("{pid}.1\n")).collect();
    format!("[0] 00:00.0, Simulated GPU\n{clients}")
}

fn device_query() -> String {
    let head = "Device Ordinal  PCI IDs        UUID                                      Name           Attributes";
    format!("Default\n{head}\n0               0000:00.06.00  {}  Simulated GPU  N/A\n", device())
}

fn process_table(control: &Control) -> String {
    let tables = control.tables();
    if tables.servers.is_empty() {
        return "Server not found\n".to_owned();
    }
    if tables.clients.is_empty() {
        return String::new();
    }
    let head =
        "PID       ID        SERVER         DEVICE                    NAMESPACE      COMMAND        \n".to_owned();
    let rows = tables.clients.iter().map(|(pid, client)| {
        let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let (id, server, device) = (client.number, client.server, device());
        format!("{pid:<9} {id:<9} {server:<14} {device:<25.22} 4026531836     {}\n", command.trim())
    });
    std::iter::once(head).chain(rows).collect()
}

/// Tells a client's process that its work was ended; it stays connected until it leaves by itself. In a fault the daemon
/// says nothing to anybody until then (seen on driver 580).
pub(super) fn terminate(control: &Control, server: u32, client: u32) -> String {
    let mut tables = control.tables();
    let Some(faulty) = tables.servers.get(&server).map(|server| !server.affected.is_empty()) else {
        return format!("{}Server {server} not found!\n1\n", not_found(server));
    };
    let Some(connected) = tables.clients.get_mut(&client).filter(|connected| connected.server == server) else {
        return format!("Invalid process {client}!\n1\n");
    };
    control.log.server(server, &format!("MPS server requesting client {{PID: {client}, Context ID: 1}} to exit"));
    if faulty {
        drop(tables);
        let _blocked = control.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        control.wait_until(None, |tables| !tables.clients.contains_key(&client));
    } else {
        connected.tell("810");
    }
    control.log.server(server, "Client termination succeeded.");
    "0\n".to_owned()
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
    let memory = what.ends_with("mem_limit");
    if verb == "set"
        && let Some((value, scope)) = arguments.split_last()
    {
        set(control, what, value, scope, memory);
    }
    let scope = if verb == "set" { arguments.split_last().map_or(arguments, |(_, scope)| scope) } else { arguments };
    if !matches!(verb, "get" | "set") || (memory && verb == "set") {
        return (verb == "set").then(String::new);
    }
    let told = control.tables().settings.get(&format!("{what} {}", scope.join(" "))).cloned();
    let told = told.unwrap_or_else(|| default.to_owned());
    let told = if memory { memory_bytes(&told).map(memory_shown).unwrap_or_default() } else { told };
    Some(if told.is_empty() { told } else { format!("{told}\n") })
}

/// Keeps a value; one that makes no sense changes nothing, and only the log says so.
fn set(control: &Control, what: &str, value: &str, scope: &[&str], memory: bool) {
    let percentage = what.ends_with("percentage");
    let kept = match value.parse::<f64>() {
        Ok(percent) if percentage && percent > 0.0 && percent <= 100.0 => format!("{percent:.1}"),
        _ if percentage => return control.log.control("Invalid percentage, expected between (0.0, 100.0]"),
        _ if memory && memory_bytes(value).is_none() => return control.log.control("Invalid command format."),
        _ => value.to_owned(),
    };
    control.tables().settings.insert(format!("{what} {}", scope.join(" ")), kept);
}
