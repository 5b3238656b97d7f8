//! Replies of the control program, read: pure functions that take any text.
//!
//! A reply is at most 64 KiB when it gets here ([`crate::Dialogue`] reads no more). What does not look like a reply of its
//! kind gives `None`, never a panic. The shapes are those of driver 580, for protocol 3 those of the documentation of
//! release 615.

use cotenant_model::Bytes;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerStatus {
    /// It is starting.
    Initializing,
    /// It serves.
    Active,
    /// A client's fatal fault is being cleared; new clients are turned away. Driver 580 says so for a fifth of a second also of
    /// a server that leaves for one of another user.
    Fault,
    /// There is no such server (any more).
    Missing,
    /// Something else; the text, shortened.
    Other(String),
}

/// A row of `ps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The client's process id.
    pub pid: u32,
    /// The number that its server gave it.
    pub id: u32,
    /// Process id of its server.
    pub server: u32,
    /// The start of the GPU's UUID.
    pub device: String,
    /// Inode of the client's PID namespace.
    pub namespace: u64,
    /// What the client calls itself: text of a stranger.
    pub command: String,
}

/// A row of `get_device_client_list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceClient {
    /// Ordinal of the device as the server counts.
    pub device: u32,
    /// The client's process id.
    pub pid: u32,
    /// The number of its context.
    pub context: u32,
}

/// A row of `server list --format=csv,noheader` (protocol 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedServer {
    /// Its name.
    pub name: String,
    /// User who owns it.
    pub user: u32,
    /// Process id; `None` where it has none.
    pub pid: Option<u32>,
    /// What it says of itself.
    pub status: ServerStatus,
}

/// A row of `client list --format=csv,noheader` (protocol 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedClient {
    /// The client's process id.
    pub pid: u32,
    /// Name of its server.
    pub server: String,
    /// Name of its namespace.
    pub namespace: String,
}

/// What an error quotes of a reply, in characters.
const EXCERPT: usize = 200;

/// Lines that hold something, trimmed.
fn lines(reply: &str) -> impl Iterator<Item = &str> {
    reply.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// Process ids, one a line; an empty reply is an empty list.
#[must_use]
pub fn parse_pids(reply: &str) -> Option<Vec<u32>> {
    lines(reply).map(|line| line.parse().ok()).collect()
}

/// Whether the reply says that there is no such server.
#[must_use]
pub fn is_missing(reply: &str) -> bool {
    lines(reply).next().is_some_and(|line| line.starts_with("Server") && line.ends_with("not found"))
}

/// The status of a server in the words of either protocol.
#[must_use]
pub fn parse_status(reply: &str) -> ServerStatus {
    if is_missing(reply) {
        return ServerStatus::Missing;
    }
    match reply.trim().to_ascii_uppercase().as_str() {
        "INITIALIZING" | "STARTING" => ServerStatus::Initializing,
        "ACTIVE" | "READY" | "RUNNING" => ServerStatus::Active,
        "FAULT" | "FAULTED" => ServerStatus::Fault,
        _ => ServerStatus::Other(excerpt(reply)),
    }
}

/// CUDA's code at the end of a reply of `terminate_client`; 0 is success.
#[must_use]
pub fn parse_termination(reply: &str) -> Option<u32> {
    lines(reply).last()?.parse().ok()
}

/// A share of the multiprocessors in percent, above 0 and at most 100.
#[must_use]
pub fn parse_percent(reply: &str) -> Option<f64> {
    let percent: f64 = reply.trim().trim_end_matches('%').parse().ok()?;
    (percent > 0.0 && percent <= 100.0).then_some(percent)
}

/// A memory limit such as `9G` or `700M`. Driver 580 tells whole gigabytes, rounded down, from one on: `1G` for 1500M.
#[must_use]
pub fn parse_memory(text: &str) -> Option<Bytes> {
    let text = text.trim();
    let text = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let shift = match text.chars().last()?.to_ascii_uppercase() {
        'G' => 30,
        'M' => 20,
        'K' => 10,
        _ => return None,
    };
    let number: u64 = text.get(..text.len().checked_sub(1)?)?.parse().ok()?;
    number.checked_mul(1 << shift).map(Bytes)
}

/// The rows of `ps`. Its last column is a text of the client's choice, so that this is for people: to ask for `ps` writes it
/// into the daemon's log as well.
#[must_use]
pub fn parse_ps(reply: &str) -> Option<Vec<Process>> {
    if is_missing(reply) {
        return Some(Vec::new());
    }
    lines(reply).filter(|line| !line.starts_with("PID")).map(parse_process).collect()
}

fn parse_process(line: &str) -> Option<Process> {
    let (mut rest, mut words) = (line, [""; 5]);
    for word in &mut words {
        let (first, tail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        (*word, rest) = (first, tail.trim_start());
    }
    let [pid, id, server, device, namespace] = words;
    Some(Process {
        pid: pid.parse().ok()?,
        id: id.parse().ok()?,
        server: server.parse().ok()?,
        device: excerpt(device),
        namespace: namespace.parse().ok()?,
        command: excerpt(rest),
    })
}

/// The rows of `get_device_client_list`: `[ORDINAL] PCI, NAME` before the `PID.CONTEXT` of each device.
#[must_use]
pub fn parse_device_clients(reply: &str) -> Option<Vec<DeviceClient>> {
    let (mut device, mut clients) = (0, Vec::new());
    for line in lines(reply) {
        if let Some(head) = line.strip_prefix('[') {
            device = head.split_once(']')?.0.parse().ok()?;
            continue;
        }
        let (pid, context) = line.split_once('.')?;
        clients.push(DeviceClient { device, pid: pid.parse().ok()?, context: context.parse().ok()? });
    }
    Some(clients)
}

/// The rows of `server list --format=csv,noheader`.
#[must_use]
pub fn parse_named_servers(reply: &str) -> Option<Vec<NamedServer>> {
    lines(reply).map(parse_named_server).collect()
}

fn parse_named_server(line: &str) -> Option<NamedServer> {
    let mut fields = line.split(',').map(str::trim);
    let name = fields.next().filter(|name| is_name(name))?.to_owned();
    let (user, pid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok());
    Some(NamedServer { name, user, pid, status: parse_status(fields.next()?) })
}

/// The rows of `client list --format=csv,noheader`.
#[must_use]
pub fn parse_named_clients(reply: &str) -> Option<Vec<NamedClient>> {
    lines(reply).map(parse_named_client).collect()
}

fn parse_named_client(line: &str) -> Option<NamedClient> {
    let mut fields = line.split(',').map(str::trim);
    let (pid, server) = (fields.next()?.parse().ok()?, fields.next()?.to_owned());
    let namespace = fields.nth(1)?.to_owned();
    Some(NamedClient { pid, server, namespace })
}

/// Names of servers and namespaces: lower-case letters, digits and underscores, at most 64.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(allowed)
}

/// The start of a text on one line.
pub(crate) fn excerpt(text: &str) -> String {
    let text = text.trim();
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(EXCERPT).collect();
    if text.chars().nth(EXCERPT).is_some() { format!("{clean}…") } else { clean }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_replies_of_driver_580_are_read() {
        assert_eq!(parse_pids("563\n565\n"), Some(vec![563, 565]));
        assert_eq!(parse_pids(""), Some(vec![]));
        assert_eq!(parse_status("ACTIVE\n"), ServerStatus::Active);
        assert_eq!(parse_status("Server 529 not found\n"), ServerStatus::Missing);
        assert_eq!(parse_termination("0\n"), Some(0));
        assert_eq!(parse_termination("Invalid process 999999!\n1\n"), Some(1));
        assert_eq!(parse_termination("Server 1 not found\nServer 1 not found!\n1\n"), Some(1));
        assert_eq!(parse_percent("33.3\n"), Some(33.3));
        assert_eq!([parse_memory("9G\n"), parse_memory("700M\n")], [Some(Bytes(9 << 30)), Some(Bytes(700 << 20))]);
        let head = "PID       ID        SERVER         DEVICE                    NAMESPACE      COMMAND        \n";
        let row = "563       1         529            GPU-f729e9a0-18be-2f20    4026531836     /opt/bin/python3 -c x\n";
        let process = &parse_ps(&format!("{head}{row}")).unwrap()[0];
        assert_eq!((process.pid, process.server, process.namespace), (563, 529, 4_026_531_836));
        assert_eq!(process.command, "/opt/bin/python3 -c x");
        assert_eq!(parse_ps("Server not found\n"), Some(vec![]));
        let clients = parse_device_clients("[0] 00:00.0, NVIDIA H100 80GB HBM3\n563.1\n565.1\n").unwrap();
        assert_eq!(clients[1], DeviceClient { device: 0, pid: 565, context: 1 });
    }

    #[test]
    fn the_tables_of_protocol_3_are_read_as_documented() {
        let servers =
            parse_named_servers("training,1000,48201,Ready,/run/nvidia-mps/training,GPU-abcd-1234,-\n").unwrap();
        let wanted =
            NamedServer { name: "training".to_owned(), user: 1000, pid: Some(48_201), status: ServerStatus::Active };
        assert_eq!(servers, [wanted]);
        let clients = parse_named_clients("51087,training,0,high_priority,python eval.py\n").unwrap();
        assert_eq!((clients[0].pid, clients[0].namespace.as_str()), (51_087, "high_priority"));
    }

    #[test]
    fn numbers_beyond_their_range_and_other_kinds_of_replies_are_none() {
        assert_eq!(parse_pids("4294967296\n"), None);
        assert_eq!(parse_pids("Unknown command \"x\"\n"), None);
        assert_eq!(parse_memory("99999999999999999999G"), None);
        assert_eq!(parse_memory("18446744073709551615G"), None);
        assert_eq!([parse_percent("0"), parse_percent("101"), parse_percent("NaN")], [None; 3]);
    }

    /// Replies that look right at first, with what a hostile one would add.
    fn replies() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "563",
            "\n",
            "\0",
            "\u{1b}[2J",
            ",",
            ".",
            "[0]",
            "G",
            "PID",
            "Server 1 not found",
            " ",
            "é",
            "-1",
            "Ready",
            "training",
        ]);
        prop_oneof![prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat()), any::<String>()]
    }

    proptest! {
        #[test]
        fn no_reply_makes_a_panic_and_what_is_quoted_is_short_and_printable(reply in replies()) {
            drop((parse_pids(&reply), parse_device_clients(&reply), parse_named_clients(&reply)));
            drop((parse_termination(&reply), parse_percent(&reply), parse_memory(&reply), parse_named_servers(&reply)));
            if let ServerStatus::Other(text) = parse_status(&reply) {
                prop_assert!(text.chars().count() <= EXCERPT + 1 && !text.contains(char::is_control));
            }
            for process in parse_ps(&reply).unwrap_or_default() {
                prop_assert!(process.command.chars().count() <= EXCERPT + 1 && !process.command.contains(char::is_control));
            }
        }
    }
}
