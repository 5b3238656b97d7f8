//! Configuration files of a node as users write them: the good ones parse and say what they ignore, the bad ones are
//! explained.
#![cfg(test)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use cotenant_model::document::{Problem, Problems};
use cotenant_model::sharing::config::{
    AllocationPolicy, DeviceReference, Drain, GpuSharing, MigStrategy, MpsProtocol, Selector,
};
use cotenant_model::sharing::layout::Configs;
use cotenant_model::sharing::{ResourceName, Sharing};
use cotenant_model::{Bytes, GpuUuid};

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

#[test]
fn what_is_written_is_what_is_meant() {
    let (_, text) = read(&files("valid").into_iter().find(|path| path.ends_with("cotenant.yaml")).expect("file"));
    let sharing = parsed(&text);
    assert_eq!(sharing.flags.allocation, AllocationPolicy::FreeMemory);
    let [exclusive, classes, solo, mig, turns] = sharing.rules.as_slice() else { panic!("rules") };
    let uuid = GpuUuid("GPU-8dcd427f-483b-4b48-8b1e-5a5e2e9e4b8e".to_owned());
    assert_eq!(exclusive.devices, Selector::List(vec![DeviceReference::Index(0), DeviceReference::Uuid(uuid)]));
    assert_eq!(exclusive.sharing, GpuSharing::Exclusive { resource: ResourceName("nvidia.com/gpu".to_owned()) });
    let counts = BTreeMap::from([("small".to_owned(), 4), ("large".to_owned(), 1)]);
    assert_eq!(classes.sharing, GpuSharing::MpsClasses { counts });
    assert_eq!(solo.devices, Selector::List(vec![DeviceReference::Product("A100-SXM4".to_owned())]));
    let resource = ResourceName("nvidia.com/gpu.solo".to_owned());
    assert_eq!(solo.sharing, GpuSharing::Mps { resource, replicas: 1, one_per_container: false });
    let layout = Some(BTreeMap::from([("1g.18gb".to_owned(), 3), ("2g.35gb".to_owned(), 2)]));
    assert_eq!(mig.sharing, GpuSharing::Mig { layout, replicas: 2 });
    let resource = ResourceName("nvidia.com/gpu.shared".to_owned());
    assert_eq!(turns.devices, Selector::All);
    assert_eq!(turns.sharing, GpuSharing::TimeSlicing { resource, replicas: 16, one_per_container: false });
    let large = sharing.classes.get("large").expect("class");
    assert_eq!(
        (large.resource.0.as_str(), large.memory, large.percent.get()),
        ("nvidia.com/gpu.big", Bytes(60 << 30), 90)
    );
    assert_eq!(sharing.classes.get("small").expect("class").resource.0, "nvidia.com/gpu.small");
    let balanced = sharing.mig_configs.get("all-balanced").expect("layout");
    assert_eq!(balanced.first().map(|entry| entry.layout.len()), Some(3), "profiles without a device are left out");
    assert_eq!((sharing.drain, sharing.mps.protocol), (Drain::Allow, MpsProtocol::Two));
    assert_eq!(sharing.faults.quarantine.map(|quarantine| quarantine.lasts.seconds()), Some(5400.0));
}

#[test]
fn nvidias_defaults_hold_where_the_file_says_nothing() {
    let entry = "{resources: [{name: gpu, replicas: 4}]}";
    for (text, one_per_container) in [
        (format!("sharing: {{timeSlicing: {entry}}}"), false),
        (format!("sharing: {{mps: {entry}}}"), true),
        (
            "sharing: {mps: {failRequestsGreaterThanOne: false, resources: [{name: gpu, replicas: 4}]}}".to_owned(),
            false,
        ),
    ] {
        let sharing = parsed(&text);
        let [one] = sharing.replicated.as_slice() else { panic!("{text}") };
        assert_eq!((one.one_per_container, one.offered.0.as_str()), (one_per_container, "nvidia.com/gpu"), "{text}");
    }
    let moved = parsed("flags: {nvidiaDriverRoot: /run/nvidia/driver, nvidiaDevRoot: ''}");
    assert_eq!(moved.flags.dev_root, "/run/nvidia/driver", "NVIDIA's plugin takes the driver's root");
    let renamed = parsed("sharing: {timeSlicing: {renameByDefault: true, resources: [{name: gpu, replicas: 4}]}}");
    assert_eq!(renamed.replicated.first().map(|one| one.offered.0.as_str()), Some("nvidia.com/gpu.shared"));
}

#[test]
fn aliases_cannot_blow_a_file_up() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(text, "a{level}: &a{level} [{list}]").expect("text");
    }
    let problems = Sharing::parse("file.yaml", &text).expect_err("a billion values").to_string();
    assert!(problems.contains("aliases make the file too large"), "{problems}");
}

#[test]
fn every_configuration_in_the_documents_parses_without_a_note() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/node-config.md");
    let (name, text) = read(&path);
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut parsed = 0;
    for block in blocks {
        let sharing = Sharing::parse(&name, block).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(notes(&name, &sharing.notes), "");
        parsed += 1;
    }
    assert_eq!(parsed, 1);
}
