//! The client against a real Ollama on the CPU, over all three APIs it serves.
//!
//! `cargo xtask ollama` builds the server and its model; without them the test says so and proves nothing. It asserts
//! shapes only: figures of a shared test machine mean nothing, and texts differ between a model's first answer and its next.

#![expect(clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use cotenant_llm::{Fault, TokenCount};
use cotenant_model::Nanoseconds;
use cotenant_model::workload::{Api, Server};
use support::{APIS, Outcome, ask, block_on, client};

/// Program and models folder: where the environment says, or where `cargo xtask ollama` puts them.
fn installed() -> Option<(PathBuf, PathBuf)> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let root = cache.map(|cache| cache.join("cotenant/ollama"));
    let in_cache = |name: &str| root.as_ref().map(|root| root.join(name));
    let program = variable("COTENANT_OLLAMA").or_else(|| in_cache("ollama-0.17.4/bin/ollama"))?;
    let models = variable("COTENANT_OLLAMA_MODELS").or_else(|| in_cache("models-0.17.4-smollm2-0.1.2"))?;
    (program.is_file() && models.is_dir()).then_some((program, models))
}

/// A server of our own on a free port, with a home of its own; it and its runners are gone when it is dropped.
struct Ollama {
    child: Child,
    url: String,
    _home: tempfile::TempDir,
}

impl Ollama {
    #[expect(clippy::disallowed_methods, reason = "the child is reaped when this is dropped")]
    fn start(program: &Path, models: &Path) -> Self {
        use std::os::unix::process::CommandExt as _;
        let home = tempfile::tempdir().expect("a scratch folder");
        let address = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
        let mut serve = std::process::Command::new(program);
        serve.arg("serve").process_group(0).env("HOME", home.path()).env("OLLAMA_MODELS", models);
        serve.env("OLLAMA_HOST", address.to_string()).env("OLLAMA_NOPRUNE", "1").env("CUDA_VISIBLE_DEVICES", "");
        // As the requests ask it, so that no API has the model loaded anew.
        serve.env("OLLAMA_CONTEXT_LENGTH", "512").env("OLLAMA_NUM_PARALLEL", "1");
        let child = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
        Self { child, url: format!("http://{address}"), _home: home }
    }

    fn server(&self, api: Api) -> Server {
        // One thread: several wait for each other by spinning, which takes minutes on a machine that others use.
        let options = [("num_ctx", 512), ("num_thread", 1), ("temperature", 0), ("seed", 1)];
        Server {
            ready: Nanoseconds(120_000_000_000),
            timeout: Nanoseconds(60_000_000_000),
            model: "smol".to_owned(),
            prompt: "Once upon a time, in a small village by the sea, there lived".to_owned(),
            max_tokens: 12,
            options: options.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect(),
            ..support::server(api, &self.url)
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the child is waited for here")]
    fn signal_group(&self, signal: &str) {
        let group = format!("-{}", self.child.id());
        let sent = std::process::Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status();
        drop(sent);
    }
}

impl Drop for Ollama {
    /// The server is asked first, since it stops its runners; what is left of the group is killed.
    fn drop(&mut self) {
        self.signal_group("-TERM");
        drop(self.child.wait());
        self.signal_group("-KILL");
    }
}

#[test]
fn a_real_ollama_is_understood_over_every_api() {
    let Some((program, models)) = installed() else {
        // Past the test's capture, which hides what a test that passes prints.
        let words = "SKIPPED: no real Ollama here, nothing is proved; `cargo xtask ollama` builds one";
        return writeln!(std::io::stderr(), "{words}").expect("written");
    };
    let ollama = Ollama::start(&program, &models);
    for api in APIS {
        let server = ollama.server(api);
        let facts = block_on(async { client(&server).ready().await }).expect("ready");
        assert_eq!(facts.version.as_deref(), Some("0.17.4"), "{api:?}");
        let residency = facts.residency.expect("loaded");
        assert!(residency.size.0 > 50_000_000 && residency.is_partly_on_cpu(), "{api:?}: {residency:?}");
        generates(&server);
        lacks_another_model(server);
    }
}

fn generates(server: &Server) {
    let Outcome { result, pieces } = ask(server);
    let answer = result.expect("a good answer");
    assert!(matches!(answer.tokens, TokenCount::Server(1..=12)), "{answer:?}");
    assert!(answer.pieces > 0 && answer.pieces as usize == pieces.len(), "{answer:?}");
    assert!(pieces.is_sorted_by_key(|piece| piece.at));
    assert!(answer.ttft() <= answer.e2e() && answer.last <= Some(answer.end), "{answer:?}");
    assert!(answer.figures.prompt_tokens > Some(5), "{answer:?}");
    if server.api != Api::OpenaiChat {
        assert!(answer.figures.generation > Some(Nanoseconds(0)) && answer.figures.total > Some(Nanoseconds(0)));
    }
}

fn lacks_another_model(mut server: Server) {
    server.model = "absent".to_owned();
    let error = ask(&server).result.expect_err("no such model");
    assert!(matches!(error.fault, Fault::ModelMissing { .. }), "{error}");
    assert!(error.hint.is_some());
}
