//! Workload files as users write them: the good ones parse, the bad ones are explained.
#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};

use cotenant_model::kernel::{Decode, Kernel};
use cotenant_model::workload::{Api, Class, Engine, Limit, Load, Workload};
use cotenant_model::{Bytes, Nanoseconds};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(name)).expect(name);
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect(name).path()).collect();
    files.sort();
    files
}

fn read(path: &Path) -> (String, String) {
    let name = path.file_name().expect("name").to_string_lossy().into_owned();
    (name, fs::read_to_string(path).expect("text"))
}

fn everything() -> Workload {
    let (name, text) = read(&folder("tests/workloads/valid/everything.yaml"));
    Workload::parse(&name, &text).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn every_example_parses_and_opens_with_what_it_shows() {
    let files = files("../../examples/workloads");
    assert!(files.len() >= 7, "the standard suite has seven workloads, found {files:?}");
    for path in files {
        let (name, text) = read(&path);
        let workload = Workload::parse(&name, &text).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(text.starts_with("# "), "{name} does not say what it shows");
        assert_eq!(format!("{}.yaml", workload.name), name);
        assert!(workload.tenants.len() >= 2, "{name}");
    }
}

#[test]
fn every_problem_of_an_invalid_file_is_explained() {
    for path in files("tests/workloads/invalid") {
        let (name, text) = read(&path);
        let problems = Workload::parse(&name, &text).expect_err(&name);
        assert!(problems.iter().count() > 0, "{name}");
        let lines = text.lines().count().max(1) as u64 + 1;
        assert!(problems.iter().all(|problem| (1..=lines).contains(&problem.position.line)), "{problems}");
        insta::assert_snapshot!(name.trim_end_matches(".yaml"), problems);
    }
}

#[test]
fn count_makes_numbered_tenants_that_do_the_same_work() {
    let workload = everything();
    let names: Vec<&str> = workload.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
    assert_eq!(names, ["decoder-1", "decoder-2", "prefill", "embed", "tiny", "copy", "hold", "ollama", "vllm"]);
    let [first, second, third, ..] = workload.tenants.as_slice() else { panic!("tenants") };
    assert!(first.same_work(second));
    assert!(!first.same_work(third));
}

#[test]
fn a_size_of_weights_settles_the_hidden_width() {
    let workload = everything();
    let Some(Engine::Kernel(Kernel::Decode(decode))) = workload.tenants.first().map(|tenant| &tenant.engine) else {
        panic!("decoder");
    };
    assert!(decode.weight_bytes() >= Bytes(1 << 30));
    assert!(Decode { hidden: decode.hidden - 128, ..decode.clone() }.weight_bytes() < Bytes(1 << 30));
    assert_eq!((decode.layers, decode.width, decode.batch, decode.tokens), (12, 1024, 4, 32));
}

#[test]
fn what_is_left_out_gets_the_documented_default() {
    let text = "apiVersion: cotenant.dev/v1alpha1\nkind: Workload\nmetadata: {name: small}\ntenants:\n\
                - {name: a, kernel: {kind: decode}, slo: [{metric: e2e, slowdownAtMost: 2}]}\n\
                - {name: b, server: {engine: ollama, endpoint: 'http://127.0.0.1:11434', model: m}}\n\
                - {name: c, kernel: {kind: fault}}\n";
    let workload = Workload::parse("small.yaml", text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((workload.arms, workload.repeats, workload.duration, workload.warmup), (None, None, None, None));
    let [decoder, server, fault] = workload.tenants.as_slice() else { panic!("tenants") };
    let decode = Decode { layers: 24, width: 2048, hidden: 5632, batch: 1, tokens: 128 };
    assert_eq!(decoder.engine, Engine::Kernel(Kernel::Decode(decode)));
    assert_eq!(
        (decoder.class, &decoder.load),
        (Class::Standard, &Some(Load::Closed { streams: 1, think: Nanoseconds(0) }))
    );
    assert!(
        matches!(decoder.slo.as_slice(), [slo] if slo.percentile.to_string() == "99" && slo.limit == Limit::Slowdown(2.0))
    );
    let Engine::Server(server) = &server.engine else { panic!("server") };
    assert_eq!((server.api, server.max_tokens), (Api::OllamaChat, 128));
    assert_eq!((server.ready.seconds(), server.timeout.seconds()), (120.0, 30.0));
    assert!(fault.load.is_none());
}

#[test]
fn every_workload_in_the_documents_parses() {
    let mut parsed = 0;
    for document in ["../../README.md", "../../docs/workload-file.md"] {
        let (name, text) = read(&folder(document));
        let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        for block in blocks.filter(|block| block.starts_with("apiVersion:")) {
            Workload::parse(&name, block).unwrap_or_else(|problems| panic!("{problems}"));
            parsed += 1;
        }
    }
    assert_eq!(parsed, 2);
}
