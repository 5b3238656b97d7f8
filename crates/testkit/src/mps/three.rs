//! Protocol version 3, from the documentation of release 615 alone: no driver that speaks it has been seen.
//!
//! Named servers, each with namespaces that have limits of their own; a client chooses by the directory of the socket it
//! connects to. What the documentation leaves open is made up and marked: the texts of success and failure, the exit
//! status of a failure, and the status of a server in fault.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::command::{Reply, device, quit, scripted, terminate};
use super::control::{Control, converse, listen};
use super::tables::{Limits, Server, memory_bytes, memory_shown};
use super::{caller, server};

/// The socket that a connection came through.
#[derive(Debug, Clone)]
pub(super) enum Route {
    /// The daemon's own.
    Main,
    /// The one of a namespace: server, namespace.
    Namespace(String, String),
}

impl Route {
    pub(super) fn namespace(&self) -> Option<String> {
        match self {
            Self::Main => None,
            Self::Namespace(_, namespace) => Some(namespace.clone()),
        }
    }
}

/// A server by its name.
#[derive(Debug, Default)]
pub(super) struct Named {
    pid: u32,
    user: u32,
    devices: Option<String>,
    namespaces: BTreeMap<String, Space>,
}

/// A namespace's limits.
#[derive(Debug, Default, Clone)]
struct Space {
    memory: Option<u64>,
    percent: Option<f64>,
}

/// The end of a reply that makes the calling program fail (made up).
pub(super) const FAILED: &str = "\0failed";

/// A command's words: what is not an option, and the options by name.
struct Words<'a> {
    plain: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        let (mut plain, mut options) = (Vec::new(), BTreeMap::new());
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((key, value)) => drop(options.insert(key.trim_start_matches('-'), value)),
                None if word.starts_with("--") => drop(options.insert(word.trim_start_matches('-'), "")),
                None => plain.push(word),
            }
        }
        Self { plain, options }
    }

    fn option(&self, key: &str) -> Option<&'a str> {
        self.options.get(key).copied()
    }
}

/// Obeys a command, or the script.
pub(super) fn obey(control: &Arc<Control>, line: &str) -> io::Result<Reply> {
    let script = caller::script()?;
    let words = Words::of(line);
    let name = words.plain.get(..2).map(|two| two.join(" ")).unwrap_or_default();
    if let Some(reply) = scripted(&script, &name) {
        return Ok(reply);
    }
    if words.plain == ["quit"] {
        return Ok(quit(control, &script, &[]));
    }
    let told = match words.plain.as_slice() {
        ["server", "create", name] => create_server(control, name, &words)?,
        ["server", "delete", name] => delete_server(control, name, &words),
        ["server", "list", rest @ ..] => Ok(list_servers(control, rest.first().copied())),
        ["server", "set", name] => set(control, name, "default", &words),
        ["server", "get", name, field] => get_server(control, name, field),
        ["namespace", "create", space] => create_namespace(control, space, &words)?,
        ["namespace", "delete", space] => delete_namespace(control, space, &words),
        ["namespace", "set", space] => set(control, words.option("server").unwrap_or_default(), space, &words),
        ["namespace", "get", space, name, field] => get_namespace(control, name, space, field),
        ["client", "list"] => Ok(list_clients(control, words.option("server"))),
        ["client", "terminate", pid] => terminate_client(control, pid),
        _ => Err(format!("unknown command '{line}'")),
    };
    Ok(Reply::of(told.unwrap_or_else(|error| format!("Error: {error}\n{FAILED}"))))
}

type Told = Result<String, String>;

fn no_server(name: &str) -> String {
    format!("server '{name}' not found")
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(allowed)
}

fn create_server(control: &Arc<Control>, name: &str, words: &Words<'_>) -> io::Result<Told> {
    if !is_name(name) || control.tables().named.contains_key(name) {
        return Ok(Err(format!("invalid or taken server name '{name}'")));
    }
    let devices = words.option("allowed-devices").map(str::to_owned);
    // Seen by others: the command succeeds, and the server is gone.
    if devices.as_ref().is_some_and(|devices| *devices != device() && devices != "0") {
        return Ok(Ok(format!("Server '{name}' created\n")));
    }
    let user = words.option("uid").and_then(|uid| uid.parse().ok()).unwrap_or_default();
    let child = server::start()?;
    let pid = child.id();
    control.log.starting(pid, user);
    let server = Server { child, user, affected: Default::default(), leaving: false, limits: Limits::default() };
    let namespaces = BTreeMap::from([("default".to_owned(), Space::default())]);
    let mut tables = control.tables();
    tables.servers.insert(pid, server);
    tables.named.insert(name.to_owned(), Named { pid, user, devices, namespaces });
    drop(tables);
    control.announce(pid, Limits::default());
    let directory = control.pipe.join(name);
    open(control, &directory, Route::Namespace(name.to_owned(), "default".to_owned()))?;
    open(control, &directory.join("default"), Route::Namespace(name.to_owned(), "default".to_owned()))?;
    Ok(Ok(format!("Server '{name}' created\n")))
}

/// Opens the socket of a directory and serves who comes through it.
fn open(control: &Arc<Control>, directory: &Path, route: Route) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let listener = listen(&directory.join("control"), 0o666)?;
    let control = Arc::clone(control);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (control, route) = (Arc::clone(&control), route.clone());
            std::thread::spawn(move || converse(&control, stream, &route));
        }
    });
    Ok(())
}

fn delete_server(control: &Control, name: &str, words: &Words<'_>) -> Told {
    let pid = control.tables().named.get(name).map(|named| named.pid).ok_or_else(|| no_server(name))?;
    if words.option("force").is_none() && !control.tables().clients_of(pid).is_empty() {
        return Err(format!("server '{name}' has active clients"));
    }
    control.tables().named.remove(name);
    control.end_server(pid);
    drop(fs::remove_dir_all(control.pipe.join(name)));
    Ok(format!("Server '{name}' deleted\n"))
}

/// What a server says of itself; `Fault` is made up.
fn status(control: &Control, pid: u32) -> &'static str {
    match control.tables().servers.get(&pid).map(Server::status) {
        Some("ACTIVE") => "Ready",
        Some(_) => "Fault",
        None => "Stopped",
    }
}

fn list_servers(control: &Control, only: Option<&str>) -> String {
    let rows: Vec<(String, u32, u32, String)> = control
        .tables()
        .named
        .iter()
        .filter(|(name, _)| only.is_none_or(|only| only == *name))
        .map(|(name, named)| (name.clone(), named.user, named.pid, named.devices.clone().unwrap_or_else(|| "-".into())))
        .collect();
    let line = |(name, user, pid, devices): (String, u32, u32, String)| {
        let (status, pipe) = (status(control, pid), control.pipe.join(&name));
        format!("{name},{user},{pid},{status},{},{devices},-\n", pipe.display())
    };
    rows.into_iter().map(line).collect()
}

fn get_server(control: &Control, name: &str, field: &str) -> Told {
    let row = list_servers(control, Some(name));
    let fields: Vec<&str> = row.trim().split(',').collect();
    let index = ["name", "uid", "pid", "status", "pipe-directory", "allowed-devices"].iter().position(|f| *f == field);
    let value = index.and_then(|index| fields.get(index)).filter(|_value| !row.is_empty());
    value.map(|value| format!("{value}\n")).ok_or_else(|| no_server(name))
}

fn create_namespace(control: &Arc<Control>, space: &str, words: &Words<'_>) -> io::Result<Told> {
    let name = words.option("server").unwrap_or_default();
    {
        let mut tables = control.tables();
        let Some(named) = tables.named.get_mut(name) else { return Ok(Err(no_server(name))) };
        if !is_name(space) || named.namespaces.contains_key(space) {
            return Ok(Err(format!("invalid or taken namespace name '{space}'")));
        }
        named.namespaces.insert(space.to_owned(), Space::default());
    }
    let route = Route::Namespace(name.to_owned(), space.to_owned());
    open(control, &control.pipe.join(name).join(space), route)?;
    Ok(Ok(format!("Namespace '{space}' created\n")))
}

fn delete_namespace(control: &Control, space: &str, words: &Words<'_>) -> Told {
    let name = words.option("server").unwrap_or_default();
    let mut tables = control.tables();
    let named = tables.named.get_mut(name).ok_or_else(|| no_server(name))?;
    let removed = named.namespaces.remove(space);
    drop(tables);
    drop(fs::remove_dir_all(control.pipe.join(name).join(space)));
    removed
        .map(|_space| format!("Namespace '{space}' deleted\n"))
        .ok_or_else(|| format!("namespace '{space}' not found"))
}

fn set(control: &Control, name: &str, space: &str, words: &Words<'_>) -> Told {
    let mut tables = control.tables();
    let named = tables.named.get_mut(name).ok_or_else(|| no_server(name))?;
    let limits = named.namespaces.get_mut(space).ok_or_else(|| format!("namespace '{space}' not found"))?;
    if let Some(memory) = words.option("pinned-memory-limit") {
        limits.memory = Some(memory_bytes(memory).ok_or_else(|| format!("invalid limit '{memory}'"))?);
    }
    if let Some(percent) = words.option("active-thread-percentage") {
        limits.percent = Some(percent.parse().map_err(|_number| format!("invalid percentage '{percent}'"))?);
    }
    Ok(String::new())
}

fn get_namespace(control: &Control, name: &str, space: &str, field: &str) -> Told {
    let tables = control.tables();
    let named = tables.named.get(name).ok_or_else(|| no_server(name))?;
    let limits = named.namespaces.get(space).ok_or_else(|| format!("namespace '{space}' not found"))?;
    Ok(match field {
        "name" => format!("{space}\n"),
        "server" => format!("{name}\n"),
        "pinned-memory-limit" => {
            limits.memory.map_or_else(|| "-\n".to_owned(), |bytes| format!("{}\n", memory_shown(bytes)))
        }
        "active-thread-percentage" => limits.percent.map_or_else(|| "-\n".to_owned(), |percent| format!("{percent}\n")),
        _ => return Err(format!("unknown field '{field}'")),
    })
}

fn list_clients(control: &Control, server: Option<&str>) -> String {
    let tables = control.tables();
    let line = |name: &str, pid: u32| {
        let space = tables.clients.get(&pid).and_then(|client| client.namespace.as_deref()).unwrap_or("default");
        let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{pid},{name},0,{space},{}\n", command.trim())
    };
    let wanted = tables.named.iter().filter(|(name, _)| server.is_none_or(|server| server == *name));
    wanted.flat_map(|(name, named)| tables.clients_of(named.pid).into_iter().map(|pid| line(name, pid))).collect()
}

fn terminate_client(control: &Control, pid: &str) -> Told {
    let client = pid.parse().unwrap_or_default();
    let server = control.tables().clients.get(&client).map(|client| client.server);
    let server = server.ok_or_else(|| format!("client {pid} not found"))?;
    drop(terminate(control, server, client));
    Ok(String::new())
}

impl Control {
    /// The server behind a route with the limits of its namespace, or CUDA's code for a refusal.
    pub(super) fn route(&self, user: u32, route: &Route) -> Result<(u32, Limits), &'static str> {
        let tables = self.tables();
        let (name, space) = match route {
            Route::Namespace(name, space) => (name.as_str(), space.as_str()),
            Route::Main => {
                let own = tables.named.iter().find(|(_, named)| named.user == user);
                (own.map(|(name, _)| name.as_str()).ok_or("805")?, "default")
            }
        };
        let named = tables.named.get(name).ok_or("805")?;
        if named.user != user {
            return Err("800");
        }
        let limits = named.namespaces.get(space).cloned().unwrap_or_default();
        match tables.servers.get(&named.pid).map(Server::status) {
            Some("ACTIVE") => {
                Ok((named.pid, Limits { memory: limits.memory, percent: limits.percent.unwrap_or(100.0) }))
            }
            Some(_) => Err("807"),
            None => Err("805"),
        }
    }
}
