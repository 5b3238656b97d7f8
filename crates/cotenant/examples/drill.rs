//! A drill of a node's daemon on a real GPU: shares, adoption, faults, killed daemons, users, limits that a pod lifts.
//!
//! `drill COTENANT CLIENT OUT.json` with the programs `cotenant` and `client` (`cargo build --release -p cotenant`, `… -p cotenant-cuda
//! --example client`), as root on a machine with one NVIDIA GPU and its MPS programs. The GPU, the driver, MPS and the CUDA processes
//! are real; **the kubelet is a fake one**, and there are no pods: a client is a process with the environment that Allocate answered. The
//! compute mode is left alone. Every time is in seconds; every round stands in the output.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "it starts programs, takes times and tells them")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use cotenant_model::GpuUuid;
use cotenant_model::sharing::{ResourceName, Share};
use cotenant_node::usage::inspection::{Given as Inspected, inspect};
use cotenant_testkit::kubelet::{Container, Given, Kubelet};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const ROUNDS: usize = 5;
const CLASSES: [(&str, u64, u8); 3] = [("small", 4096, 10), ("medium", 16384, 25), ("large", 32768, 50)];

/// A process that ends with the drill.
struct Program(Child);

impl Program {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap_or_default();
    }

    /// Kills it as nobody can refuse.
    fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL);
        self.0.wait()?;
        Ok(())
    }

    fn end(mut self) -> anyhow::Result<Option<i32>> {
        self.signal(Signal::TERM);
        Ok(self.0.wait()?.code())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A CUDA process that obeys.
struct Client {
    child: Program,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    opened: Value,
}

impl Client {
    /// The answer to an order.
    fn ask(&mut self, order: &str) -> anyhow::Result<Value> {
        writeln!(self.orders.as_mut().context("it was dismissed")?, "{order}")?;
        read(&mut self.answers)
    }

    fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Lets it leave by itself.
    fn dismiss(mut self) -> anyhow::Result<()> {
        self.orders = None;
        self.child.0.wait()?;
        Ok(())
    }
}

fn read(answers: &mut BufReader<ChildStdout>) -> anyhow::Result<Value> {
    let mut line = String::new();
    ensure!(answers.read_line(&mut line)? > 0, "the client has left");
    Ok(serde_json::from_str(&line)?)
}

struct Drill {
    cotenant: PathBuf,
    client: PathBuf,
    folder: tempfile::TempDir,
    kubelet: Kubelet,
    gpu: String,
}

impl Drill {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, name: &str, command: &mut Command) -> anyhow::Result<Program> {
        let log = File::options().create(true).append(true).open(self.path(name))?;
        command.env("MPS_ROOT", self.path("mps")).env("COTENANT_LOG", "info").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Program(command.spawn()?))
    }

    fn keeper(&self) -> anyhow::Result<Program> {
        let keeper =
            self.start("keeper.log", Command::new(&self.cotenant).args(["node", "keeper", "--shared-memory", "1GiB"]))?;
        let socket = self.path("mps/keeper.sock");
        until("the keeper answers", || std::os::unix::net::UnixStream::connect(&socket).is_ok())?;
        Ok(keeper)
    }

    fn agent(&self) -> anyhow::Result<Program> {
        let mut command = Command::new(&self.cotenant);
        command.args(["node", "--api=false", "--listen", "", "--node-name", "drill"]);
        command.arg("--config-file").arg(self.path("config.yaml"));
        command.arg("--kubelet-socket").arg(self.kubelet.device_plugins().join("kubelet.sock"));
        command.arg("--pod-resources-socket").arg(self.kubelet.pod_resources());
        command.arg("--cdi-root").arg(self.path("cdi")).arg("--state-directory").arg(self.path("state"));
        command.arg("--socket").arg(self.path("node.sock"));
        self.start("agent.log", &mut command)
    }

    fn configure(&self, more: &str) -> anyhow::Result<()> {
        let classes: String = CLASSES
            .iter()
            .map(|(name, memory, percent)| format!("    {name}: {{memory: {memory}MiB, percent: {percent}}}\n"))
            .collect();
        let text = format!(
            "version: v1\ncotenant:\n  classes:\n{classes}  mps: {{computeMode: keep{more}}}\n  faults: {{grace: 3s}}\n  \
             gpus:\n    - {{devices: all, strategy: mps, classes: {{small: 2, medium: 1, large: 1}}}}\n"
        );
        fs::write(self.path("config.yaml"), text)?;
        Ok(())
    }

    fn healthy(&self) -> usize {
        CLASSES.iter().map(|(name, ..)| self.kubelet.healthy(&format!("nvidia.com/gpu.{name}"))).sum()
    }

    fn until_healthy(&self, count: usize) -> anyhow::Result<f64> {
        let begun = Instant::now();
        until(&format!("{count} devices are healthy"), || self.healthy() == count)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    async fn given(&self, pod: &str, class: &str) -> anyhow::Result<Given> {
        let given = self.kubelet.admit(&Container::of(pod), &format!("nvidia.com/gpu.{class}"), 1).await;
        given.map_err(|refused| anyhow::anyhow!("{pod}: {refused:?}"))
    }

    /// A CUDA process with what Allocate answered, as a user, with variables that it sets itself.
    fn client(&self, given: &Given, user: Option<u32>, own: &[(&str, &str)]) -> anyhow::Result<Client> {
        let mut environment = given.environment.clone();
        let inside = environment.get("CUDA_MPS_PIPE_DIRECTORY").cloned().context("no MPS share")?;
        let host = given.mounts.iter().find(|(container, ..)| *container == inside).context("no pipe is mounted")?;
        environment.insert("CUDA_MPS_PIPE_DIRECTORY".to_owned(), host.1.clone());
        environment.insert("CUDA_VISIBLE_DEVICES".to_owned(), self.gpu.clone());
        environment.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.spawn(&environment, user)
    }

    fn spawn(&self, environment: &BTreeMap<String, String>, user: Option<u32>) -> anyhow::Result<Client> {
        let mut command = Command::new(&self.client);
        command.envs(environment).env("HOME", "/tmp").stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::options().create(true).append(true).open(self.path("client.log"))?);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let mut child = command.spawn()?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take().context("no output")?);
        Ok(Client { child: Program(child), orders, answers: BufReader::new(answers), opened: Value::Null })
    }

    fn opened(&self, given: &Given, user: Option<u32>, own: &[(&str, &str)]) -> anyhow::Result<Client> {
        let mut client = self.client(given, user, own)?;
        client.opened = read(&mut client.answers)?;
        Ok(client)
    }

    fn daemon(&self) -> anyhow::Result<i32> {
        let path = self.path("mps").join(&self.gpu).join("pipe/nvidia-cuda-mps-control.pid");
        Ok(fs::read_to_string(path)?.trim().parse()?)
    }
}

fn until(what: &str, condition: impl Fn() -> bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !condition() {
        ensure!(begun.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// What a client sees of its share, for each class: multiprocessors, free memory, and where it is refused more.
async fn limits(drill: &Drill) -> anyhow::Result<Value> {
    let mut seen = Vec::new();
    for (class, memory, percent) in CLASSES {
        let pod = format!("limits-{class}");
        let mut client = drill.opened(&drill.given(&pod, class).await?, None, &[])?;
        let look = client.ask("look")?;
        let within = client.ask(&format!("hold {}", memory / 2))?;
        let beyond = client.ask(&format!("hold {}", memory / 2 + 512))?;
        seen.push(json!({ "class": class, "memoryMebibytes": memory, "percent": percent, "look": look, "within": within, "beyond": beyond }));
        client.dismiss()?;
        drill.kubelet.end("default", &pod);
    }
    Ok(json!(seen))
}

/// A killed agent, then a killed keeper: the daemon and a client's work go on.
async fn adoption(drill: &Drill, agent: &mut Program, keeper: &mut Program) -> anyhow::Result<Value> {
    let mut client = drill.opened(&drill.given("adopt", "small").await?, None, &[])?;
    let before = (drill.daemon()?, client.ask("step 20")?);
    let lists = drill.kubelet.registrations().len();
    let begun = Instant::now();
    agent.kill()?;
    *agent = drill.agent()?;
    until("the next agent is registered", || drill.kubelet.registrations().len() >= lists + CLASSES.len())?;
    drill.until_healthy(4)?;
    let agent_took = begun.elapsed().as_secs_f64();
    let after_agent = client.ask("step 20")?;
    let begun = Instant::now();
    keeper.kill()?;
    *keeper = drill.keeper()?;
    let keeper_took = begun.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_secs(2));
    let after_keeper = client.ask("step 20")?;
    let after = drill.daemon()?;
    client.dismiss()?;
    drill.kubelet.end("default", "adopt");
    Ok(json!({
        "daemonBefore": before.0, "daemonAfter": after, "stepsBefore": before.1, "stepsAfterAgentWasKilled": after_agent,
        "stepsAfterKeeperWasKilled": after_keeper, "nextAgentServesAfter": agent_took, "nextKeeperAnswersAfter": keeper_took,
        "healthy": drill.healthy(),
    }))
}

/// One client faults beside another: how soon the shares are unhealthy, what the other gets, how soon they are healthy.
async fn faults(drill: &Drill, leave: bool) -> anyhow::Result<Value> {
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let (first, second) = (format!("a{round}"), format!("b{round}"));
        let mut culprit = drill.opened(&drill.given(&first, "small").await?, None, &[])?;
        let mut victim = drill.opened(&drill.given(&second, "medium").await?, None, &[])?;
        victim.ask("step 10")?;
        let begun = Instant::now();
        let fault = culprit.ask("fault")?;
        let unhealthy = drill.until_healthy(0)? + fault["seconds"].as_f64().unwrap_or_default();
        let victim_got = victim.ask("step 1")?;
        let gone = if leave {
            culprit.dismiss()?;
            victim.dismiss()?;
            Instant::now()
        } else {
            // They stay: after the grace the server is ended by force, then they are.
            until("the clients are ended", || !is_alive(culprit.pid()) && !is_alive(victim.pid()))
                .or_else(|_stay| anyhow::Ok(()))?;
            Instant::now()
        };
        let healthy = drill.until_healthy(4)?;
        rounds.push(json!({
            "unhealthyAfter": unhealthy, "healthyAfterLastClientLeft": healthy.max(0.0),
            "healthyAfterFault": begun.elapsed().as_secs_f64(), "clientsGoneAfterFault": (gone - begun).as_secs_f64(),
            "culprit": fault, "victim": victim_got,
        }));
        for pod in [&first, &second] {
            drill.kubelet.end("default", pod);
        }
        let fresh = format!("c{round}");
        let mut after = drill.opened(&drill.given(&fresh, "small").await?, None, &[])?;
        let works = after.ask("step 10")?;
        ensure!(works["error"].is_null(), "a client after the fault: {works}");
        after.dismiss()?;
        drill.kubelet.end("default", &fresh);
    }
    Ok(json!(rounds))
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// The control daemon is killed under a client.
async fn killed_daemons(drill: &Drill) -> anyhow::Result<Value> {
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let pod = format!("d{round}");
        let mut client = drill.opened(&drill.given(&pod, "small").await?, None, &[])?;
        let daemon = drill.daemon()?;
        let begun = Instant::now();
        kill_process(Pid::from_raw(daemon).context("no daemon")?, Signal::KILL)?;
        let unhealthy = drill.until_healthy(0)?;
        let got = client.ask("step 1")?;
        client.dismiss()?;
        drill.kubelet.end("default", &pod);
        let left = Instant::now();
        drill.until_healthy(4)?;
        rounds.push(json!({
            "unhealthyAfter": unhealthy, "client": got, "healthyAfterClientLeft": left.elapsed().as_secs_f64(),
            "healthyAfterKill": begun.elapsed().as_secs_f64(), "freshDaemon": drill.daemon()? != daemon,
        }));
    }
    Ok(json!(rounds))
}

/// A user of another id beside root: without a server for every user it waits until root's clients have left.
async fn users(drill: &Drill) -> anyhow::Result<Value> {
    let root = drill.opened(&drill.given("root", "small").await?, None, &[])?;
    let given = drill.given("user", "small").await?;
    let begun = Instant::now();
    let mut user = drill.client(&given, Some(1001), &[])?;
    std::thread::sleep(Duration::from_secs(3));
    let dismissed = begun.elapsed().as_secs_f64();
    root.dismiss()?;
    let opened = read(&mut user.answers)?;
    let waited = begun.elapsed().as_secs_f64();
    let works = user.ask("step 5")?;
    user.dismiss()?;
    for pod in ["root", "user"] {
        drill.kubelet.end("default", pod);
    }
    Ok(json!({ "rootLeftAfter": dismissed, "userOpenedAfter": waited, "opened": opened, "works": works }))
}

/// Variables that a pod sets itself: what they do to its limits, and what the agent's inspection says of the process.
async fn lifted(drill: &Drill) -> anyhow::Result<Value> {
    const OWN: [(&str, &str); 6] = [
        ("as given", ""),
        ("an invisible GPU", "0=2G,1=4G"),
        ("no limit at all", "nonsense"),
        ("zero", "0=0M"),
        ("another GPU's UUID", "GPU-00000000-0000-0000-0000-000000000000=1G"),
        ("more than its share", "0=30000M"),
    ];
    let mut cases = Vec::new();
    for (number, (name, value)) in OWN.into_iter().enumerate() {
        let pod = format!("l{number}");
        let given = drill.given(&pod, "small").await?;
        let own = [("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", value)];
        let mut client = drill.opened(&given, None, if value.is_empty() { &[] } else { &own })?;
        let look = client.ask("look")?;
        let said = findings(drill, client.pid())?;
        cases.push(json!({ "case": name, "value": value, "look": look, "inspection": said }));
        client.dismiss()?;
        drill.kubelet.end("default", &pod);
    }
    Ok(json!(cases))
}

/// What the agent's inspection says of a client of the class `small`. Its pipe is not where a container has it, which is said too and
/// left out here.
fn findings(drill: &Drill, pid: u32) -> anyhow::Result<Vec<String>> {
    let gpu = GpuUuid(drill.gpu.clone());
    let resource = ResourceName("nvidia.com/gpu.small".to_owned());
    let (_, memory, percent) = CLASSES[0];
    let share = Share {
        memory: cotenant_model::Bytes::mebibytes(memory),
        percent: cotenant_model::Percent::try_from(percent)?,
    };
    let given = Inspected { gpu: &gpu, resource: &resource, share, shared_memory: None };
    let said = inspect(Path::new("/proc"), pid, &given)?;
    Ok(said.into_iter().filter(|text| !text.contains("CUDA_MPS_PIPE_DIRECTORY")).collect())
}

fn gpu() -> anyhow::Result<(String, String)> {
    let query = ["--query-gpu=uuid,name,driver_version", "--format=csv,noheader"];
    let output = Command::new("nvidia-smi").args(query).output().context("nvidia-smi")?;
    let text = String::from_utf8(output.stdout)?;
    let (uuid, rest) = text.trim().split_once(", ").context("nvidia-smi names no GPU")?;
    Ok((uuid.to_owned(), rest.lines().next().unwrap_or_default().to_owned()))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cotenant, client, out] = arguments.as_slice() else { bail!("drill COTENANT CLIENT OUT.json") };
    let (gpu, card) = gpu()?;
    let folder = tempfile::Builder::new().prefix("drill").tempdir_in("/tmp")?;
    let kubelet = Kubelet::started(folder.path())?;
    let drill =
        Drill { cotenant: fs::canonicalize(cotenant)?, client: fs::canonicalize(client)?, folder, kubelet, gpu };
    // Users other than root pass through.
    fs::set_permissions(drill.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut record = json!({ "card": card, "kubelet": "fake", "rounds": ROUNDS });
    let ran = run(&drill, &mut record).await;
    if let Err(error) = &ran {
        record["failed"] = json!(format!("{error:#}"));
        for log in ["agent.log", "keeper.log", "client.log"] {
            record[log] = json!(fs::read_to_string(drill.path(log)).unwrap_or_default());
        }
    }
    fs::write(out, serde_json::to_string_pretty(&record)? + "\n")?;
    println!("{record}");
    ran
}

async fn run(drill: &Drill, record: &mut Value) -> anyhow::Result<()> {
    drill.configure("")?;
    let begun = Instant::now();
    let mut keeper = drill.keeper()?;
    record["keeperAnswersAfter"] = json!(begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let mut agent = drill.agent()?;
    drill.until_healthy(4)?;
    record["agentServesAfter"] = json!(begun.elapsed().as_secs_f64());
    record["limits"] = limits(drill).await?;
    record["adoption"] = adoption(drill, &mut agent, &mut keeper).await?;
    record["lifted"] = lifted(drill).await?;
    record["users"] = users(drill).await?;
    record["faults"] = faults(drill, true).await?;
    record["faultsWithStragglers"] = faults(drill, false).await?;
    record["killedDaemons"] = killed_daemons(drill).await?;
    let begun = Instant::now();
    record["agentExit"] = json!(agent.end()?);
    record["keeperExit"] = json!(keeper.end()?);
    record["stopTook"] = json!(begun.elapsed().as_secs_f64());
    let left = Command::new("pgrep").args(["-fa", "nvidia-cuda-mps"]).output()?;
    record["processesLeft"] = json!(String::from_utf8_lossy(&left.stdout));
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    record["mountsLeft"] = json!(mounts.lines().filter(|line| line.contains("/drill")).collect::<Vec<_>>());
    Ok(())
}
