//! Configuration files of a node as users write them: the good ones parse and say what they ignore, the bad ones are
//! explained.
#![cfg(test)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use cotenant_model::document::{Problem, Problems};
use cotenant_model::sharing::Sharing;
use cotenant_model::sharing::config::MigStrategy;
use cotenant_model::sharing::layout::Configs;

fn files(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sharing").join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).expect(name).map(|entry| entry.expect(name).path()).collect();
    files.sort();
    files
}

fn read(path: &Path) -> (String, String) {
    let name = path.file_name().expect("name").to_string_lossy().into_owned();
    (name, fs::read_to_string(path).expect("text"))
}

fn notes(file: &str, notes: &[Problem]) -> String {
    notes.iter().fold(String::new(), |mut text, note| {
        writeln!(text, "{file}:{note}").expect("text");
        text
    })
}

fn parsed(text: &str) -> Sharing {
    Sharing::parse("file.yaml", text).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn every_valid_file_parses_and_says_what_it_ignores() {
    for path in files("valid") {
        let (name, text) = read(&path);
        let sharing = Sharing::parse(&name, &text).unwrap_or_else(|problems| panic!("{problems}"));
        insta::assert_snapshot!(format!("valid-{}", name.trim_end_matches(".yaml")), notes(&name, &sharing.notes));
    }
}

#[test]
fn every_problem_of_an_invalid_file_is_explained() {
    for path in files("invalid") {
        let (name, text) = read(&path);
        let problems: Problems = Sharing::parse(&name, &text).expect_err(&name);
        assert!(problems.iter().count() > 0, "{name}");
        let lines = text.lines().count().max(1) as u64 + 1;
        assert!(problems.iter().all(|problem| (1..=lines).contains(&problem.position.line)), "{problems}");
        let noted = notes(&name, problems.notes());
        let noted = if noted.is_empty() { noted } else { format!("\n-- notes\n{noted}") };
        insta::assert_snapshot!(format!("invalid-{}", name.trim_end_matches(".yaml")), format!("{problems}{noted}"));
    }
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parsed(""), Sharing::default());
    assert_eq!(parsed("---\n# nothing\n"), Sharing::default());
    assert_eq!(parsed("version: v1\n"), Sharing::default());
}

/// What a file holds and what a node gets of it, in words.
fn described(name: &str, text: &str) -> String {
    let configs = match Configs::read(name, text) {
        Ok(configs) => configs,
        Err(problems) => return problems.to_string(),
    };
    let mut described =
        format!("{}, default {:?}, then {:?}\n", configs.layout.words(), configs.default, configs.fallbacks);
    described += &notes(name, &configs.notes);
    for label in [None, Some("default"), Some("mps-4"), Some("tesla_t4")] {
        let selected = match configs.select(label) {
            Ok(Some(named)) => format!("`{}`", named.name),
            Ok(None) => "the empty one".to_owned(),
            Err(error) => error.to_string(),
        };
        writeln!(described, "label {label:?}: {selected}").expect("text");
    }
    for named in &configs.named {
        writeln!(described, "-- `{}`", named.name).expect("text");
        if named.is_mig_parted() {
            writeln!(described, "{:?}", named.mig_configs().map(|configs| configs.len())).expect("text");
            continue;
        }
        match named.sharing() {
            Ok(sharing) => described += &notes(name, &sharing.notes),
            Err(problems) => writeln!(described, "{problems}").expect("text"),
        }
    }
    described
}

#[test]
fn configurations_are_found_where_charts_and_manifests_have_them() {
    for path in files("layout") {
        let (name, text) = read(&path);
        insta::assert_snapshot!(format!("layout-{}", name.trim_end_matches(".yaml")), described(&name, &text));
    }
}

#[test]
fn a_mounted_folder_holds_its_configurations_as_files() {
    let files = [("..data", "nonsense: ["), ("mixed", "flags: {migStrategy: mixed}"), ("whole", "")];
    let configs = Configs::of_files(files, None);
    assert_eq!(configs.select(None).expect("empty").map(|named| named.name.as_str()), None);
    let named = configs.select(Some("mixed")).expect("known").expect("named");
    assert_eq!(named.sharing().expect("parsed").flags.mig_strategy, MigStrategy::Mixed);
    assert!(configs.select(Some("..data")).is_err());
    let configs = Configs::of_files(files, Some("whole".to_owned()));
    assert_eq!(configs.select(Some("")).expect("default").map(|named| named.name.as_str()), Some("whole"));
}
