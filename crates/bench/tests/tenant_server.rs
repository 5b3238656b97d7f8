//! Server tenants as processes of their own, against a fake model server on loopback: real processes, real sockets, the
//! real protocol. What only the fake has shown is shown for the fake.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command as Program, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use cotenant_bench::clock::MonotonicClock;
use cotenant_bench::protocol::{Command, Event, Ready, TenantPlan, WindowPlan};
use cotenant_model::run::{Metric, Window};
use cotenant_model::workload::{Api, Arrivals, Class, Engine, Load, Server, Tenant};
use cotenant_model::{Clock as _, Kernel, Nanoseconds};
use cotenant_testkit::model_server::{Behaviour, Fault, ModelServer, Script};

const MS: u64 = 1_000_000;
/// Set where this test program is to be the tenant.
const AS_TENANT: &str = "COTENANT_TEST_AS_TENANT";
/// A launcher that ties nothing, and shows that the arguments are the shim's: `PID -- PROGRAM …`.
const LAUNCHER: [&str; 4] = ["sh", "-c", r#"test "$2" = -- || exit 9; shift 2; exec "$@""#, "launcher"];

/// The tenant's process: the tests below start this program anew with only this test.
#[test]
fn the_tenant_itself() {
    if std::env::var_os(AS_TENANT).is_none() {
        return;
    }
    let launcher: Vec<String> = LAUNCHER.map(str::to_owned).to_vec();
    if let Err(error) = cotenant_bench::tenant::run(std::io::stdin(), std::io::stdout(), launcher) {
        panic!("{error}");
    }
}

/// A tenant's process as the comparison sees it.
struct Worker {
    child: Child,
    orders: Option<ChildStdin>,
    events: BufReader<ChildStdout>,
}

impl Worker {
    #[expect(clippy::disallowed_methods, reason = "the worker is reaped when dropped")]
    fn start() -> Self {
        let mut child = Program::new(std::env::current_exe().expect("this program"))
            .args(["the_tenant_itself", "--exact", "--nocapture"])
            .env(AS_TENANT, "1")
            .env("TENANT_TEST_TEXT", "filled in")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("worker");
        let orders = child.stdin.take();
        let events = BufReader::new(child.stdout.take().expect("stdout"));
        Self { child, orders, events }
    }

    fn plan(plan: &TenantPlan) -> Self {
        let mut worker = Self::start();
        worker.send(&serde_json::to_string(plan).expect("plan"));
        worker
    }

    fn ready(plan: &TenantPlan) -> (Self, Ready) {
        let mut worker = Self::plan(plan);
        match worker.event() {
            Some(Event::Ready(ready)) => (worker, ready),
            other => panic!("not ready: {other:?}"),
        }
    }

    fn send(&mut self, line: &str) {
        writeln!(self.orders.as_mut().expect("orders"), "{line}").expect("the worker reads");
    }

    fn order(&mut self, command: &Command) {
        self.send(&serde_json::to_string(command).expect("order"));
    }

    /// The next event; `None` at the end of its output. Lines of the test runner around it are not the tenant's.
    fn event(&mut self) -> Option<Event> {
        loop {
            let mut line = String::new();
            if self.events.read_line(&mut line).expect("output") == 0 {
                return None;
            }
            if let Some(start) = line.find("{\"event\"") {
                return Some(serde_json::from_str(&line[start..]).expect("event"));
            }
        }
    }

    fn measure(&mut self, length: u64) -> Window {
        let now = MonotonicClock.monotonic().0;
        let (warm, open, close) = (now + 5 * MS, now + 30 * MS, now + 30 * MS + length);
        let plan = WindowPlan {
            warm: Nanoseconds(warm),
            open: Nanoseconds(open),
            close: Nanoseconds(close),
            seed: 3,
            trace: true,
        };
        self.order(&Command::Run(plan));
        match self.event() {
            Some(Event::Measured(window)) => *window,
            other => panic!("not measured: {other:?}"),
        }
    }

    fn failure(&mut self) -> String {
        match self.event() {
            Some(Event::Failed { message }) => message,
            other => panic!("not failed: {other:?}"),
        }
    }

    /// Closes its input and waits; whether it ended well, and what it wrote to standard error.
    fn end(mut self) -> (bool, String) {
        self.orders = None;
        let mut said = String::new();
        self.child.stderr.take().expect("stderr").read_to_string(&mut said).expect("stderr");
        (self.child.wait().expect("worker").success(), said)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().unwrap_or_default();
        self.child.wait().expect("worker");
    }
}

fn server(endpoint: String) -> Server {
    Server {
        api: Api::OllamaGenerate,
        endpoint,
        command: None,
        environment: Default::default(),
        ready: Nanoseconds(20_000 * MS),
        model: "fake".to_owned(),
        prompt: "Once upon a time".to_owned(),
        max_tokens: 8,
        timeout: Nanoseconds(100 * MS),
        options: Default::default(),
    }
}

fn plan_of(engine: Engine, load: Load) -> TenantPlan {
    let tenant = Tenant {
        name: "chat".to_owned(),
        class: Class::Standard,
        engine,
        load: Some(load),
        slo: Vec::new(),
        memory: None,
    };
    TenantPlan { tenant, seed: 1, spawned: MonotonicClock.monotonic(), server_log: None }
}

fn plan(server: Server, load: Load) -> TenantPlan {
    plan_of(Engine::Server(server), load)
}

fn closed(streams: u32) -> Load {
    Load::Closed { streams, think: Nanoseconds(0) }
}

/// Loads a fake with `script` for `length` and returns what the tenant measured.
fn measured(script: Script, load: Load, length: u64) -> (Window, u32) {
    let fake = ModelServer::start(script).expect("fake");
    let (mut worker, _ready) = Worker::ready(&plan(server(fake.url()), load));
    let window = worker.measure(length);
    assert!(worker.end().0);
    (window, fake.requests())
}

fn paced(first: u64, gap: u64) -> Behaviour {
    Behaviour { first_micros: first, gap_micros: gap, ..Behaviour::default() }
}

#[test]
fn a_closed_loop_keeps_its_streams_and_measures_every_latency() {
    let (window, _requests) = measured(Script::always(paced(4_000, 2_000)), closed(3), 400 * MS);
    assert!(window.work.completed >= 3, "{:?}", window.work);
    assert_eq!(window.work.failed, 0);
    for metric in [Metric::Ttft, Metric::Tpot, Metric::E2e, Metric::Lag] {
        assert_eq!(window.histograms[&metric].len(), window.work.completed, "{metric:?}");
    }
    assert!(window.requests.ttft.iter().all(|first| *first >= 4_000));
    assert!(window.requests.e2e.iter().all(|end| *end >= 18_000), "first after 4 ms, seven gaps of 2 ms");
    assert!(window.work.units >= window.work.completed as f64);
    assert!(window.unfinished.is_empty());
    let trace = window.trace.expect("trace");
    assert!(!trace.ends.is_empty() && trace.times().is_sorted_by(|before, after| before <= after));
    assert!(window.process.is_some_and(|process| process.resident.0 > 0));
}

#[test]
fn an_open_loop_sends_whatever_the_answers_do_and_leaves_ages() {
    let load = Load::Open { arrivals: Arrivals::Constant, requests_per_second: 100.0 };
    // An answer takes 10 s: none ends.
    let (window, requests) = measured(Script::always(paced(10_000_000, 0)), load, 60 * MS);
    // The server gives up a silent answer only after the window.
    assert_eq!(window.work.completed, 0);
    assert!(requests >= 3, "{requests} sent");
    assert!(window.unfinished.len() >= 3);
    assert!(window.unfinished.max().is_some_and(|age| age.0 <= 86 * MS));
}

#[test]
fn tokens_count_by_the_servers_own_count() {
    let behaviour = Behaviour { tokens_per_piece: 4, ..paced(1_000, 1_000) };
    let (window, _requests) = measured(Script::always(behaviour), closed(1), 200 * MS);
    let tokens_a_request = window.work.units / window.work.completed as f64;
    assert!((6.0..=16.5).contains(&tokens_a_request), "8 tokens in 2 pieces a request: {tokens_a_request}");
}

#[test]
fn failed_requests_are_counted_with_their_messages_and_others_go_on() {
    for (fault, words) in [
        (Fault::Html, "web page"),
        (Fault::HangsBeforeHeaders, "no answer within"),
        (Fault::HangsAfter(2), "silent for"),
        (Fault::DropsAfter(2), "the stream ended after"),
        (Fault::ErrorAfter(2), "CUDA error: out of memory"),
        (Fault::GarbageAfter(1), "is not this API's"),
        (Fault::Busy, "busy (503)"),
    ] {
        let mut script = Script::always(paced(1_000, 1_000));
        // The first of two streams meets it, in the warm-up or in the window.
        script.requests = vec![paced(1_000, 40_000), fault.into(), fault.into()];
        let (window, _requests) = measured(script, closed(2), 700 * MS);
        assert!(window.work.failed >= 1, "{fault:?}: {:?}", window.work);
        assert!(
            window.work.errors.keys().all(|message| message.contains(words)),
            "{fault:?}: {:?}",
            window.work.errors
        );
        assert!(window.work.completed >= 1, "{fault:?}: {:?}", window.work);
    }
}

fn fake_command(script: &Script) -> (Server, tempfile::TempDir) {
    // The port is free again when the listener is dropped; nothing else of this test takes ports.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("port").port();
    let address = format!("127.0.0.1:{port}");
    let mut server = server(format!("http://{address}"));
    let program = cotenant_testkit::mps::program("fake-model-server").expect("fake").to_string_lossy().into_owned();
    server.command = Some(vec![program, address]);
    let script = serde_json::to_string(script).expect("script");
    server.environment.insert("FAKE_MODEL_SERVER_SCRIPT".to_owned(), script);
    (server, tempfile::tempdir().expect("directory"))
}

#[test]
fn a_server_that_is_started_is_measured_and_stopped() {
    let (server, directory) = fake_command(&Script { load_micros: 100_000, ..Script::always(paced(1_000, 1_000)) });
    let endpoint = server.endpoint.clone();
    let mut plan = plan(server, closed(1));
    plan.server_log = Some(directory.path().join("server.log"));
    let (mut worker, ready) = Worker::ready(&plan);
    assert_ne!(ready.process.pid, worker.child.id(), "the server's process");
    assert!(ready.process.startup >= Nanoseconds(100 * MS), "the model is loaded first");
    assert!(worker.measure(100 * MS).work.completed > 0);
    worker.order(&Command::Stop);
    assert!(worker.end().0);
    assert!(!std::path::Path::new(&format!("/proc/{}", ready.process.pid)).exists());
    assert!(std::net::TcpStream::connect(endpoint.trim_start_matches("http://")).is_err());
}

#[test]
fn a_server_that_dies_in_the_window_fails_the_tenant() {
    let (server, _directory) = fake_command(&Script { dies_after: Some(3), ..Script::always(paced(1_000, 1_000)) });
    let (mut worker, _ready) = Worker::ready(&plan(server, closed(1)));
    let now = MonotonicClock.monotonic().0;
    let window = WindowPlan {
        warm: Nanoseconds(now),
        open: Nanoseconds(now),
        close: Nanoseconds(now + 300 * MS),
        seed: 0,
        trace: false,
    };
    worker.order(&Command::Run(window));
    assert_eq!(worker.failure(), "the server ended with exit status 3 and said nothing");
    let (well, said) = worker.end();
    assert!(!well && said.contains("the server ended with exit status 3"), "{said}");
}

/// The failure of a tenant whose server is started by a shell with `script`.
fn shell_failure(script: &str, ready: u64) -> String {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let directory = tempfile::tempdir().expect("directory");
    let mut server = server("http://127.0.0.1:9".to_owned());
    server.command = Some(["sh", "-c", script].map(str::to_owned).to_vec());
    server.ready = Nanoseconds(ready);
    server.environment.insert("TEXT".to_owned(), "${TENANT_TEST_TEXT}".to_owned());
    let mut plan = plan(server, closed(1));
    plan.server_log = Some(directory.path().join(format!("{}.log", RUNS.fetch_add(1, Ordering::Relaxed))));
    let mut worker = Worker::plan(&plan);
    let message = worker.failure();
    assert!(!worker.end().0);
    message
}

#[test]
fn a_server_that_dies_at_its_start_is_quoted() {
    let message =
        shell_failure("echo loading; printf 'no such \\033[31mmodel: %s\\n' \"$TEXT\" >&2; exit 3", 9_000 * MS);
    assert_eq!(message, "the server ended with exit status 3; its last lines: loading | no such [31mmodel: filled in");
}

#[test]
fn a_server_that_never_gets_ready_is_quoted_and_ended_with_what_it_started() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; echo still loading; wait", file.display());
    let message = shell_failure(&script, 400 * MS);
    assert!(message.starts_with("the server did not become ready: http://127.0.0.1:9/"), "{message}");
    assert!(message.contains("not ready within") && message.ends_with("; its last lines: still loading"), "{message}");
    let pid = std::fs::read_to_string(&file).expect("pid");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "the server's child is left: {stat}");
}

#[test]
fn a_command_that_cannot_be_run_says_why() {
    let fake = ModelServer::start(Script::default()).expect("fake");
    let failure = |change: &dyn Fn(&mut Server)| {
        let mut server = server("http://127.0.0.1:9".to_owned());
        server.command = Some(vec!["true".to_owned()]);
        change(&mut server);
        Worker::plan(&plan(server, closed(1))).failure()
    };
    assert_eq!(
        failure(&|server| server.command = Some(vec!["${COTENANT_TEST_ABSENT}".to_owned()])),
        "tenant chat cannot be started: the environment variable COTENANT_TEST_ABSENT is not set; set it, or write \
         ${COTENANT_TEST_ABSENT:-text} for what to take then"
    );
    assert!(failure(&|server| server.command = Some(Vec::new())).ends_with("the command is empty"));
    assert!(failure(&|server| server.endpoint = fake.url()).contains("listens at http://127.0.0.1:"));
}

#[test]
fn an_endpoint_that_nobody_serves_is_a_failure() {
    let mut server = server("http://127.0.0.1:9".to_owned());
    server.ready = Nanoseconds(200 * MS);
    let message = Worker::plan(&plan(server, closed(1))).failure();
    assert!(message.contains("connection refused"), "{message}");
}

#[test]
fn the_end_of_input_breaks_off_what_is_being_done() {
    let fake = ModelServer::start(Script { load_micros: 60_000_000, ..Script::default() }).expect("fake");
    let begin = MonotonicClock.monotonic().0;
    let worker = Worker::plan(&plan(server(fake.url()), closed(1)));
    assert!(worker.end().0, "while the model is loaded");

    let fake = ModelServer::start(Script::always(paced(1_000, 1_000))).expect("fake");
    let (mut worker, _ready) = Worker::ready(&plan(server(fake.url()), closed(1)));
    let now = MonotonicClock.monotonic().0;
    let (open, close) = (Nanoseconds(now), Nanoseconds(now + 60_000 * MS));
    worker.order(&Command::Run(WindowPlan { warm: open, open, close, seed: 0, trace: false }));
    assert!(worker.end().0, "in the middle of a window");
    assert!(MonotonicClock.monotonic().0 - begin < 50_000 * MS);
}

#[test]
fn sigterm_ends_a_tenant_well() {
    let fake = ModelServer::start(Script::default()).expect("fake");
    let (mut worker, _ready) = Worker::ready(&plan(server(fake.url()), closed(1)));
    let pid = rustix::process::Pid::from_child(&worker.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signal");
    assert_eq!(worker.event(), None);
    assert!(worker.child.wait().expect("worker").success());
}

#[test]
fn an_order_that_is_not_one_fails_the_tenant() {
    let mut worker = Worker::start();
    worker.send("{\"tenant\": 7}");
    let message = worker.failure();
    assert!(message.starts_with("an order is not understood: {\"tenant\": 7}: "), "{message}");
    assert!(!worker.end().0);
}

#[test]
fn a_kernel_without_a_gpu_says_what_is_missing() {
    if std::path::Path::new("/dev/nvidiactl").exists() {
        eprintln!("skipped: this machine has an NVIDIA driver");
        return;
    }
    let mut worker = Worker::plan(&plan_of(Engine::Kernel(Kernel::Fault), closed(1)));
    let message = worker.failure();
    assert!(message.starts_with("cannot open the GPU: "), "{message}");
}
