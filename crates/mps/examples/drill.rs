//! A drill of a resident MPS daemon on a GPU: started, lost and adopted, asked, hurt and ended, each step with its time.
//!
//! ```text
//! drill --gpu UUID --root FOLDER [--program CONTROL] [--client PROGRAM [ARGUMENT…]]
//! ```
//!
//! Prints a line of JSON a step; times are in milliseconds. The GPU's settings stay as they are. The client is a CUDA program that
//! obeys lines on its standard input (`look`, `step 1`, `fault`), answers each with a line of JSON, and leaves at the end of its
//! input: the example `client` of `cotenant-cuda`, or `fake-cuda-client --obey` on a simulated daemon.
#![expect(clippy::print_stdout, reason = "its lines are what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures its own steps and waits for the children that it starts")]

use std::error::Error;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use cotenant_model::cause::chain;
use cotenant_model::{Bytes, GpuUuid, Percent};
use cotenant_mps::log::{Entry, LogWatch};
use cotenant_mps::resident::{Opened, ResidentDaemon, ResidentSettings};
use cotenant_mps::{ClientLimits, Identity, Place, ServerStatus, find_program};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Far above what any step takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Memory limits of a client whose effect on driver 580 is to be seen beside the daemon's default.
const ODD_LIMITS: [&str; 8] = ["0=1G", "0=1G,1=1G", "0=1G,", "0=much", "GPU-=1G", "all", "0=1G,0=2G", "0=2G,0=1G"];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell("failed", &json!({ "error": chain(error.as_ref(), ": ") }));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let drill = Drill::of(std::env::args().skip(1))?;
    if drill.starter {
        return drill.start_and_wait();
    }
    drill.lose_and_adopt()?;
    drill.ask()?;
    if !drill.client.is_empty() {
        drill.serve()?;
        drill.try_odd_limits()?;
        drill.fault_and_leave()?;
        drill.fault_and_stay()?;
    }
    drill.kill()?;
    drill.stop()
}

fn tell(step: &str, what: &Value) {
    println!("{}", json!({ "step": step, "result": what }));
}

/// Milliseconds since a moment.
fn since(begun: Instant) -> f64 {
    (begun.elapsed().as_secs_f64() * 1e5).round() / 100.0
}

struct Drill {
    settings: ResidentSettings,
    client: Vec<String>,
    starter: bool,
    arguments: Vec<String>,
}

impl Drill {
    fn of(arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let arguments: Vec<String> = arguments.collect();
        let (mut gpu, mut root, mut program, mut client, mut starter) = (None, None, None, Vec::new(), false);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--gpu" => gpu = rest.next().cloned(),
                "--root" => root = rest.next().map(PathBuf::from),
                "--program" => program = rest.next().map(PathBuf::from),
                "--client" => client = rest.by_ref().cloned().collect(),
                "--starter" => starter = true,
                other => return Err(format!("unknown argument `{other}`").into()),
            }
        }
        let place = Place::new(&root.ok_or("no --root")?, GpuUuid(gpu.ok_or("no --gpu")?))?;
        let program = program.map_or_else(find_program, Ok)?;
        let limits = ClientLimits { percent: Percent::try_from(50).ok(), memory: Some(Bytes::mebibytes(9500)) };
        let settings = ResidentSettings { limits, ..ResidentSettings::with_program(place, program) };
        Ok(Self { settings, client, starter, arguments })
    }

    /// The part of the keeper that is killed.
    fn start_and_wait(&self) -> Outcome<()> {
        let begun = Instant::now();
        let daemon = ResidentDaemon::start(&self.settings)?;
        let traps: Vec<String> = daemon.traps().iter().map(ToString::to_string).collect();
        tell("start", &json!({ "answersWithLimitsMs": since(begun), "traps": traps }));
        std::thread::sleep(PATIENCE);
        Ok(())
    }

    fn lose_and_adopt(&self) -> Outcome<()> {
        let mut starter = Command::new(std::env::current_exe()?)
            .arg("--starter")
            .args(&self.arguments)
            .stdout(Stdio::piped())
            .spawn()?;
        let told = starter.stdout.take().and_then(|output| BufReader::new(output).lines().next()).transpose()?;
        println!("{}", told.ok_or("the starter said nothing")?);
        starter.kill()?;
        starter.wait()?;
        let begun = Instant::now();
        let daemon = self.adopt()?;
        tell("adopt", &json!({ "ms": since(begun), "dialect": format!("{:?}", daemon.dialogue().dialect()) }));
        Ok(())
    }

    fn adopt(&self) -> Outcome<ResidentDaemon> {
        match ResidentDaemon::open(&self.settings)? {
            Opened::Started(daemon) | Opened::Adopted(daemon) => Ok(daemon),
            Opened::Different { differences, .. } => Err(format!("the daemon is different: {differences:?}").into()),
        }
    }

    fn ask(&self) -> Outcome<()> {
        let dialogue = self.adopt()?.dialogue();
        let mut times = Vec::new();
        for _ in 0..50 {
            let begun = Instant::now();
            dialogue.servers()?;
            times.push(since(begun));
        }
        times.sort_by(f64::total_cmp);
        let watch = LogWatch::open(&self.settings.place.log())?;
        let before = cpu_ticks()?;
        let quiet = !watch.wait(Duration::from_secs(2))?;
        let idle = json!({ "seconds": 2, "quiet": quiet, "cpuTicks": cpu_ticks()?.saturating_sub(before) });
        tell("question", &json!({ "medianMs": times[25], "maxMs": times[49], "idleWatch": idle }));
        Ok(())
    }

    fn start_client(&self, variables: &[(&str, &str)]) -> Outcome<Client> {
        let pipe = self.settings.place.pipe();
        Client::start(&self.client, &pipe, &self.settings.place.gpu().0, variables)
    }

    fn serve(&self) -> Outcome<()> {
        let mut daemon = self.adopt()?;
        let mut watch = LogWatch::open(&self.settings.place.log())?;
        let begun = Instant::now();
        let mut client = self.start_client(&[])?;
        let up = since(begun);
        let pid = client.pid;
        let connected = until(&mut watch, |entry| *entry == Entry::ClientConnected { client: pid, context: 1 })?;
        let limit = connected
            .iter()
            .find_map(|entry| if let Entry::MemoryLimit { bytes } = entry { Some(*bytes >> 20) } else { None });
        let health = daemon.health()?;
        let listed = health.servers.iter().any(|server| server.clients.contains(&pid));
        tell(
            "serve",
            &json!({ "firstClientMs": up, "listed": listed, "serverLimitMebibytes": limit, "look": client.ask("look") }),
        );
        let server = health.servers.first().ok_or("no server")?.pid;
        let begun = Instant::now();
        daemon.dialogue().terminate_client(server, pid)?;
        tell("terminate", &json!({ "ms": since(begun), "client": client.ask("step 1") }));
        client.leave()
    }

    fn try_odd_limits(&self) -> Outcome<()> {
        for limit in ODD_LIMITS {
            let mut client = self.start_client(&[("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", limit)])?;
            tell("odd limit", &json!({ "limit": limit, "look": client.ask("look") }));
            client.leave()?;
        }
        Ok(())
    }

    /// Two clients; the second one faults. How fast is it told, by what, and who is named?
    fn fault(&self, watch: &mut LogWatch, daemon: &ResidentDaemon) -> Outcome<[Client; 2]> {
        let (mut first, mut culprit) = (self.start_client(&[])?, self.start_client(&[])?);
        let answers = [first.ask("step 1"), culprit.ask("step 1")];
        watch.read()?;
        let begun = Instant::now();
        culprit.tell("fault")?;
        let seen = until(watch, |entry| matches!(entry, Entry::Fault { .. }))?;
        let log = since(begun);
        let server = daemon.dialogue().servers()?.first().copied().ok_or("no server")?;
        let status = daemon.dialogue().status(server)?;
        let confirmed = since(begun);
        let named = seen.iter().find_map(|entry| if let Entry::Fault { named } = entry { Some(*named) } else { None });
        let pids = [first.pid, culprit.pid];
        let result = json!({ "toldMs": log, "confirmedMs": confirmed, "status": format!("{status:?}"), "named": named,
            "culprit": culprit.pid, "clients": pids, "before": answers, "culpritSays": culprit.hear()?,
            "firstSays": first.ask("step 1") });
        tell("fault", &result);
        Ok([first, culprit])
    }

    fn fault_and_leave(&self) -> Outcome<()> {
        let daemon = self.adopt()?;
        let mut watch = LogWatch::open(&self.settings.place.log())?;
        let clients = self.fault(&mut watch, &daemon)?;
        let refused = self.start_client(&[])?;
        let refused_says = refused.first.clone();
        refused.leave()?;
        for client in clients {
            client.leave()?;
        }
        let begun = Instant::now();
        let active = daemon.dialogue().wait_until_active(PATIENCE)?;
        let recovered = since(begun);
        let next = self.start_client(&[])?;
        let next_says = next.first.clone();
        next.leave()?;
        tell(
            "leave",
            &json!({ "newClientInFault": refused_says, "active": active, "activeMs": recovered, "next": next_says }),
        );
        Ok(())
    }

    fn fault_and_stay(&self) -> Outcome<()> {
        let mut daemon = self.adopt()?;
        let mut watch = LogWatch::open(&self.settings.place.log())?;
        let clients = self.fault(&mut watch, &daemon)?;
        let begun = Instant::now();
        daemon.restart_servers()?;
        let restarted = since(begun);
        let mut next = self.start_client(&[])?;
        let served = since(begun);
        tell("restart servers", &json!({ "ms": restarted, "nextClientServedMs": served, "next": next.ask("step 1") }));
        next.leave()?;
        clients.into_iter().try_for_each(Client::leave)
    }

    fn kill(&self) -> Outcome<()> {
        let mut daemon = self.adopt()?;
        let mut client = if self.client.is_empty() { None } else { Some(self.start_client(&[])?) };
        let process = daemon.process().cloned().ok_or("the daemon is gone")?;
        let begun = Instant::now();
        process.kill();
        let noticed = daemon.wait_for_end(PATIENCE).then(|| since(begun));
        let death = daemon.death();
        let swept = since(begun);
        let says = client.as_mut().map(|client| client.ask("step 1"));
        let fresh = ResidentDaemon::start(&self.settings)?;
        let again = since(begun);
        tell(
            "kill",
            &json!({ "noticedMs": noticed, "sweptMs": swept, "freshDaemonMs": again, "client": says,
            "lastWords": death.map(|death| death.last_words), "pid": fresh.process().map(|process| process.pid) }),
        );
        client.map_or(Ok(()), Client::leave)
    }

    fn stop(&self) -> Outcome<()> {
        for with_client in [false, true] {
            let daemon = self.adopt()?;
            let client = if with_client && !self.client.is_empty() { Some(self.start_client(&[])?) } else { None };
            let process = daemon.process().cloned().ok_or("the daemon is gone")?;
            let begun = Instant::now();
            daemon.stop()?;
            tell("stop", &json!({ "withClient": client.is_some(), "ms": since(begun), "left": process.is_alive() }));
            client.map_or(Ok(()), Client::leave)?;
        }
        let left = std::fs::read_dir(self.settings.place.pipe())?.count();
        tell("end", &json!({ "filesInPipe": left, "serverStatusOfNobody": format!("{:?}", ServerStatus::Missing) }));
        self.settings.place.remove()?;
        Ok(())
    }
}

/// Reads the log until `wanted` has come.
fn until(watch: &mut LogWatch, wanted: impl Fn(&Entry) -> bool) -> Outcome<Vec<Entry>> {
    let (begun, mut seen) = (Instant::now(), Vec::new());
    while !seen.iter().any(&wanted) {
        if begun.elapsed() > PATIENCE {
            return Err(format!("not told in {PATIENCE:?}, only {seen:?}").into());
        }
        watch.wait(PATIENCE)?;
        seen.extend(watch.read()?.lines.into_iter().map(|line| line.entry));
    }
    Ok(seen)
}

/// Processor time of this process, in ticks of a hundredth of a second.
fn cpu_ticks() -> Outcome<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let tail = stat.rsplit_once(')').ok_or("no stat")?.1;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    Ok(fields.get(11).ok_or("no utime")?.parse::<u64>()? + fields.get(12).ok_or("no stime")?.parse::<u64>()?)
}

/// A CUDA process that obeys.
struct Client {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    pid: u32,
    first: Value,
}

impl Client {
    fn start(command: &[String], pipe: &std::path::Path, gpu: &str, variables: &[(&str, &str)]) -> Outcome<Self> {
        let (program, arguments) = command.split_first().ok_or("no client")?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("CUDA_VISIBLE_DEVICES", gpu)
            .env("CUDA_MPS_PIPE_DIRECTORY", pipe)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take().ok_or("no input")?, child.stdout.take().ok_or("no output")?);
        let pid = child.id();
        let mut client = Self { child, input, output: BufReader::new(output).lines(), pid, first: Value::Null };
        client.first = client.hear()?;
        Ok(client)
    }

    fn tell(&mut self, line: &str) -> Outcome<()> {
        writeln!(self.input, "{line}")?;
        self.input.flush().map_err(Into::into)
    }

    fn hear(&mut self) -> Outcome<Value> {
        let line = self.output.next().ok_or("the client is gone")??;
        Ok(serde_json::from_str(&line).unwrap_or(Value::String(line)))
    }

    /// The answer to a line. One that has ended at an error has no more to say.
    fn ask(&mut self, line: &str) -> Value {
        let answer = self.tell(line).and_then(|()| self.hear());
        answer.unwrap_or_else(|_gone| json!("the client has left"))
    }

    fn leave(self) -> Outcome<()> {
        let Self { mut child, input, .. } = self;
        let identity = Identity::of(child.id());
        drop(input);
        let begun = Instant::now();
        while child.try_wait()?.is_none() {
            if begun.elapsed() > PATIENCE {
                identity.iter().for_each(Identity::kill);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}
