//! The chart and the program install the same, for the defaults and for every values file in `charts/cotenant/ci`.
//!
//! Helm is taken from `COTENANT_HELM`, from the cache of the e2e tools (`e2e/tools/helm` pins it) or from the path.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says why it is skipped"
)]
#![expect(clippy::disallowed_methods, reason = "helm is waited for where it is started")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use cotenant_cluster::install::{Installation, Object, Release, Values, to_yaml};
use cotenant_testkit::api_server::ApiServer;
use serde_json::Value;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/cotenant");
const POLICY: &str = "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy";

/// Helm, if there is one.
fn helm() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    let built = cache.join("cotenant/e2e/helm-v3.19.5/helm");
    let named = std::env::var_os("COTENANT_HELM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|folder| folder.join("helm"));
    let found = named.into_iter().chain([built]).chain(installed).find(|helm| helm.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: no helm: the chart was not rendered (`go build` in e2e/tools/helm makes one)");
    }
    found
}

fn values_files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(CHART).join("ci")).expect("the folder of values files");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn installation(files: &[PathBuf]) -> Installation {
    let read = |file: &PathBuf| (file.display().to_string(), std::fs::read_to_string(file).expect("a values file"));
    let values = Values::new(&files.iter().map(read).collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{error}"));
    let release = Release { name: "gpus".to_owned(), namespace: "gpu".to_owned() };
    Installation::new(values, release).unwrap_or_else(|error| panic!("{error}"))
}

/// What helm prints, or its error.
fn render(helm: &Path, files: &[PathBuf], more: &[&str]) -> Result<String, String> {
    let mut command = Command::new(helm);
    command.args([
        "template",
        "gpus",
        CHART,
        "--namespace",
        "gpu",
        "--kube-version",
        "1.34.0",
        "--api-versions",
        POLICY,
    ]);
    command.args(more);
    for file in files {
        command.arg("-f").arg(file);
    }
    let output = command.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The documents of a YAML text, by kind and name; hooks aside.
fn documents(text: &str) -> BTreeMap<String, Value> {
    let documents = text.split("\n---\n").map(|part| part.trim_start_matches("---\n"));
    let parsed =
        documents.map(|part| serde_saphyr::from_str::<Value>(part).unwrap_or_else(|error| panic!("{error}\n{part}")));
    let objects = parsed.filter(|object| object.is_object());
    objects.filter(|object| object["metadata"]["annotations"]["helm.sh/hook"].is_null()).map(named).collect()
}

fn named(mut object: Value) -> (String, Value) {
    let name = format!(
        "{} {}",
        object["kind"].as_str().unwrap_or_default(),
        object["metadata"]["name"].as_str().unwrap_or_default()
    );
    if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
        // Who made it is the one difference that is meant.
        labels.retain(|label, _| label != "helm.sh/chart" && label != "app.kubernetes.io/managed-by");
    }
    (name, folded(object))
}

/// `>-` and a line that was typed whole differ in nothing but blanks.
fn folded(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains("request.userInfo") => {
            Value::String(text.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        Value::Array(items) => items.into_iter().map(folded).collect(),
        Value::Object(entries) => entries.into_iter().map(|(key, value)| (key, folded(value))).collect(),
        value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => value,
    }
}

fn ours(objects: &[Object]) -> BTreeMap<String, Value> {
    documents(&to_yaml(objects).expect("YAML"))
}

#[test]
fn the_chart_and_the_program_make_the_same_objects_of_the_same_values() {
    let Some(helm) = helm() else { return };
    let sets = [Vec::new()].into_iter().chain(values_files().into_iter().map(|file| vec![file]));
    for files in sets {
        let rendered = documents(&render(&helm, &files, &[]).unwrap_or_else(|error| panic!("{files:?}: {error}")));
        let made = ours(&installation(&files).objects());
        assert_eq!(rendered.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>(), "{files:?}");
        for (name, object) in &made {
            pretty_assert(&files, name, &rendered[name], object);
        }
    }
}

fn pretty_assert(files: &[PathBuf], name: &str, helms: &Value, ours: &Value) {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).expect("JSON");
    let (helms, ours) = (pretty(helms), pretty(ours));
    let differs = helms.lines().zip(ours.lines()).position(|(helms, ours)| helms != ours);
    assert!(helms == ours, "{files:?}: {name} differs at line {differs:?}\nhelm:\n{helms}\nprogram:\n{ours}");
}

#[test]
fn without_admission_policies_the_chart_makes_none() {
    let Some(helm) = helm() else { return };
    let mut command = Command::new(helm);
    command.args(["template", "gpus", CHART, "--namespace", "gpu", "--kube-version", "1.28.0"]);
    let output = command.args(["--set", "nodePolicy.enabled=false"]).output().expect("helm runs");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("ValidatingAdmissionPolicy"));
}

#[test]
fn contradictions_are_refused_by_both() {
    let helm = helm();
    let several = "{map: {a: 'version: v1', b: 'version: v1'}, fallbackStrategies: [named, single]}";
    for (values, told) in [
        ("namespace: gpu", "`namespace` is not a value"),
        ("namespaceOverride: default", "the namespace `default` is refused"),
        ("config: {name: a, map: {b: 'version: v1'}}", "exclude each other"),
        ("config: {map: {b: 'version: v1'}, default: c}", "`config.default` names `c`"),
        (&format!("config: {several}"), "several configurations"),
        ("config: {fallbackStrategies: [first]}", "`first` is none of named, single, empty"),
        ("config: {map: {b: 'version: v1'}}\ndevicePlugin: {config: {name: c}}", "both name configurations"),
    ] {
        let release = Release { name: "gpus".to_owned(), namespace: "gpu".to_owned() };
        let values_of = Values::new(&[("v.yaml".to_owned(), values.to_owned())]);
        let ours = values_of.and_then(|values| Installation::new(values, release)).expect_err(values).to_string();
        assert!(ours.contains(told), "{values}: {ours}");
        let Some(helm) = &helm else { continue };
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("v.yaml");
        std::fs::write(&file, values).expect("written");
        let helms = render(helm, &[file], &[]).expect_err(values);
        assert!(helms.contains(told), "{values}: {helms}");
    }
}

#[test]
fn values_of_the_wrong_type_are_all_named_at_once() {
    let text = "devicePlugin: yes please\nmetrics: {port: high}\ntolerations: {}\n";
    let error = Values::new(&[("v.yaml".to_owned(), text.to_owned())]).expect_err("wrong").to_string();
    for key in ["`devicePlugin`", "`metrics`"] {
        assert!(error.contains(key), "{error}");
    }
    let error = Values::new(&[("v.yaml".to_owned(), "a: [".to_owned())]).expect_err("no YAML").to_string();
    assert!(error.starts_with("cannot read the values file v.yaml: "), "{error}");
}

#[test]
fn keys_without_effect_are_named_by_the_notes_and_by_the_program() {
    let operators = Path::new(CHART).join("ci/gpu-operator-values.yaml");
    let read = |file: &Path| (file.display().to_string(), std::fs::read_to_string(file).expect("a values file"));
    for (name, told) in [
        ("gpu-operator-values.yaml", "driver: not known here"),
        ("gpu-operator-values.yaml", "devicePlugin.version: not known here"),
        (
            "nvidia-mps-values.yaml",
            "image: nvcr.io/nvidia/k8s-device-plugin is NVIDIA's image; localhost/cotenant:0.1.0 is used instead",
        ),
        ("nvidia-time-slicing-values.yaml", "gfd: the agent labels its node itself"),
        ("nvidia-cpu-manager-values.yaml", "mps.enableHostPID: the keeper always sees"),
    ] {
        let file = operators.with_file_name(name);
        let values = Values::new(&[read(&file)]).expect("values");
        assert!(values.ignored().iter().any(|line| line.starts_with(told)), "{name}: {:?}", values.ignored());
        let Some(helm) = helm() else { continue };
        let notes = notes(&helm, &file);
        for line in values.ignored() {
            assert!(notes.contains(line.as_str()), "{name}: `{line}` is not in\n{notes}");
        }
    }
    let none = Values::new(&[]).expect("the defaults");
    assert_eq!(none.ignored(), &[] as &[String]);
}

/// The notes after an installation. Helm prints them only with a cluster, so a copy of the chart makes an object of them.
fn notes(helm: &Path, file: &Path) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let copied = Command::new("cp").arg("-r").arg(CHART).arg(folder.path().join("chart")).status().expect("cp runs");
    assert!(copied.success());
    let templates = folder.path().join("chart/templates");
    let text = std::fs::read_to_string(templates.join("NOTES.txt")).expect("the notes");
    let define = format!("{{{{- define \"test.notes\" -}}}}{text}{{{{- end -}}}}");
    std::fs::write(templates.join("_notes.tpl"), define).expect("written");
    let object = "kind: Notes\ntext: {{ include \"test.notes\" . | toJson }}\n";
    std::fs::write(templates.join("notes.yaml"), object).expect("written");
    let mut command = Command::new(helm);
    command.args(["template", "gpus"]).arg(folder.path().join("chart")).arg("-f").arg(file);
    command.args(["--namespace", "gpu", "--kube-version", "1.34.0", "--show-only", "templates/notes.yaml"]);
    let output = command.output().expect("helm runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rendered = String::from_utf8_lossy(&output.stdout).into_owned();
    documents(&rendered).remove("Notes ").and_then(|notes| notes["text"].as_str().map(str::to_owned)).expect("notes")
}

#[test]
fn the_schema_knows_every_key_of_the_values_and_no_other() {
    let read = |name: &str| std::fs::read_to_string(Path::new(CHART).join(name)).expect("a file of the chart");
    let schema: Value = serde_json::from_str(&read("values.schema.json")).expect("JSON");
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).expect("YAML");
    let keys = |value: &Value| value.as_object().expect("a mapping").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&schema["properties"]), keys(&values));
    for section in ["config", "image", "cdi", "labels", "keeper", "metrics", "uninstall", "nodePolicy"] {
        assert_eq!(keys(&schema["properties"][section]["properties"]), keys(&values[section]), "{section}");
    }
}

#[test]
fn helm_refuses_values_of_the_wrong_type_as_the_program_does() {
    let Some(helm) = helm() else { return };
    for wrong in ["metrics.port=high", "migStrategy=some", "mps.root=relative", "devicePlugin=yes"] {
        let error = render(&helm, &[], &["--set", wrong]).expect_err(wrong);
        assert!(error.contains("values don't meet the specifications"), "{wrong}: {error}");
    }
}

#[test]
fn the_versions_of_chart_and_program_are_one() {
    let chart = std::fs::read_to_string(Path::new(CHART).join("Chart.yaml")).expect("Chart.yaml");
    let chart: Value = serde_saphyr::from_str(&chart).expect("YAML");
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_default_installation_is_what_was_reviewed() {
    let installation = installation(&[]);
    let objects: Vec<Object> = [installation.namespace_object()].into_iter().chain(installation.objects()).collect();
    insta::assert_snapshot!(to_yaml(&objects).expect("YAML"));
    assert_eq!(
        installation.agent_selector(),
        "app.kubernetes.io/component=agent,app.kubernetes.io/instance=gpus,app.kubernetes.io/name=cotenant"
    );
}

#[tokio::test]
async fn objects_are_applied_and_deleted_again() {
    let server = ApiServer::start().expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig");
    server.write_kubeconfig(&kubeconfig).expect("written");
    let client = cotenant_cluster::Client::new(&cotenant_cluster::Source::File(kubeconfig)).await.expect("a client");
    let objects = installation(&[]).objects();
    // The fake applies to what is there only: the real one makes objects too.
    let error = client.apply_objects(&objects).await.expect_err("not there").to_string();
    assert!(error.starts_with("cannot apply ServiceAccount gpu/gpus-cotenant-service-account: "), "{error}");
    server.put("/apis/apps/v1/namespaces/gpu/daemonsets", objects.last().expect("the agent").value().clone());
    client.delete_objects(&objects).await.expect("deleted");
    assert_eq!(server.objects("/apis/apps/v1/namespaces/gpu/daemonsets"), Vec::<Value>::new());
    let deletions = server.requests().into_iter().filter(|request| request.request.starts_with("DELETE"));
    let first = deletions.map(|request| request.request).next().expect("a deletion");
    assert!(first.contains("daemonsets/gpus-cotenant"), "the agents go first: {first}");
}
