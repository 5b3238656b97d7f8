//! The client against the fake model server, over real sockets.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use cotenant_llm::{Error, Fault, Finish, Piece, TokenCount};
use cotenant_model::Nanoseconds;
use cotenant_model::workload::{Api, Server};
use cotenant_testkit::model_server::{Behaviour, Fault as Scripted, ModelServer, Script};
use support::{APIS, Outcome, ask, block_on, client, server};

fn start(behaviour: impl Into<Behaviour>) -> ModelServer {
    ModelServer::start(Script::always(behaviour.into())).expect("a free port")
}

/// Asks a server that behaves so, over each API; gives back each fault with the pieces that came before it.
fn faults(behaviour: impl Into<Behaviour>) -> Vec<(Api, Error, Vec<Piece>)> {
    let fake = start(behaviour);
    let outcome = |api| match ask(&server(api, &fake.url())) {
        Outcome { result: Err(error), pieces } => (api, error, pieces),
        Outcome { result: Ok(answer), .. } => panic!("{api:?} gave {answer:?}"),
    };
    APIS.into_iter().map(outcome).collect()
}

#[test]
fn a_whole_answer_has_its_pieces_in_order_and_the_servers_count() {
    let fake = start(Behaviour { first_micros: 5_000, gap_micros: 1_000, ..Behaviour::default() });
    for api in APIS {
        let Outcome { result, pieces } = ask(&server(api, &fake.url()));
        let answer = result.expect("a good answer");
        let texts: Vec<String> = pieces.iter().map(|piece| piece.text.clone()).collect();
        assert_eq!(texts, (0..16).map(ModelServer::text_of).collect::<Vec<_>>(), "{api:?}");
        assert_eq!((answer.tokens, answer.pieces), (TokenCount::Server(16), 16), "{api:?}");
        assert_eq!(answer.finish, Finish::Length, "{api:?}");
        assert_eq!(answer.figures.prompt_tokens, Some(7), "{api:?}");
        assert!(pieces.is_sorted_by_key(|piece| piece.at));
        assert_eq!((answer.first, answer.last), (Some(pieces[0].at), Some(pieces[15].at)));
        assert!(answer.ttft() >= Some(Nanoseconds(5_000_000)), "{api:?}: {answer:?}");
        assert!(
            answer.e2e() >= Some(Nanoseconds(20_000_000)) && answer.last <= Some(answer.end),
            "{api:?}: {answer:?}"
        );
    }
}

#[test]
fn pieces_of_several_tokens_are_counted_apart_from_tokens() {
    let fake = start(Behaviour { tokens_per_piece: 3, ..Behaviour::default() });
    for api in APIS {
        let answer = ask(&server(api, &fake.url())).result.expect("a good answer");
        assert_eq!((answer.pieces, answer.tokens), (6, TokenCount::Server(16)), "{api:?}");
    }
    let fake = start(Behaviour { tokens_per_piece: 3, counts_tokens: false, ..Behaviour::default() });
    for api in APIS {
        let answer = ask(&server(api, &fake.url())).result.expect("a good answer");
        assert_eq!(answer.tokens, TokenCount::Pieces(6), "{api:?}");
    }
}

#[test]
fn empty_pieces_are_not_the_first_token_and_thinking_is() {
    let fake = start(Behaviour { empty_pieces: 3, thinking_pieces: 2, first_micros: 30_000, ..Behaviour::default() });
    for api in APIS {
        let Outcome { result, pieces } = ask(&server(api, &fake.url()));
        let answer = result.expect("a good answer");
        assert!(answer.ttft() >= Some(Nanoseconds(30_000_000)), "{api:?}: {answer:?}");
        let thinking: Vec<bool> = pieces.iter().map(|piece| piece.thinking).take(3).collect();
        assert_eq!(thinking, [true, true, false], "{api:?}");
        assert_eq!(answer.first, Some(pieces[0].at));
    }
}

#[test]
fn an_answer_without_tokens_is_an_answer() {
    let fake = start(Behaviour { stops_at: Some(0), ..Behaviour::default() });
    for api in APIS {
        let answer = ask(&server(api, &fake.url())).result.expect("a good answer");
        assert_eq!((answer.ttft(), answer.tpot(), answer.tokens), (None, None, TokenCount::Server(0)), "{api:?}");
        assert_eq!(answer.finish, Finish::Stop, "{api:?}");
    }
}

#[test]
fn streams_are_read_however_the_socket_cuts_them() {
    for (write_bytes, awkward_events) in [(1, true), (7, true), (1, false), (4096, true)] {
        let fake = start(Behaviour {
            write_bytes: Some(write_bytes),
            awkward_events,
            stops_at: Some(4),
            ..Behaviour::default()
        });
        for api in APIS {
            let Outcome { result, pieces } =
                ask(&Server { timeout: Nanoseconds(10_000_000_000), ..server(api, &fake.url()) });
            let text: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
            assert_eq!(text, "é0 é1 é2 é3 ", "{api:?}, {write_bytes} bytes at a time");
            assert_eq!(result.expect("a good answer").tokens, TokenCount::Server(4));
        }
    }
}

#[test]
fn a_web_page_is_quoted_and_told_from_an_answer() {
    for (_, error, _) in faults(Scripted::Html) {
        assert!(
            matches!(&error.fault, Fault::Html { status: 200, words } if words.contains("Welcome to nginx!")),
            "{error}"
        );
        assert!(error.hint.is_some());
        assert!(!error.to_string().contains('\n'));
    }
    for (_, error, _) in faults(Scripted::BadGateway) {
        assert!(matches!(error.fault, Fault::Html { status: 502, .. }), "{error}");
    }
}

#[test]
fn silence_is_bounded_before_the_first_byte_and_between_pieces() {
    for (_, error, _) in faults(Scripted::HangsBeforeHeaders) {
        assert!(matches!(error.fault, Fault::NoAnswer { .. }), "{error}");
    }
    for (_, error, pieces) in faults(Scripted::HangsAfter(3)) {
        assert!(matches!(error.fault, Fault::Silence { pieces: 3, .. }), "{error}");
        assert_eq!(pieces.len(), 3);
    }
}

#[test]
fn a_stream_longer_than_the_timeout_is_no_silence() {
    let fake = start(Behaviour { gap_micros: 60_000, stops_at: Some(8), ..Behaviour::default() });
    for api in APIS {
        let answer = ask(&server(api, &fake.url())).result.expect("each gap is shorter than the time-out");
        assert!(answer.e2e() > Some(server(api, "").timeout), "{answer:?}");
    }
}

#[test]
fn a_stream_that_ends_early_is_no_answer() {
    for (_, error, pieces) in faults(Scripted::DropsAfter(2)) {
        assert!(matches!(error.fault, Fault::Dropped { pieces: 2, source: Some(_) }), "{error}");
        assert_eq!(pieces.len(), 2);
    }
    for (_, error, _) in faults(Scripted::EndsAfter(2)) {
        assert!(matches!(error.fault, Fault::Dropped { pieces: 2, source: None }), "{error}");
    }
}

#[test]
fn errors_with_a_good_status_are_errors() {
    for (_, error, _) in faults(Scripted::ErrorAfter(2)) {
        assert!(
            matches!(&error.fault, Fault::Reported { message, pieces: 2 } if message == "CUDA error: out of memory"),
            "{error}"
        );
    }
    for (_, error, _) in faults(Scripted::ErrorInsteadOfStream) {
        assert!(matches!(&error.fault, Fault::Reported { pieces: 0, .. }), "{error}");
    }
}

#[test]
fn refusals_are_told_apart() {
    for (_, error, _) in faults(Scripted::Busy) {
        assert!(matches!(error.fault, Fault::Busy { status: 503, .. }), "{error}");
    }
    for (_, error, _) in faults(Scripted::Internal) {
        assert!(matches!(error.fault, Fault::Status { status: 500, .. }), "{error}");
    }
    for (_, error, _) in faults(Scripted::NoSuchPath) {
        assert!(matches!(error.fault, Fault::WrongApi { .. }), "{error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("engine")));
    }
    for (_, error, _) in faults(Scripted::Redirect) {
        assert!(
            matches!(&error.fault, Fault::Redirect { status: 307, location } if location == "/elsewhere"),
            "{error}"
        );
    }
}

#[test]
fn a_missing_model_comes_with_a_hint() {
    let fake = start(Behaviour::default());
    for api in APIS {
        let mut server = server(api, &fake.url());
        server.model = "absent".to_owned();
        let error = ask(&server).result.expect_err("no such model");
        assert!(matches!(&error.fault, Fault::ModelMissing { model, .. } if model == "absent"), "{error}");
        let word = if api == Api::OpenaiChat { "/v1/models" } else { "ollama pull absent" };
        assert!(error.hint.is_some_and(|hint| hint.contains(word)));
        let error = block_on(async { client(&server).ready().await }).expect_err("waiting brings no model");
        assert!(matches!(error.fault, Fault::ModelMissing { .. }), "{error}");
    }
}

#[test]
fn garbage_is_quoted_without_control_characters() {
    for (_, error, pieces) in faults(Scripted::GarbageAfter(1)) {
        assert!(matches!(error.fault, Fault::Garbage { pieces: 1, .. }), "{error}");
        assert_eq!(pieces.len(), 1);
        assert!(!error.one_line().chars().any(char::is_control), "{:?}", error.one_line());
    }
}

#[test]
fn answers_that_never_end_are_cut() {
    for (_, error, _) in faults(Scripted::EndlessLine) {
        assert!(matches!(error.fault, Fault::EndlessLine { .. }), "{error}");
    }
    for (_, error, pieces) in faults(Scripted::NeverStops) {
        assert!(matches!(error.fault, Fault::TooLong { allowed: 16, .. }), "{error}");
        assert!(pieces.len() < 200, "{}", pieces.len());
    }
}

#[test]
fn an_ollama_client_at_an_event_stream_is_told_the_engine() {
    let (url, served) = canned("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 4\r\n\r\n: x\n");
    let error = ask(&server(Api::OllamaChat, &url)).result.expect_err("events are no lines");
    served.join().expect("served");
    assert!(matches!(error.fault, Fault::WrongApi { asked: Api::OllamaChat, .. }), "{error}");
    assert!(error.hint.is_some_and(|hint| hint.contains("engine: openai")));
}

#[test]
fn connections_that_fail_are_told_apart() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let error = ask(&server(Api::OllamaChat, &format!("http://{free}"))).result.expect_err("nothing listens");
    assert!(matches!(error.fault, Fault::Refused), "{error:?}");
    let error = ask(&server(Api::OllamaChat, "http://no-such-host.invalid")).result.expect_err("no such host");
    assert!(matches!(error.fault, Fault::Unresolved(_) | Fault::NoAnswer { .. }), "{error:?}");
    let (url, served) = canned("");
    let error = ask(&server(Api::OpenaiChat, &url)).result.expect_err("closed without a word");
    served.join().expect("served");
    assert!(matches!(error.fault, Fault::Exchange(_)), "{error:?}");
    for endpoint in ["ftp://x", "not an address", "http://"] {
        let error = ask(&server(Api::OllamaChat, endpoint)).result.expect_err("no address");
        assert!(matches!(error.fault, Fault::Address { .. }), "{error:?}");
    }
}

#[test]
fn readiness_waits_for_the_model_and_tells_where_it_lies() {
    let script = Script { load_micros: 300_000, size_vram: 1 << 29, ..Script::default() };
    for api in APIS {
        let fake = ModelServer::start(script.clone()).expect("a free port");
        let facts = block_on(async { client(&server(api, &fake.url())).ready().await }).expect("ready after a while");
        assert_eq!(facts.version.as_deref(), Some("0.0.0-fake"), "{api:?}");
        let residency = facts.residency.expect("the fake speaks both APIs");
        assert!(residency.is_partly_on_cpu() && residency.context == Some(2048), "{residency:?}");
        assert!(ask(&server(api, &fake.url())).result.is_ok());
    }
}

#[test]
fn readiness_ends_at_its_deadline_with_the_last_reason() {
    let fake = ModelServer::start(Script { load_micros: 60_000_000, ..Script::default() }).expect("a free port");
    for api in APIS {
        let mut server = server(api, &fake.url());
        server.ready = Nanoseconds(400_000_000);
        let error = block_on(async { client(&server).ready().await }).expect_err("still loading");
        assert!(
            matches!(&error.fault, Fault::NotReady { last, .. } if matches!(**last, Fault::Busy { .. })),
            "{error}"
        );
        assert!(error.one_line().contains("Loading model"), "{}", error.one_line());
    }
}

#[test]
fn every_ollama_request_keeps_the_model_and_carries_its_options() {
    let fake = start(Behaviour::default());
    for api in [Api::OllamaChat, Api::OllamaGenerate] {
        let mut server = server(api, &fake.url());
        server.options.insert("num_ctx".to_owned(), 512.into());
        block_on(async { client(&server).ready().await }).expect("ready");
        assert!(ask(&server).result.is_ok());
    }
    assert_eq!(fake.bodies().len(), 4);
    for body in fake.bodies() {
        assert_eq!((&body["keep_alive"], &body["options"]["num_ctx"]), (&(-1).into(), &512.into()), "{body}");
    }
    assert_eq!(fake.requests(), 2, "loading asks for no tokens");
}

#[test]
fn a_dropped_request_leaves_the_client_usable() {
    let fake = start(Behaviour { gap_micros: 20_000, ..Behaviour::default() });
    let server = server(Api::OllamaChat, &fake.url());
    block_on(async {
        let client = client(&server);
        let cut = tokio::time::timeout(Duration::from_millis(70), client.generate("x", |_piece| ())).await;
        assert!(cut.is_err());
        client.generate("x", |_piece| ()).await.expect("a good answer after a dropped one");
    });
}

#[test]
fn loopback_traffic_passes_no_proxy() {
    if std::env::var_os("COTENANT_TEST_INSIDE").is_some() {
        let fake = start(Behaviour::default());
        ask(&server(Api::OllamaChat, &fake.url())).result.expect("asked without the proxy");
        return;
    }
    again("loopback_traffic_passes_no_proxy", &[("http_proxy", "http://127.0.0.1:1"), ("no_proxy", "")]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the child is reaped here")]
fn a_server_process_that_dies_drops_its_stream_and_then_refuses() {
    let program = cotenant_testkit::program("fake-model-server").expect("built");
    let mut child = std::process::Command::new(program)
        .args(["127.0.0.1:0", r#"{"diesAfter": 1}"#])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut url = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut url).expect("its address");
    let server = server(Api::OllamaChat, url.trim_end());
    assert!(ask(&server).result.is_ok());
    let error = ask(&server).result.expect_err("it dies");
    assert!(matches!(error.fault, Fault::Exchange(_)), "{error:?}");
    let output = child.wait_with_output().expect("reaped");
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("CUDA error"));
    assert!(matches!(ask(&server).result.expect_err("it is gone").fault, Fault::Refused));
}

/// A server that reads one request and answers with these bytes.
fn canned(answer: &'static str) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).expect("a request") > 0);
        stream.write_all(answer.as_bytes()).expect("written");
    });
    (url, thread)
}

/// Runs one of these tests again in a process whose environment holds `variables`.
#[expect(clippy::disallowed_methods, reason = "the child is waited for here")]
fn again(test: &str, variables: &[(&str, &str)]) {
    let program = std::env::current_exe().expect("this program");
    let mut child = std::process::Command::new(program);
    child.args(["--exact", test]).envs(variables.iter().copied()).env("COTENANT_TEST_INSIDE", "1");
    let output = child.output().expect("the test again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
