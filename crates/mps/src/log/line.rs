//! One line of a log.

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The control daemon, or its child before that becomes a server.
    Control,
    /// A server.
    Server,
    /// A server that is starting (`Other`).
    Other,
}

/// A line that means something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Who wrote it, as it says.
    pub role: Role,
    /// The writer's process id, as it says.
    pub pid: u32,
    /// What it means.
    pub entry: Entry,
}

/// What a line means. Process ids are the daemon's view: 0 for a client of a PID namespace that it cannot see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A control daemon started.
    DaemonStarted,
    /// The daemon leaves.
    DaemonExits,
    /// A client asks to be let in.
    ClientAsks {
        /// The client.
        client: u32,
        /// Its user; 0 for all in multi-user mode.
        user: u32,
        /// Whether it has to wait for a server: for the first one, or until the clients of another user have left.
        waits: bool,
    },
    /// A client's process (context 0) or one of its contexts is connected.
    ClientConnected {
        /// The client.
        client: u32,
        /// Number of the context.
        context: u32,
    },
    /// A client's process has left.
    ClientLeft {
        /// The client.
        client: u32,
    },
    /// A server turns a client away.
    ClientRefused {
        /// The client.
        client: u32,
        /// CUDA's code: 807 in a fault.
        code: u32,
    },
    /// A server asks a client to leave, for `terminate_client`.
    ClientAskedToLeave {
        /// The client.
        client: u32,
    },
    /// A server starts.
    ServerStarts {
        /// The server.
        server: u32,
        /// User whose clients it is for.
        user: u32,
    },
    /// A server is ready.
    ServerReady {
        /// The server.
        server: u32,
    },
    /// A server failed before it was ready: a device it does not support, a folder it cannot reach.
    ServerFailed,
    /// A server has ended; driver 580 says status 0 also of one that was killed.
    ServerEnded {
        /// The server.
        server: u32,
        /// Its exit status.
        status: i32,
    },
    /// A server cannot leave for one of another user since it has clients.
    ServerBusy {
        /// The server.
        server: u32,
    },
    /// No server can be started for a user.
    UserRefused {
        /// The user.
        user: u32,
    },
    /// A fatal fault has come. The client named is **not** known to be the one that made it: on driver 580, of several clients
    /// with work on the GPU, it was the first to have connected in seven faults of seven; beside idle ones it was the right
    /// one.
    Fault {
        /// The client named.
        named: u32,
    },
    /// A client's contexts are lost to the fault.
    Affected {
        /// The client.
        client: u32,
    },
    /// The affected clients have left and the server gives up its broken context; it is active again.
    FaultCleared,
    /// The memory limit that a server starts with.
    MemoryLimit {
        /// In bytes.
        bytes: u64,
    },
    /// The daemon will log nothing more: a client has written into its log pipe what is no log (seen on driver 580; every client
    /// can). It serves and answers as before, so that only asking tells how it is.
    LogBroken,
    /// A client may not do what it asked: another user gave an order that only the daemon's user and root may give, or
    /// (protocol 3) a server of another user.
    NotPermitted,
}

/// How the daemon says no to a user.
const REFUSALS: [&str; 3] = ["Insufficient privileges", "Not enough privilege", "Unable to accept privil"];
/// What the daemon writes, without any head, when its log pipe is broken.
const RECORDER_ERROR: &str = "CUDA MPS log recorder error";

/// Reads a line; `None` where it means nothing here, or is none of a log.
///
/// The message must begin as the real one: a reply or a command that the daemon quotes is not taken for its own words.
#[must_use]
pub fn parse_line(line: &str) -> Option<Line> {
    if line.trim_end() == RECORDER_ERROR {
        return Some(Line { role: Role::Control, pid: 0, entry: Entry::LogBroken });
    }
    let (head, message) = line.trim_end().strip_prefix('[')?.split_once("] ")?;
    // Date, time, role (`Legacy Server` is two words), process id.
    let mut words = head.split_ascii_whitespace().rev();
    let pid = words.next()?.parse().ok()?;
    let role = match words.next()? {
        "Control" => Role::Control,
        "Server" => Role::Server,
        "Other" => Role::Other,
        _ => return None,
    };
    let entry = match role {
        Role::Control => parse_control(message),
        Role::Server | Role::Other => parse_server(message),
    };
    Some(Line { role, pid, entry: entry? })
}

fn parse_control(message: &str) -> Option<Entry> {
    if let Some(rest) = message.strip_prefix("NEW CLIENT ") {
        let (client, rest) = number(rest)?;
        let (user, rest) = number(rest.strip_prefix(" from user ")?)?;
        return Some(Entry::ClientAsks { client, user, waits: rest.contains("not ready") });
    }
    if let Some(rest) = message.strip_prefix("Starting new server ") {
        let (server, rest) = number(rest)?;
        let (user, _) = number(rest.strip_prefix(" for user ")?)?;
        return Some(Entry::ServerStarts { server, user });
    }
    if let Some(rest) = message.strip_prefix("NEW SERVER ") {
        let (server, rest) = number(rest)?;
        return rest.starts_with(": Ready").then_some(Entry::ServerReady { server });
    }
    if let Some(rest) = message.strip_prefix("Failed to start server using uid ") {
        return Some(Entry::UserRefused { user: number(rest)?.0 });
    }
    if let Some(rest) = message.strip_prefix("Server ") {
        return parse_about_server(rest);
    }
    let starts = |text: &str| message.starts_with(text);
    if starts("Starting control daemon using socket") {
        Some(Entry::DaemonStarted)
    } else if starts("Exit with status") {
        Some(Entry::DaemonExits)
    } else if REFUSALS.iter().any(|text| starts(text)) || message.contains("NOT_PERMITTED") {
        Some(Entry::NotPermitted)
    } else {
        None
    }
}

/// What follows `Server ` in a line of the daemon.
fn parse_about_server(rest: &str) -> Option<Entry> {
    if rest.starts_with("encountered a fatal exception") {
        return Some(Entry::ServerFailed);
    }
    let (server, rest) = number(rest)?;
    if let Some(status) = rest.strip_prefix(" exited with status ") {
        return Some(Entry::ServerEnded { server, status: status.trim().parse().ok()? });
    }
    rest.contains("Server will not shutdown").then_some(Entry::ServerBusy { server })
}

fn parse_server(message: &str) -> Option<Entry> {
    // The newest drivers say `MPS Client` in some lines.
    let message = message.strip_prefix("MPS ").unwrap_or(message);
    if let Some(rest) = message.strip_prefix("Client {PID: ") {
        return parse_about_client(rest);
    }
    if let Some(rest) = message.strip_prefix("Client process ") {
        let (client, rest) = number(rest)?;
        return rest.starts_with(" disconnected").then_some(Entry::ClientLeft { client });
    }
    if let Some(rest) = message.strip_prefix("All clients belonging to error trigging process ") {
        return Some(Entry::Affected { client: number(rest)?.0 });
    }
    if let Some(rest) = message.strip_prefix("Failed to accept client {PID: ") {
        let code = rest.rsplit_once(" with status ")?.1.trim().parse().ok()?;
        return Some(Entry::ClientRefused { client: number(rest)?.0, code });
    }
    if let Some(rest) = message.strip_prefix("server requesting client {PID: ") {
        return Some(Entry::ClientAskedToLeave { client: number(rest)?.0 });
    }
    if let Some(rest) = message.strip_prefix("Device pinned memory limit for device 0 set to 0x") {
        let digits = rest.split_ascii_whitespace().next()?;
        return Some(Entry::MemoryLimit { bytes: u64::from_str_radix(digits, 16).ok()? });
    }
    let starts = |text: &str| message.starts_with(text);
    if starts("Destroy server context") {
        Some(Entry::FaultCleared)
    } else if starts("Failed to start") || starts("Could not start the mps server") {
        Some(Entry::ServerFailed)
    } else if message.contains("NOT_PERMITTED") {
        Some(Entry::NotPermitted)
    } else {
        None
    }
}

/// What follows `Client {PID: ` in a line of a server.
fn parse_about_client(rest: &str) -> Option<Entry> {
    let (client, rest) = number(rest)?;
    let (identity, rest) = rest.split_once('}')?;
    if rest.starts_with(" connected") {
        let context = identity.rsplit_once(' ')?.1.parse().ok()?;
        return Some(Entry::ClientConnected { client, context });
    }
    if rest.starts_with(" encountered a fatal GPU error") {
        return Some(Entry::Fault { named: client });
    }
    rest.ends_with("to be torn down").then_some(Entry::Affected { client })
}

/// A number at the start of a text, and the rest.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(message: &str) -> Option<Entry> {
        let role = if message.starts_with("C:") { "Control" } else { "Server" };
        let message = message.trim_start_matches("C:");
        parse_line(&format!("[2026-11-24 20:22:48.131 {role}   529] {message}")).map(|line| line.entry)
    }

    #[test]
    fn the_lines_of_driver_580_are_read() {
        let lines = [
            ("C:Starting control daemon using socket /run/p/control", Entry::DaemonStarted),
            (
                "C:NEW CLIENT 563 from user 1000: Server already exists",
                Entry::ClientAsks { client: 563, user: 1000, waits: false },
            ),
            (
                "C:NEW CLIENT 0 from user 0: Server is not ready, push client to pending list",
                Entry::ClientAsks { client: 0, user: 0, waits: true },
            ),
            ("C:Starting new server 2584 for user 1000", Entry::ServerStarts { server: 2584, user: 1000 }),
            ("C:NEW SERVER 2584: Ready", Entry::ServerReady { server: 2584 }),
            ("C:Server 529 exited with status 1", Entry::ServerEnded { server: 529, status: 1 }),
            ("C:Server encountered a fatal exception. Shutting down", Entry::ServerFailed),
            ("C:Server 529 has 2 active worker threads. Server will not shutdown.", Entry::ServerBusy { server: 529 }),
            ("C:Exit with status 0", Entry::DaemonExits),
            ("Client {PID: 563, Context ID: 1} connected", Entry::ClientConnected { client: 563, context: 1 }),
            ("Client process 563 disconnected", Entry::ClientLeft { client: 563 }),
            ("Client {PID: 645, Context: 1} encountered a fatal GPU error.", Entry::Fault { named: 645 }),
            ("Client {PID: 655, Context ID: 1} on device 0 to be torn down", Entry::Affected { client: 655 }),
            ("All clients belonging to error trigging process 655 will be torn down", Entry::Affected { client: 655 }),
            (
                "Failed to accept client {PID: 1093, Context ID: 0} with status 807",
                Entry::ClientRefused { client: 1093, code: 807 },
            ),
            (
                "MPS server requesting client {PID: 643, Context ID: 1} to exit",
                Entry::ClientAskedToLeave { client: 643 },
            ),
            ("Destroy server context on device 0 (NVIDIA H100 80GB HBM3)", Entry::FaultCleared),
            ("Device pinned memory limit for device 0 set to 0x240000000 bytes", Entry::MemoryLimit { bytes: 9 << 30 }),
            ("C:Insufficient privileges for UID 1000. Control deamon settings …", Entry::NotPermitted),
            ("C:Not enough privilege to execute quit command", Entry::NotPermitted),
        ];
        for (line, wanted) in lines {
            assert_eq!(entry(line), Some(wanted), "{line}");
        }
        let broken = parse_line("CUDA MPS log recorder error").map(|line| line.entry);
        assert_eq!(broken, Some(Entry::LogBroken));
        let two_words = "[2024-04-29 11:22:10.441 Legacy Server   425] Failed to start : invalid argument";
        assert_eq!(
            parse_line(two_words).map(|line| (line.role, line.entry)),
            Some((Role::Server, Entry::ServerFailed))
        );
    }

    #[test]
    fn lines_without_meaning_are_passed_over() {
        for line in [
            "C:User did not send valid credentials",
            "C:Accepting connection...",
            "Received new client request for {PID: -1333654781, Context ID: 0}",
            "Server is handling a fatal GPU error.",
            "645",
        ] {
            assert_eq!(entry(line), None, "{line}");
        }
        assert_eq!(parse_line("Server 529"), None);
        assert_eq!(parse_line(""), None);
    }

    #[test]
    fn what_the_daemon_quotes_is_not_its_own_word() {
        for line in [
            "C:Cmd:Server 529 exited with status 1",
            "C:1572      1         1575           GPU-8a03    4026531836     Client {PID: 1, Context: 1} encountered a fatal GPU error.",
            "C:Client {PID: 1, Context: 1} encountered a fatal GPU error.",
        ] {
            assert_eq!(entry(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_a_panic_and_its_end_changes_nothing(head in any::<String>(), message in any::<String>()) {
            let mut lines = vec![message.clone(), format!("[{head}] {message}")];
            for start in ["Client {PID: ", "Client {PID: 7", "NEW CLIENT ", "Server ", "Failed to accept client {PID: 7"] {
                lines.extend(["Server", "Control"].map(|role| format!("[x y {role} 5] {start}{message}")));
            }
            for line in lines {
                prop_assert_eq!(parse_line(&line), parse_line(&format!("{line}\n")));
            }
        }
    }
}
