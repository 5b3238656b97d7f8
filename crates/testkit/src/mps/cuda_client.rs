//! A simulated CUDA program, for pods: what it got, what broke it, told as JSON lines.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::tables::memory_bytes;
use super::{Client, Grant};

/// Variables that it tells of.
const TOLD: [&str; 2] = ["CUDA_", "NVIDIA_"];

/// How it behaves.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Options {
    fault_after: Option<Duration>,
    hold: Option<Duration>,
    linger: bool,
    obey: bool,
}

/// What happens to it.
enum Event {
    /// CUDA's error code.
    Error(String),
    Fault,
    Stop,
}

/// The main function of `fake-cuda-client`.
///
/// It joins the daemon of `$CUDA_MPS_PIPE_DIRECTORY`, tells its limits, and stays until SIGTERM or `--hold SECONDS`. SIGUSR1 or
/// `--fault-after SECONDS` makes a fatal fault. After an error it exits with status 1, or stays with `--linger`. Without a
/// daemon it runs all the same, as a CUDA program does in the compute mode `default`. With `--obey` it lingers and obeys lines of
/// its standard input: `fault`; any other line is answered; the end of the input is its own.
#[must_use]
pub fn run_cuda_client() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let lived = Options::parse(&arguments).and_then(|options| live(&options));
    match lived {
        Ok(code) => {
            tell(&json!({"event": "exit", "code": code}));
            ExitCode::from(code)
        }
        Err(error) => {
            tell(&json!({"event": "failed", "error": error.to_string()}));
            ExitCode::from(2)
        }
    }
}

impl Options {
    fn parse(arguments: &[String]) -> io::Result<Self> {
        let (mut options, mut rest) = (Self::default(), arguments.iter());
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--linger" => options.linger = true,
                "--obey" => (options.obey, options.linger) = (true, true),
                "--fault-after" => options.fault_after = Some(span(rest.next())?),
                "--hold" => options.hold = Some(span(rest.next())?),
                other => return Err(io::Error::other(format!("unknown argument `{other}`"))),
            }
        }
        Ok(options)
    }
}

/// Reads `3`, `3s` or `300ms`.
fn span(text: Option<&String>) -> io::Result<Duration> {
    let text = text.map(String::as_str).unwrap_or_default();
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.trim_end_matches('s'), 1000),
    };
    let number: u64 =
        number.parse().map_err(|_number| io::Error::other(format!("`{text}` is not a time such as 3s")))?;
    Ok(Duration::from_millis(number.saturating_mul(unit)))
}

fn tell(event: &Value) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{event}").and_then(|()| out.flush()));
}

/// Lives to its end; the exit status.
fn live(options: &Options) -> io::Result<u8> {
    let (sender, events) = channel();
    listen_for_signals(&sender)?;
    if options.obey {
        listen_to_input(&sender);
    }
    let pipe = env::var_os("CUDA_MPS_PIPE_DIRECTORY").map_or_else(|| "/tmp/nvidia-mps".into(), PathBuf::from);
    let client = match Client::join(&pipe) {
        Ok(client) => Some(client),
        Err(error) if error.to_string().parse::<u16>().is_ok() => {
            tell(&json!({"event": "refused", "code": error.to_string()}));
            return Ok(stay_or_go(options, &events));
        }
        Err(_unreachable) => None,
    };
    tell(&connected(client.as_ref()));
    let mut trigger = client.as_ref().map(Client::trigger).transpose()?;
    // The client lives as long as the thread that hears of its end.
    if let Some(client) = client {
        listen_for_errors(client, sender.clone());
    }
    after(options.fault_after, sender.clone(), || Event::Fault);
    after(options.hold, sender, || Event::Stop);
    loop {
        match events.recv() {
            Ok(Event::Fault) => {
                tell(&json!({"event": "fault"}));
                // Alone, a faulting kernel fails its own process.
                let made = trigger.as_mut().is_some_and(|trigger| trigger.fault().is_ok());
                if !made {
                    tell(&json!({"event": "error", "code": "700"}));
                    return Ok(stay_or_go(options, &events));
                }
            }
            Ok(Event::Error(code)) => {
                tell(&json!({"event": "error", "code": code}));
                return Ok(stay_or_go(options, &events));
            }
            Ok(Event::Stop) | Err(_) => return Ok(0),
        }
    }
}

/// The end after an error: at once, or when it is told to stop.
fn stay_or_go(options: &Options, events: &Receiver<Event>) -> u8 {
    if options.linger {
        while let Ok(Event::Fault | Event::Error(_)) = events.recv() {}
    }
    1
}

fn listen_for_signals(sender: &Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1])?;
    let sender = sender.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let event = if signal == SIGUSR1 { Event::Fault } else { Event::Stop };
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn listen_to_input(sender: &Sender<Event>) {
    let sender = sender.clone();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if line == "fault" {
                drop(sender.send(Event::Fault));
            } else {
                tell(&json!({"event": "answer", "did": line}));
            }
        }
        drop(sender.send(Event::Stop));
    });
}

fn listen_for_errors(mut client: Client, sender: Sender<Event>) {
    std::thread::spawn(move || {
        // A daemon that is gone takes its server with it.
        while let Ok(code) = client.wait_for_error() {
            if sender.send(Event::Error(code)).is_err() {
                return;
            }
        }
        drop(sender.send(Event::Error("806".to_owned())));
        // The connection is the client's presence, not the thread's.
        loop {
            std::thread::park();
        }
    });
}

fn after(span: Option<Duration>, sender: Sender<Event>, event: fn() -> Event) {
    let Some(span) = span else { return };
    std::thread::spawn(move || {
        std::thread::sleep(span);
        drop(sender.send(event()));
    });
}

/// What it got.
fn connected(client: Option<&Client>) -> Value {
    let told = |name: &String| TOLD.iter().any(|prefix| name.starts_with(prefix));
    let environment: BTreeMap<String, String> = env::vars().filter(|(name, _)| told(name)).collect();
    let grant = client.map(Client::grant);
    let (memory, percent) = grant.map_or((None, 100.0), |grant| limits(grant, &environment));
    json!({
        "event": "connected",
        "mps": client.is_some(),
        "server": grant.map(|grant| grant.server),
        "gpu": grant.map(|grant| grant.gpu.clone()),
        "pid": std::process::id(),
        "memoryBytes": memory,
        "percent": percent,
        "environment": environment,
    })
}

/// The limits that hold: the tighter ones of the daemon and the environment; no memory limit at all once an entry names a
/// GPU that the process cannot see (seen on driver 580).
fn limits(grant: &Grant, environment: &BTreeMap<String, String>) -> (Option<u64>, f64) {
    let text = |name: &str| environment.get(name).map(String::as_str).unwrap_or_default();
    let entries: Vec<(&str, &str)> =
        text("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT").split(',').filter_map(|entry| entry.split_once('=')).collect();
    let visible = |device: &str| device == "0" || (device.starts_with("GPU-") && grant.gpu.starts_with(device));
    let lifted = entries.iter().any(|(device, _)| !visible(device));
    let own = entries.iter().filter_map(|(_, limit)| memory_bytes(limit));
    let memory = own.chain(grant.memory).min().filter(|_limit| !lifted);
    let percent = text("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE").parse().unwrap_or(100.0);
    (memory, grant.percent.min(percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(limit: &str, percent: &str) -> (Option<u64>, f64) {
        let grant = Grant { server: 1, gpu: "GPU-1234".to_owned(), memory: Some(8 << 30), percent: 50.0 };
        let environment = [("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", limit), ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", percent)];
        limits(&grant, &environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    #[test]
    fn the_tighter_limit_holds_and_an_invisible_gpu_lifts_the_memory_limit() {
        assert_eq!(with("0=2G", "25"), (Some(2 << 30), 25.0));
        assert_eq!(with("0=20G", "90"), (Some(8 << 30), 50.0));
        assert_eq!(with("GPU-12=1G", ""), (Some(1 << 30), 50.0));
        assert_eq!(with("0=2G,1=2G", ""), (None, 50.0));
    }

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(span(Some(&"3s".to_owned())).unwrap(), Duration::from_secs(3));
        assert_eq!(span(Some(&"250ms".to_owned())).unwrap(), Duration::from_millis(250));
        assert!(span(Some(&"soon".to_owned())).is_err());
    }
}
