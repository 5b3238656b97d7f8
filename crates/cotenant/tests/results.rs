//! The page of results says what the records say.

#![expect(clippy::disallowed_methods, reason = "tests start the program and wait for it")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The records of the repository, in the order in which a shell lists them.
fn records(root: &Path) -> Vec<PathBuf> {
    let folders = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let runs = folders(&root.join("results")).into_iter().flat_map(|gpu| folders(&gpu));
    let records = runs.map(|run| run.join("run.json")).filter(|record| record.exists());
    let mut records: Vec<PathBuf> =
        records.filter_map(|record| Some(record.strip_prefix(root).ok()?.to_owned())).collect();
    records.sort();
    records
}

#[test]
fn the_page_of_results_is_what_its_command_makes_of_the_records() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cotenant"));
    command.current_dir(&root).arg("results").args(records(&root)).args(["--notes", "results/notes.md"]);
    let ended = command.output().expect("started");
    assert!(ended.status.success(), "{ended:?}");
    let page = std::fs::read_to_string(root.join("docs/results.md")).expect("docs/results.md");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), page, "run the command in the page's second line");
}
