//! What a call of the control program asks for.

use super::Script;

/// What a call asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    /// Be a daemon.
    Daemon(Daemon),
    /// Carry these words to the daemon as one command.
    Command(Vec<String>),
    /// Carry the lines of the standard input.
    Commands,
    /// End the daemon of protocol 3.
    Quit,
    /// Print the help.
    Help,
    /// Print the version.
    Version,
    /// An option that it does not know.
    Unknown,
}

/// What a daemon is started as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Daemon {
    /// Whether it stays in the foreground and writes its logs to its standard output.
    pub(super) foreground: bool,
    /// Whether clients of all users share a server of root.
    pub(super) multi_user: bool,
    /// Whether it speaks protocol version 3.
    pub(super) three: bool,
}

/// Reads the arguments after the program's name. `protocol` is `CUDA_MPS_PROTOCOL_VERSION`, which wins over `-p`.
pub(super) fn parse(arguments: &[String], protocol: Option<&str>, script: &Script) -> Call {
    let mut daemon = Daemon { three: script.protocol_three && protocol == Some("3"), ..Daemon::default() };
    let (mut start, mut rest) = (false, arguments.iter().map(String::as_str));
    while let Some(argument) = rest.next() {
        match argument {
            "-h" | "--help" => return Call::Help,
            "-v" | "--version" => return Call::Version,
            "-f" | "--forground" | "--foreground" => (start, daemon.foreground) = (true, true),
            "-d" | "--daemon" => start = true,
            "-M" | "-multiuser-server" | "--multiuser-server" => daemon.multi_user = true,
            "-m" | "--multiuser" if script.protocol_three => daemon.multi_user = true,
            "-p" | "--protocol" if script.protocol_three => {
                let wanted = rest.next() == Some("3");
                daemon.three = if protocol.is_some() { daemon.three } else { wanted };
            }
            "-q" | "--quit" if script.protocol_three => return Call::Quit,
            // Of driver 580: prepares the daemon to query devices.
            "-q" | "--ready-devices" => {}
            option if option.starts_with('-') => return Call::Unknown,
            word => {
                let words = std::iter::once(word).chain(rest).map(str::to_owned);
                return Call::Command(words.collect());
            }
        }
    }
    if start { Call::Daemon(daemon) } else { Call::Commands }
}

/// The help; the one of protocol 3 names its options.
pub(super) fn help(script: &Script) -> String {
    let head = "CUDA MPS Control for Linux/Unix/QNX.\n\nnvidia-cuda-mps-control [options] [command]\nOPTIONS:\n";
    let two = "  -h,--help                Print this message\n  -d,--daemon              Setup the daemon in the background\n  \
               -f,--forground           Setup the daemon in the foreground\n  \
               -M,--multiuser-server    Enable multi-user mode\n";
    let three = "  -p,--protocol <2|3>      Protocol 2 (legacy, default) or 3\n  \
                 -q,--quit                Quit and stop the control daemon and all running servers\n";
    format!("{head}{two}{}", if script.protocol_three { three } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str, protocol: Option<&str>, script: &Script) -> Call {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&arguments, protocol, script)
    }

    #[test]
    fn protocol_three_is_an_unknown_option_to_a_driver_that_lacks_it() {
        let (old, new) = (Script::default(), Script { protocol_three: true, ..Script::default() });
        assert_eq!(call("-f -p 3", None, &old), Call::Unknown);
        let three = Daemon { foreground: true, three: true, multi_user: false };
        assert_eq!(call("-f -p 3", None, &new), Call::Daemon(three));
        assert_eq!(call("-f -p 3", Some("2"), &new), Call::Daemon(Daemon { three: false, ..three }));
        assert_eq!(call("-q", None, &new), Call::Quit);
        assert_eq!(call("-q", None, &old), Call::Commands);
    }

    #[test]
    fn words_after_the_options_are_one_command() {
        let words = ["server", "list", "--format=csv,noheader"].map(str::to_owned).to_vec();
        assert_eq!(call("server list --format=csv,noheader", None, &Script::default()), Call::Command(words));
    }
}
