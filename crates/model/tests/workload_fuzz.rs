//! Whatever a workload file holds, reading it ends in a workload or in problems with places, never in a panic.
#![cfg(test)]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use cotenant_model::workload::Workload;
use proptest::prelude::*;

static VALID: LazyLock<Vec<String>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.join("tests/workloads/valid"), root.join("../../examples/workloads")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("folder"));
    files.map(|file| fs::read_to_string(file.expect("file").path()).expect("text")).collect()
});

static SCHEMA: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::validator_for(&Workload::schema()).expect("schema"));

/// Reads `text` and holds the answer to what every answer owes.
fn read(text: &str) -> Result<(), TestCaseError> {
    match Workload::parse("any.yaml", text) {
        Ok(workload) => {
            prop_assert!(!workload.tenants.is_empty());
            let plain = serde_saphyr::from_str::<serde_json::Value>(text);
            prop_assert!(
                plain.is_ok_and(|plain| SCHEMA.is_valid(&plain)),
                "accepted what the published schema refuses"
            );
        }
        Err(problems) => {
            let lines = text.split('\n').count() as u64 + 1;
            prop_assert!(problems.iter().count() > 0);
            prop_assert!(problems.iter().all(|problem| (1..=lines).contains(&problem.position.line)), "{problems}");
            let shown = problems.to_string();
            prop_assert!(!shown.contains('\u{1b}'), "an escape code reached the terminal");
        }
    }
    Ok(())
}

/// One change to a text.
#[derive(Debug, Clone)]
enum Edit {
    Remove,
    Insert(String),
    CopyLine,
    RemoveLine,
}

fn edit() -> impl Strategy<Value = (prop::sample::Index, Edit)> {
    let piece = prop_oneof![
        "[ -~]{1,3}",
        "[:{}\\[\\],&*#|>!%@`\"'\\-?\n\t]{1,4}",
        Just("-1".to_owned()),
        Just(".inf".to_owned()),
        Just("18446744073709551616".to_owned()),
        Just("null".to_owned()),
        Just("${".to_owned()),
        Just("\u{1b}[2J".to_owned()),
    ];
    let change =
        prop_oneof![Just(Edit::Remove), piece.prop_map(Edit::Insert), Just(Edit::CopyLine), Just(Edit::RemoveLine)];
    (any::<prop::sample::Index>(), change)
}

fn apply(text: &str, at: usize, edit: &Edit) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let line_start = letters[..at].iter().rposition(|c| *c == '\n').map_or(0, |before| before + 1);
    let line_end = letters[at..].iter().position(|c| *c == '\n').map_or(letters.len(), |after| at + after + 1);
    match edit {
        Edit::Remove => {
            letters.remove(at);
        }
        Edit::Insert(piece) => drop(letters.splice(at..at, piece.chars())),
        Edit::CopyLine => {
            let line: Vec<char> = letters[line_start..line_end].to_vec();
            drop(letters.splice(line_start..line_start, line));
        }
        Edit::RemoveLine => drop(letters.drain(line_start..line_end)),
    }
    letters.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn any_yaml_like_text_is_answered(text in "[a-c0-9:{}\\[\\],&*#|>!%@\"' \n\t\\-?~]{0,200}") {
        read(&text)?;
    }

    #[test]
    fn any_change_of_a_valid_file_is_answered(
        file in any::<prop::sample::Index>(),
        edits in prop::collection::vec(edit(), 1..6),
    ) {
        let mut text = file.get(&VALID).clone();
        for (place, edit) in &edits {
            if !text.is_empty() {
                text = apply(&text, place.index(text.chars().count()), edit);
            }
        }
        read(&text)?;
    }
}
