use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::*;

/// The rules of the specification's text, for what is used here.
fn assert_valid(specification: &Specification) -> Value {
    let value = serde_json::to_value(specification).expect("JSON");
    assert_eq!(value["cdiVersion"], "0.5.0");
    let is_word = |text: &str, also: &str| {
        let is_alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        is_alphanumeric(text.chars().next())
            && is_alphanumeric(text.chars().next_back())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
    };
    let (vendor, class) = value["kind"].as_str().expect("kind").split_once('/').expect("vendor and class");
    assert!(is_word(vendor, "_-.") && vendor.starts_with(|c: char| c.is_ascii_alphabetic()), "{vendor}");
    // Dots in a class came with a later version.
    assert!(is_word(class, "_-") && class.starts_with(|c: char| c.is_ascii_alphabetic()), "{class}");
    let devices = value["devices"].as_array().expect("devices");
    let mut names: Vec<&str> = devices.iter().map(|device| device["name"].as_str().expect("name")).collect();
    assert!(names.iter().all(|name| is_word(name, "_-.:")), "{names:?}");
    names.sort_unstable();
    names.dedup();
    assert!(names.len() == devices.len() && !names.is_empty(), "a name stands twice, or none does");
    for device in devices {
        assert_ne!(device["containerEdits"], json!({}), "a device gives nothing");
        assert_edits(&device["containerEdits"]);
    }
    assert_edits(&value["containerEdits"]);
    value
}

fn assert_edits(edits: &Value) {
    let each = |key: &str| edits[key].as_array().cloned().unwrap_or_default();
    let is_path = |value: &Value| value.as_str().is_some_and(|path| path.starts_with('/') && !path.contains("//"));
    assert!(each("env").iter().all(|variable| variable.as_str().is_some_and(|text| text.find('=') > Some(0))));
    for node in each("deviceNodes") {
        assert!(is_path(&node["path"]) && (node["hostPath"].is_null() || is_path(&node["hostPath"])), "{node}");
    }
    for mount in each("mounts") {
        assert!(is_path(&mount["hostPath"]) && is_path(&mount["containerPath"]), "{mount}");
    }
    for hook in each("hooks") {
        assert!(is_path(&hook["path"]) && hook["hookName"] == "createContainer", "{hook}");
    }
}

/// A driver root with libraries, programs and device files.
fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("folder");
    let library = "usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05";
    let files = [
        library,
        "usr/bin/nvidia-smi",
        "usr/bin/nvidia-ctk",
        "etc/cufile.json",
        "dev/nvidiactl",
        "dev/nvidia-uvm",
        "dev/nvidia-fs1",
        "dev/nvidia-fs0",
        "dev/gdrdrv",
        "dev/nvidia-caps-imex-channels/channel0",
    ];
    for file in files.map(|file| root.path().join(file)) {
        fs::create_dir_all(file.parent().expect("folder")).expect("folder");
        fs::write(file, "").expect("file");
    }
    symlink("libcuda.so.580.95.05", root.path().join("usr/lib/x86_64-linux-gnu/libcuda.so.1")).expect("link");
    root
}

fn layout(seen: &Path, hook: Option<&str>) -> Layout {
    let host = PathBuf::from("/run/nvidia/driver");
    Layout { seen: seen.to_owned(), dev_root: "/".into(), host, hook: hook.map(str::to_owned) }
}

fn given(name: &str, files: &[&str]) -> Given {
    Given { name: name.to_owned(), files: files.iter().map(|&file| file.to_owned()).collect() }
}

#[test]
fn a_gpu_and_a_mig_device_have_their_files_and_the_drivers() {
    let root = root();
    let devices = [
        given("GPU-9a1b", &["/dev/nvidia0"]),
        given("MIG-77c0", &["/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap3", "/dev/nvidia-caps/nvidia-cap4"]),
        given("0:1", &["/dev/nvidia0"]),
    ];
    let found = specifications(&layout(root.path(), None), &devices, Extras::default(), &[]);
    let [specification] = found.as_slice() else { panic!("one specification, not {found:?}") };
    let names: Vec<String> = specification.names().collect();
    assert_eq!(names[0], "k8s.device-plugin.nvidia.com/gpu=GPU-9a1b");
    let value = assert_valid(specification);
    assert_eq!(value["devices"][0]["containerEdits"], json!({ "deviceNodes": [{ "path": "/dev/nvidia0" }] }));
    assert_eq!(value["devices"][1]["containerEdits"]["deviceNodes"].as_array().expect("files").len(), 3);
    let edits = &value["containerEdits"];
    assert_eq!(edits["env"], json!(["NVIDIA_VISIBLE_DEVICES=void"]));
    assert_eq!(edits["deviceNodes"], json!([{ "path": "/dev/nvidia-uvm" }, { "path": "/dev/nvidiactl" }]));
    let mounts: Vec<(&str, &str)> = edits["mounts"]
        .as_array()
        .expect("mounts")
        .iter()
        .map(|mount| (mount["hostPath"].as_str().expect("path"), mount["containerPath"].as_str().expect("path")))
        .collect();
    let host = "/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05";
    let folder = "/usr/lib/x86_64-linux-gnu";
    assert_eq!(
        mounts,
        [
            (host, &*format!("{folder}/libcuda.so.580.95.05")),
            ("/run/nvidia/driver/usr/bin/nvidia-smi", "/usr/bin/nvidia-smi"),
            (host, &*format!("{folder}/libcuda.so")),
            (host, &*format!("{folder}/libcuda.so.1")),
        ]
    );
    assert_eq!(edits["mounts"][0]["options"], json!(["ro", "nosuid", "nodev", "rbind", "rprivate"]));
}

#[test]
fn with_a_hook_the_hosts_program_makes_the_links() {
    let root = root();
    let edits = |hook: &str| {
        let layout = layout(root.path(), Some(hook));
        let found = specifications(&layout, &[given("GPU-a", &["/dev/nvidia0"])], Extras::default(), &[]);
        assert_valid(&found[0])["containerEdits"].clone()
    };
    let folder = "/usr/lib/x86_64-linux-gnu";
    let links = [
        "--link".to_owned(),
        format!("libcuda.so.1::{folder}/libcuda.so"),
        "--link".to_owned(),
        format!("libcuda.so.580.95.05::{folder}/libcuda.so.1"),
    ];
    let toolkit = edits("/usr/bin/nvidia-ctk");
    let arguments = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let expected = [arguments(&["nvidia-ctk", "hook", "create-symlinks"]), links.to_vec()].concat();
    assert_eq!(toolkit["hooks"][0]["args"], json!(expected));
    assert_eq!(toolkit["hooks"][1]["args"], json!(["nvidia-ctk", "hook", "update-ldcache", "--folder", folder]));
    assert_eq!(toolkit["mounts"].as_array().expect("mounts").len(), 2);
    let other = edits("/usr/bin/nvidia-cdi-hook");
    assert_eq!(other["hooks"][1]["args"], json!(["nvidia-cdi-hook", "update-ldcache", "--folder", folder]));
}

#[test]
fn a_hook_that_the_host_lacks_is_not_used() {
    let root = root();
    let slash = Path::new("/");
    assert_eq!(Layout::hook(root.path(), slash, "/usr/bin/nvidia-ctk").as_deref(), Some("/usr/bin/nvidia-ctk"));
    assert_eq!(Layout::hook(root.path(), slash, "/usr/bin/nvidia-cdi-hook"), None);
    let elsewhere = Layout::hook(root.path(), Path::new("/run/nvidia/driver"), "/usr/local/nvidia/toolkit/nvidia-ctk");
    assert!(elsewhere.is_some());
}

#[test]
fn what_is_asked_for_and_not_there_has_no_specification() {
    let root = root();
    let all = Extras { gdrcopy: true, gds: true, mofed: true };
    let found = specifications(&layout(root.path(), None), &[], all, &[0, 1]);
    for specification in &found {
        assert_valid(specification);
    }
    let names: Vec<String> = found.iter().flat_map(Specification::names).collect();
    assert_eq!(
        names,
        [
            "k8s.device-plugin.nvidia.com/imex-channel=0",
            "k8s.device-plugin.nvidia.com/gdrcopy=all",
            "k8s.device-plugin.nvidia.com/gds=all"
        ]
    );
    let gds = serde_json::to_value(&found[2]).expect("JSON");
    let edits = &gds["devices"][0]["containerEdits"];
    assert_eq!(edits["deviceNodes"], json!([{ "path": "/dev/nvidia-fs0" }, { "path": "/dev/nvidia-fs1" }]));
    assert_eq!(edits["mounts"][0]["containerPath"], "/etc/cufile.json");
}

#[test]
fn device_files_of_another_root_keep_their_place_in_the_container() {
    let root = root();
    let layout = Layout { dev_root: "/run/nvidia/driver".into(), ..layout(root.path(), None) };
    let found = specifications(&layout, &[given("GPU-a", &["/dev/nvidia0"])], Extras::default(), &[]);
    let node = &assert_valid(&found[0])["devices"][0]["containerEdits"]["deviceNodes"][0];
    assert_eq!(*node, json!({ "path": "/dev/nvidia0", "hostPath": "/run/nvidia/driver/dev/nvidia0" }));
}
