//! What the fuzzer found worth keeping (`fuzz/corpus/node_config`) is read as soundly as ever.
#![cfg(test)]

#[path = "oracle/node_config.rs"]
mod oracle;

use std::fs;
use std::path::Path;

use cotenant_model::sharing::Sharing;

const CORPUS: &str = "../../fuzz/corpus/node_config";

fn texts(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(folder).expect("folder");
    files
        .map(|file| String::from_utf8_lossy(&fs::read(file.expect("file").path()).expect("bytes")).into_owned())
        .collect()
}

#[test]
fn the_corpus_is_answered_as_it_was() {
    let corpus = texts(CORPUS);
    assert!(corpus.len() > 100, "{} files", corpus.len());
    corpus.iter().for_each(|text| oracle::read(text));
}

#[test]
fn the_published_schema_accepts_what_the_program_accepts() {
    let schema = jsonschema::validator_for(&Sharing::schema()).expect("schema");
    let mut accepted = 0;
    for text in texts(CORPUS).into_iter().chain(texts("tests/sharing/valid")) {
        // Keys that stand twice and several documents are no matter of the schema.
        let Ok(plain) = serde_saphyr::from_str::<serde_json::Value>(&text) else { continue };
        if plain.is_object() && Sharing::parse("f", &text).is_ok() {
            let problems: Vec<String> = schema.iter_errors(&plain).map(|error| error.to_string()).collect();
            assert!(problems.is_empty(), "{problems:?} in\n{text}");
            accepted += 1;
        }
    }
    assert!(accepted > 10, "{accepted} accepted");
}
