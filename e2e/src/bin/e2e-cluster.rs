//! The cluster for people and for the test run: `cargo xtask cluster` and `cargo xtask e2e` call this.

#![expect(clippy::print_stderr, reason = "progress, beside the result on stdout")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use e2e::cluster::{Cluster, Options, Programs, State, collect_logs};
use e2e::image::{self, Image};
use e2e::place::CLUSTER_VARIABLE;
use e2e::{own_folder, process, tools, wait};

/// A real Kubernetes on this machine, with simulated GPUs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Name of the cluster; clusters of different names do not touch each other.
    #[arg(long, global = true, default_value = "cluster")]
    name: String,
    #[command(subcommand)]
    order: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Bring the cluster up and say how to use it; one that is up stays as it is.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = 1)]
        nodes: u8,
        /// Replace one that is up, with new images of the program.
        #[arg(long)]
        anew: bool,
    },
    /// End every process of the cluster and remove all that is left of it.
    Down,
    /// Say what runs.
    Status,
    /// Bring a cluster up, run a command with it, and bring it down, whatever happens.
    Run {
        /// How many nodes.
        #[arg(long, default_value_t = 2)]
        nodes: u8,
        /// The command.
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Build the programs of Kubernetes and Helm, and say where they are.
    Tools,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match obey(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn obey(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let state = State::new(&arguments.name)?;
    match &arguments.order {
        Order::Up { nodes, anew } => {
            let _lock = lock(&state)?;
            let cluster = match Cluster::attach(&state) {
                Ok(cluster) if !anew => {
                    eprintln!("it is up already; --anew replaces it");
                    cluster
                }
                _absent_or_to_be_replaced => up(&state, *nodes)?,
            };
            say(&explain(&cluster)?);
        }
        Order::Down => {
            let _lock = lock(&state)?;
            state.clear()?;
            say(&format!("nothing is left of the cluster `{}`\n", arguments.name));
        }
        Order::Status => return status(&state),
        Order::Run { nodes, command } => return run(&state, *nodes, command),
        Order::Tools => {
            let (kubernetes, helm) = (tools::kubernetes()?, tools::helm()?);
            let told = [(tools::KUBERNETES, kubernetes), (tools::HELM, helm)];
            say(&told.map(|(version, place)| format!("{version} {}\n", place.display())).concat());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn lock(state: &State) -> anyhow::Result<std::fs::File> {
    state.lock(|| eprintln!("another process brings this cluster up or down, or runs tests on it: waiting for it"))
}

/// Brings a cluster up where none may be left of an earlier one. One that does not come up is taken down again.
fn up(state: &State, nodes: u8) -> anyhow::Result<Cluster> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "a cluster needs root: namespaces, mounts and control groups"
    );
    let programs = Programs { kubernetes: tools::kubernetes()?, own: own_folder()? };
    state.clear().context("what is left of an earlier cluster cannot be removed")?;
    let start = wait::now();
    state.make()?;
    let mut images = vec![Image::pause(state)?, Image::client(state, &programs)?];
    if programs.own.join("cotenant").is_file() {
        images.push(Image::cotenant(state, &programs, image::COTENANT)?);
    }
    let made = start.elapsed();
    match Cluster::up(state, &programs, &Options { nodes, images }) {
        Ok(cluster) => {
            let seconds = start.elapsed().as_secs_f64();
            eprintln!(
                "up in {seconds:.1} s, {:.1} s of them for the images; the GPUs are simulated",
                made.as_secs_f64()
            );
            Ok(cluster)
        }
        Err(error) => {
            let kept = programs.own.join("e2e-failures").join("up");
            collect_logs(state, &kept)?;
            state.clear()?;
            Err(error.context(format!("the cluster did not come up; its logs are in {}", kept.display())))
        }
    }
}

/// Prints a result; a reader that has seen enough is no failure.
fn say(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
}

fn explain(cluster: &Cluster) -> anyhow::Result<String> {
    let mut text = String::new();
    writeln!(text, "export KUBECONFIG={}", cluster.state().kubeconfig().display())?;
    writeln!(text, "alias kubectl={}\n", tools::kubernetes()?.join("kubectl").display())?;
    for node in cluster.nodes() {
        let (folder, init) = (node.machine().folder().display(), node.machine().init());
        writeln!(text, "node {}: its files and logs are in {folder}", node.name())?;
        writeln!(text, "  simulated GPUs: {folder}/world/scenario.json, read again whenever it changes")?;
        writeln!(text, "  a shell on it: nsenter --target {init} --mount --net --pid --ipc --uts bash")?;
    }
    writeln!(text, "images: {}, {} (imagePullPolicy: Never)", image::CLIENT, image::COTENANT)?;
    writeln!(text, "end it: cargo xtask cluster down")?;
    Ok(text)
}

fn status(state: &State) -> anyhow::Result<ExitCode> {
    if state.record()?.is_none() {
        say(&format!("no cluster is up in {}\n", state.folder().display()));
        return Ok(ExitCode::FAILURE);
    }
    let cluster = Cluster::attach(state)?;
    let (mut code, mut text) = (ExitCode::SUCCESS, String::new());
    for (name, machine) in cluster.machines() {
        for part in machine.parts()? {
            let how = part.ended.as_ref().map_or_else(|| format!("process {}", part.id), |how| format!("ENDED: {how}"));
            writeln!(text, "{name:<14} {:<24} {how}", part.name)?;
            code = if part.ended.is_some() { ExitCode::FAILURE } else { code };
        }
    }
    let objects = cluster.kubernetes().kubectl(&["get", "nodes,pods", "--all-namespaces", "--output=wide"]);
    let objects = objects.unwrap_or_else(|error| format!("{error:#}\n"));
    writeln!(text, "\n{objects}\n{}", explain(&cluster)?)?;
    say(&text);
    Ok(code)
}

/// Runs the command between up and down. Ctrl-C reaches the command too; this waits for its end and cleans up.
fn run(state: &State, nodes: u8, words: &[String]) -> anyhow::Result<ExitCode> {
    let _lock = lock(state)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let cluster = up(state, nodes)?;
    let (program, arguments) = words.split_first().context("no command")?;
    let mut command = process::command(program);
    command.args(arguments).env(CLUSTER_VARIABLE, state.name()).env("KUBECONFIG", cluster.state().kubeconfig());
    let ended = attend(&mut command, &stop);
    drop(cluster);
    state.clear()?;
    Ok(if ended? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for the command; whether it ended well.
fn attend(command: &mut Command, stop: &AtomicBool) -> anyhow::Result<bool> {
    let name = PathBuf::from(command.get_program());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", name.display()))?;
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success() && !told);
        }
        if stop.load(Ordering::SeqCst) && !told {
            eprintln!("stopping: the cluster is taken down when {} has ended", name.display());
            let id = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
            told = true;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
