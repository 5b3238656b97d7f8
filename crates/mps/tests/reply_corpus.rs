//! What the fuzzer found worth keeping (`fuzz/corpus/mps_reply`) is read as soundly as ever.
#![cfg(test)]

#[path = "oracle/mps_reply.rs"]
mod oracle;

use std::fs;
use std::path::Path;

#[test]
fn the_corpus_is_answered_as_it_was() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/mps_reply");
    let files: Vec<_> = fs::read_dir(folder).expect("corpus").map(|file| file.expect("file").path()).collect();
    assert!(files.len() > 100, "{} files", files.len());
    for file in files {
        oracle::read(&fs::read(file).expect("bytes"));
    }
}
