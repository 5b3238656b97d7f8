//! `cotenant node status`.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cotenant_node::serve::{GpuView, TenantView, View};

use super::places::SOCKET;
use crate::cli::Format;
use crate::exit::{Failure, Kind};
use crate::terminal;

/// How long the agent may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Far above the status of a node with 16 GPUs and 60 clients each.
const LARGEST: u64 = 64 << 20;

/// Show what the agent of this node serves, who uses it, and what is wrong.
///
/// Exit code 0 when everything that is advertised is served, 1 when it is not, or no agent answers.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The agent's socket.
    #[arg(long, env = "COTENANT_SOCKET", default_value = SOCKET, value_name = "FILE")]
    socket: PathBuf,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let body = fetch(&arguments.socket).map_err(|error| {
        Failure::new(Kind::Other, format!("no agent answers on `{}`: {error}", arguments.socket.display()))
            .hint("`cotenant node` must run here, and this command takes its user's rights (root)")
    })?;
    let view: View = serde_json::from_str(&body)
        .map_err(|error| Failure::new(Kind::Other, format!("the agent is of another version: {error}")))?;
    let text = match arguments.output {
        Format::Json => body,
        Format::Table => table(&view),
    };
    terminal::show(&text).map_err(|error| Failure::from_error(Kind::Output, &error))?;
    Ok(if view.is_ready() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks over HTTP, which every agent speaks; HTTP/1.0 needs no more of a client than this.
fn fetch(socket: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /status HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.take(LARGEST).read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("not an answer of an agent"))?;
    let first = head.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) != Some("200") {
        return Err(std::io::Error::other(format!("it says `{first}`")));
    }
    Ok(body.to_owned())
}

fn table(view: &View) -> String {
    let mut text = format!("node {}  cotenant {}", view.node, view.version);
    let driver = view.driver.as_deref().unwrap_or("none");
    let configuration = view.configuration.name.as_deref().map(|name| format!("  configuration {name}"));
    text.extend(["  driver ", driver, &configuration.unwrap_or_default(), "\n"]);
    let mut problems: Vec<String> = view.unready.clone();
    problems.extend(view.configuration.refused.iter().map(|why| format!("the configuration is not in force: {why}")));
    problems.extend(
        view.configuration.waits_for.iter().map(|whom| format!("an edit of the configuration waits for {whom}")),
    );
    problems.extend((view.api == Some(false)).then(|| "the API server does not answer".to_owned()));
    problems.extend((view.keeper == Some(false)).then(|| "the keeper of MPS daemons does not answer".to_owned()));
    text.extend(problems.iter().map(|problem| format!("! {problem}\n")));
    text.push('\n');
    text.push_str(&columns(&resources(view)));
    text.push('\n');
    text.push_str(&columns(&gpus(&view.gpus)));
    if !view.tenants.is_empty() {
        text.push('\n');
        text.push_str(&columns(&tenants(&view.tenants)));
    }
    for tenant in &view.tenants {
        for warning in &tenant.warnings {
            let TenantView { namespace, pod, container, .. } = tenant;
            text.extend(["! ", namespace, "/", pod, " (", container, "): ", warning, "\n"]);
        }
    }
    text
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

fn resources(view: &View) -> Vec<Vec<String>> {
    let mut rows = vec![row(["RESOURCE", "DEVICES", "HEALTHY", "IN USE", "KUBELET"])];
    rows.extend(view.resources.iter().map(|one| {
        let kubelet =
            one.unregistered.as_ref().map_or_else(|| "registered".to_owned(), |why| format!("not registered: {why}"));
        vec![one.name.0.clone(), one.devices.to_string(), one.healthy.to_string(), one.allocated.to_string(), kubelet]
    }));
    rows
}

fn gpus(gpus: &[GpuView]) -> Vec<Vec<String>> {
    let mut rows = vec![row(["GPU", "UUID", "NAME", "SHARED BY", "MEMORY USED", "FAULTS", "STATE"])];
    rows.extend(gpus.iter().map(|one| {
        let used = one.memory_used.map_or_else(|| "-".to_owned(), |used| used.to_string());
        vec![
            one.index.to_string(),
            one.uuid.0.clone(),
            one.name.clone(),
            one.strategy.to_string(),
            format!("{used} of {}", one.memory),
            one.faults.values().sum::<u64>().to_string(),
            one.unhealthy.clone().unwrap_or_else(|| one.phase.clone()),
        ]
    }));
    rows
}

fn tenants(tenants: &[TenantView]) -> Vec<Vec<String>> {
    let mut rows = vec![row(["GPU", "POD", "CONTAINER", "RESOURCE", "SHARE", "MEMORY", "PROCESSES"])];
    rows.extend(tenants.iter().map(|one| {
        let share = one.share.map_or_else(|| "-".to_owned(), |share| format!("{}, {}", share.memory, share.percent));
        vec![
            one.index.to_string(),
            format!("{}/{}", one.namespace, one.pod),
            one.container.clone(),
            one.resource.0.clone(),
            share,
            one.memory.map_or_else(|| "-".to_owned(), |memory| memory.to_string()),
            one.processes.to_string(),
        ]
    }));
    rows
}

/// Rows with their cells under each other, two blanks between.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_under_each_other_without_blanks_at_the_end() {
        let rows = [row(["A", "LONG NAME", "C"]), row(["longer", "b", "c"])];
        assert_eq!(columns(&rows), "A       LONG NAME  C\nlonger  b          c\n");
        assert_eq!(columns(&[]), "");
    }

    #[test]
    fn what_is_wrong_stands_at_the_top() {
        let view = View { unready: vec!["GPU-1 is in fault".to_owned()], ..View::default() };
        assert!(table(&view).lines().nth(1).is_some_and(|line| line == "! GPU-1 is in fault"));
    }
}
