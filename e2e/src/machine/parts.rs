//! The children of a machine's first process: the parts it was told to start, and everything that was orphaned.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};

use super::wire::{Part, PartStatus};
use crate::process::command;

/// How long the reaper sleeps when there is no child at all.
const CHILDLESS: Duration = Duration::from_millis(20);

/// The parts of a machine by name.
#[derive(Debug)]
pub(super) struct Parts {
    logs: PathBuf,
    table: Mutex<Table>,
}

type Table = BTreeMap<String, (Part, PartStatus)>;

impl Parts {
    pub(super) const fn new(logs: PathBuf) -> Self {
        Self { logs, table: Mutex::new(BTreeMap::new()) }
    }

    /// Whoever holds the table may start or reap children; nobody else does meanwhile.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn list(&self) -> Vec<PartStatus> {
        self.table().values().map(|(_part, status)| status.clone()).collect()
    }

    /// Starts a part, its output added to its log.
    pub(super) fn start(&self, part: Part) -> anyhow::Result<()> {
        let mut table = self.table();
        if let Some((_part, running)) = table.get(&part.name).filter(|(_part, status)| status.ended.is_none()) {
            anyhow::bail!("{} runs already as process {}", part.name, running.id);
        }
        let path = self.logs.join(format!("{}.log", part.name));
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("cannot write {}", path.display()))?;
        let child = command(&part.program)
            .args(&part.arguments)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", part.program))?;
        let status = PartStatus { name: part.name.clone(), id: i32::try_from(child.id())?, ended: None };
        table.insert(part.name.clone(), (part, status));
        Ok(())
    }

    /// Starts a part as it was started before.
    pub(super) fn start_again(&self, name: &str) -> anyhow::Result<()> {
        let part = self.table().get(name).map(|(part, _status)| part.clone());
        self.start(part.with_context(|| format!("no part is named {name}"))?)
    }

    /// Sends a signal to a part; its id cannot be another's, because nothing is reaped meanwhile.
    pub(super) fn signal(&self, name: &str, signal: i32) -> anyhow::Result<()> {
        let table = self.table();
        let (_part, status) = table.get(name).with_context(|| format!("no part is named {name}"))?;
        anyhow::ensure!(status.ended.is_none(), "{name} has ended");
        let id = Pid::from_raw(status.id).context("no process has the id 0")?;
        let signal = Signal::from_named_raw(signal).with_context(|| format!("no signal has the number {signal}"))?;
        Ok(rustix::process::kill_process(id, signal)?)
    }

    /// Reaps children for ever.
    pub(super) fn reap(&self) -> ! {
        loop {
            // Looks without reaping: a child that a start has just failed for is that start's to reap.
            if rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).is_err() {
                std::thread::sleep(CHILDLESS);
            }
            let mut table = self.table();
            while let Ok(Some((id, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                let mut running = table.values_mut().map(|(_part, status)| status).filter(|part| part.ended.is_none());
                if let Some(part) = running.find(|part| part.id == id.as_raw_nonzero().get()) {
                    part.ended = Some(told(status));
                }
            }
        }
    }
}

fn told(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => format!("{status:?}"),
    }
}
