//! Processes by identity: a process id is reused, an [`Identity`] is not.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::clock::Deadline;

/// How long SIGKILL may take before a process counts as a survivor (it sleeps uninterruptibly in the driver, say).
const KILL_PATIENCE: Duration = Duration::from_secs(3);

/// Variable of every process that cotenant starts; see [`crate::Registry::mark`].
pub(crate) const MARK: &str = "COTENANT_OWNER";

/// One process of one boot, as `/proc` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// Start in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// PID namespace, such as `pid:[4026531836]`: the same number is another process in another one.
    pub pid_namespace: String,
}

impl Identity {
    /// The identity of a living process; `None` when there is none with this id.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = Stat::of(pid).filter(Stat::lives)?;
        let here = Place::here().ok()?;
        Some(Self { pid, start_time: stat.start_time, boot_id: here.boot_id, pid_namespace: here.pid_namespace })
    }

    /// The identity of this process.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn current() -> io::Result<Self> {
        Self::of(std::process::id()).ok_or_else(|| io::Error::other("/proc does not show this process"))
    }

    /// Whether exactly this process still runs. A zombie does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.is_of_here() && self.stat().is_some_and(|stat| stat.lives())
    }

    /// Whether the process, if it runs, would be visible from here: same boot, same PID namespace.
    pub(crate) fn is_of_here(&self) -> bool {
        Place::here().is_ok_and(|here| here.boot_id == self.boot_id && here.pid_namespace == self.pid_namespace)
    }

    /// Whether it was of another boot and is therefore gone.
    pub(crate) fn is_of_another_boot(&self) -> bool {
        Place::here().is_ok_and(|here| here.boot_id != self.boot_id)
    }

    /// Its line of `/proc`, zombies included.
    fn stat(&self) -> Option<Stat> {
        Stat::of(self.pid).filter(|stat| stat.start_time == self.start_time)
    }

    /// A handle (pidfd) of exactly this process, which becomes readable when it has ended; `None` when it has already.
    ///
    /// # Errors
    /// When the kernel has no handle to give.
    pub fn handle(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = raw(self.pid) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            // Opened before the check: the number cannot be reused in between.
            Ok(handle) => Ok(self.is_alive().then_some(handle)),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks exactly this process to end (SIGTERM).
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends exactly this process (SIGKILL). A client of MPS with work in flight can take its server with it: end its work
    /// first ([`crate::Dialogue::terminate_client`]).
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Signals exactly this process; nothing happens when it is gone.
    ///
    /// The handle is opened before the identity is checked, so the number cannot be reused in between.
    pub(crate) fn signal(&self, signal: Signal) {
        let Some(pid) = raw(self.pid) else { return };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        if self.is_alive()
            && let Err(error) = pidfd_send_signal(&handle, signal)
        {
            tracing::warn!(pid = self.pid, %error, "cannot signal a process");
        }
    }

    /// Its living direct children.
    pub(crate) fn children(&self) -> Vec<Self> {
        if !self.is_alive() {
            return Vec::new();
        }
        snapshot().into_iter().filter(|stat| stat.parent == self.pid).filter_map(|stat| Self::of(stat.pid)).collect()
    }
}

/// Waits until a process has ended, zombies included; whether that came before the deadline. For a child that has not been
/// waited for, whose number cannot be another's.
pub(crate) fn await_end(pid: u32, deadline: Deadline) -> bool {
    let handle = raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let Some(handle) = handle else { return deadline.wait(|| Identity::of(pid).is_none()) };
    loop {
        let left = deadline.remaining().unwrap_or_default();
        let Ok(left) = Timespec::try_from(left) else { return false };
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&left)) {
            Err(Errno::INTR) => {}
            Ok(ready) => return ready > 0,
            Err(_) => return deadline.wait(|| Identity::of(pid).is_none()),
        }
    }
}

fn raw(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Where process ids have a meaning.
struct Place {
    boot_id: String,
    pid_namespace: String,
}

impl Place {
    fn here() -> io::Result<Self> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let pid_namespace = fs::read_link("/proc/self/ns/pid")?.display().to_string();
        Ok(Self { boot_id, pid_namespace })
    }
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: u32,
    state: char,
    parent: u32,
    group: u32,
    session: u32,
    start_time: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The command name, in parentheses, may hold spaces and parentheses: the fields count from its last one.
    fn parse(line: &str) -> Option<Self> {
        let (head, tail) = line.rsplit_once(')')?;
        let pid = head.split_once(' ')?.0.parse().ok()?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse().ok();
        Some(Self {
            pid,
            state: fields.first()?.chars().next()?,
            parent: number(1)?,
            group: number(2)?,
            session: number(3)?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }

    const fn lives(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }

    /// Whether its group or its session has this number.
    const fn is_led_by(&self, leader: u32) -> bool {
        self.group == leader || self.session == leader
    }
}

/// Every living process that `/proc` shows.
pub(crate) fn snapshot() -> Vec<Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Stat::of)
        .filter(Stat::lives)
        .collect()
}

/// A variable of a process's environment as it was at its start; `None` when it has none or may not be read.
pub(crate) fn environment_variable(pid: u32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(|entry| {
        let (key, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
        (key == name).then(|| value.to_owned())
    })
}

/// How processes were brought to an end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// Processes that were asked with SIGTERM.
    pub asked: usize,
    /// Of these and their late children, those that needed SIGKILL.
    pub killed: usize,
    /// Processes that SIGKILL did not end in 3 s.
    pub survivors: Vec<u32>,
}

/// Ends a process, its process group, its session and its descendants: SIGTERM (and SIGCONT, for one that was stopped),
/// SIGKILL after `grace`.
///
/// A child of the caller is a zombie after that; the caller still waits for it. Call it before the process is waited
/// for: members of its group that outlive it are found only while its process id cannot be reused.
#[must_use]
pub fn end_process_group(leader: &Identity, grace: Duration) -> Ended {
    end(|| certain_family(leader, None), grace)
}

/// Ends what `members` names, asking again for those that appear meanwhile.
pub(crate) fn end(members: impl Fn() -> Vec<Identity>, grace: Duration) -> Ended {
    let mut known: Vec<Identity> = members();
    let asked = known.len();
    for member in &known {
        member.signal(Signal::TERM);
        member.signal(Signal::CONT);
    }
    let gone = |known: &[Identity]| !known.iter().any(Identity::is_alive);
    Deadline::after(grace).wait(|| gone(&known) && members().is_empty());
    let mut killed = BTreeSet::new();
    Deadline::after(KILL_PATIENCE).wait(|| {
        known.extend(members());
        known.retain(Identity::is_alive);
        killed.extend(known.iter().map(|member| member.pid));
        known.iter().for_each(|member| member.signal(Signal::KILL));
        gone(&known)
    });
    let survivors = known.iter().filter(|member| member.is_alive()).map(|member| member.pid).collect();
    Ended { asked, killed: killed.len(), survivors }
}

/// The living processes that belong to a process: itself, the group and the session it leads, and the descendants of them
/// all, as far as `/proc` shows them.
///
/// The number alone says which process that is: whoever signals what is found here has to check identities first.
#[must_use]
pub fn family(leader: u32) -> BTreeSet<u32> {
    relatives(leader, &snapshot())
}

fn relatives(leader: u32, all: &[Stat]) -> BTreeSet<u32> {
    let led = all.iter().filter(|stat| stat.is_led_by(leader)).map(|stat| stat.pid);
    with_descendants(led.chain([leader]).collect(), all)
}

fn with_descendants(mut pids: BTreeSet<u32>, all: &[Stat]) -> BTreeSet<u32> {
    loop {
        let before = pids.len();
        let children: Vec<u32> = all.iter().filter(|stat| pids.contains(&stat.parent)).map(|stat| stat.pid).collect();
        pids.extend(children);
        if pids.len() == before {
            return pids;
        }
    }
}

/// The family of a process without the caller, as long as that can be said for certain.
///
/// While the leader's number is its own (it lives, or is a zombie), group and session of that number are its. Once it is
/// gone the number may be somebody else's: then only processes that carry the owner's `mark` in their environment are.
pub(crate) fn certain_family(leader: &Identity, mark: Option<&str>) -> Vec<Identity> {
    if !leader.is_of_here() {
        return Vec::new();
    }
    let mut pids = if leader.stat().is_some() { family(leader.pid) } else { marked_family(leader.pid, mark) };
    pids.remove(&std::process::id());
    pids.into_iter().filter_map(Identity::of).collect()
}

/// The members of a group or session that carry a mark, with their descendants.
fn marked_family(leader: u32, mark: Option<&str>) -> BTreeSet<u32> {
    let all = snapshot();
    let marked = |stat: &&Stat| mark.is_some() && environment_variable(stat.pid, MARK).as_deref() == mark;
    let members = all.iter().filter(|stat| stat.is_led_by(leader)).filter(marked).map(|stat| stat.pid).collect();
    with_descendants(members, &all)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "these tests start children and wait for them")]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_command_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = "42 (a) b (c) S 7 41 40 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1";
        let wanted = Stat { pid: 42, state: 'S', parent: 7, group: 41, session: 40, start_time: 987_654 };
        assert_eq!(Stat::parse(line), Some(wanted));
        assert_eq!(Stat::parse("42 (truncated"), None);
        assert_eq!(Stat::parse("42 (x) S 1"), None);
    }

    #[test]
    fn a_family_is_group_session_and_descendants_of_descendants() {
        let stat = |pid, parent, group, session| Stat { pid, state: 'S', parent, group, session, start_time: 0 };
        let all = [
            stat(2, 1, 2, 1),
            stat(3, 1, 2, 1),
            stat(4, 1, 8, 2),
            stat(5, 4, 5, 5),
            stat(6, 5, 6, 6),
            stat(7, 1, 7, 7),
        ];
        assert_eq!(relatives(2, &all), BTreeSet::from([2, 3, 4, 5, 6]));
        assert_eq!(relatives(9, &all), BTreeSet::from([9]));
        assert!(family(std::process::id()).contains(&std::process::id()));
    }

    #[test]
    fn a_reused_process_id_is_another_identity_and_is_not_signalled() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        for stranger in [
            Identity { start_time: identity.start_time - 1, ..identity.clone() },
            Identity { boot_id: "another boot".to_owned(), ..identity.clone() },
            Identity { pid_namespace: "pid:[1]".to_owned(), ..identity.clone() },
        ] {
            assert!(!stranger.is_alive());
            stranger.signal(Signal::KILL);
            assert_eq!(end_process_group(&stranger, Duration::ZERO), Ended::default());
        }
        assert!(identity.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!identity.is_alive());
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        assert!(Deadline::after(Duration::from_secs(10)).wait(|| Identity::of(pid).is_none()));
        child.wait().unwrap();
    }

    #[test]
    fn a_group_ends_with_its_stopped_and_deaf_members_and_its_runaway_children() {
        let script = "trap '' TERM; setsid sleep 61 & sh -c 'kill -STOP $$; sleep 62' & while :; do sleep 0.05; done";
        let mut child = Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap();
        let leader = Identity::of(child.id()).unwrap();
        let complete = || {
            let all = certain_family(&leader, None);
            all.len() >= 3 && all.iter().any(|one| Stat::of(one.pid).is_some_and(|stat| stat.state == 'T'))
        };
        assert!(Deadline::after(Duration::from_secs(10)).wait(complete));
        let members = certain_family(&leader, None);
        let ended = end_process_group(&leader, Duration::from_millis(100));
        assert!(ended.killed >= 1, "the leader ignores SIGTERM: {ended:?}");
        assert_eq!(ended.survivors, Vec::<u32>::new());
        assert!(!members.iter().any(Identity::is_alive));
        child.wait().unwrap();
    }

    #[test]
    fn a_member_that_outlived_its_leader_is_found_by_its_mark_only() {
        let mut child =
            Command::new("sh").args(["-c", "sleep 60 & wait"]).process_group(0).env(MARK, "me").spawn().unwrap();
        let leader = Identity::of(child.id()).unwrap();
        assert!(Deadline::after(Duration::from_secs(10)).wait(|| leader.children().len() == 1));
        let orphan = leader.children().remove(0);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(certain_family(&leader, None).is_empty());
        assert!(certain_family(&leader, Some("somebody else")).is_empty());
        assert_eq!(certain_family(&leader, Some("me")), vec![orphan.clone()]);
        assert_eq!(end(|| certain_family(&leader, Some("me")), Duration::from_secs(5)).survivors, Vec::<u32>::new());
        assert!(!orphan.is_alive());
    }
}
