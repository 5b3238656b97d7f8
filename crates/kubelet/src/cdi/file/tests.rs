use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use super::*;
use crate::cdi::spec::{Device, DeviceNode, Edits};

/// Says to this test, started a second time, in which folder it has no room.
const NO_ROOM: &str = "COTENANT_TEST_NO_ROOM";

fn specification(class: &str, devices: usize) -> Specification {
    let node = |n: usize| DeviceNode { path: format!("/dev/nvidia{n}"), host_path: None };
    let edits = |n| Edits { device_nodes: vec![node(n)], ..Edits::default() };
    let device = |n| Device { name: format!("GPU-{n}"), container_edits: edits(n) };
    Specification::new(class, (0..devices).map(device).collect(), Edits::default()).expect("specification")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

#[test]
fn files_are_readable_for_all_and_stand_alone() {
    let root = tempfile::tempdir().expect("folder");
    let folder = root.path().join("run/cdi");
    write(&folder, &[specification("gpu", 1), specification("gds", 1)]).expect("written");
    let expected = ["k8s.device-plugin.nvidia.com-gds.json", "k8s.device-plugin.nvidia.com-gpu.json"];
    assert_eq!(names(&folder), expected);
    let file = folder.join(expected[1]);
    assert_eq!(fs::metadata(&file).expect("file").permissions().mode() & 0o777, 0o644);
    let value: serde_json::Value = serde_json::from_slice(&fs::read(&file).expect("file")).expect("JSON");
    assert_eq!(value["kind"], "k8s.device-plugin.nvidia.com/gpu");
}

#[test]
fn an_unchanged_file_is_not_written_again_and_a_class_that_went_is_removed() {
    let root = tempfile::tempdir().expect("folder");
    write(root.path(), &[specification("gpu", 1), specification("gds", 1)]).expect("written");
    let file = root.path().join("k8s.device-plugin.nvidia.com-gpu.json");
    let inode = || fs::metadata(&file).expect("file").ino();
    let first = inode();
    write(root.path(), &[specification("gpu", 1)]).expect("written");
    assert_eq!(inode(), first);
    assert_eq!(names(root.path()), ["k8s.device-plugin.nvidia.com-gpu.json"]);
    write(root.path(), &[specification("gpu", 2)]).expect("written");
    assert_ne!(inode(), first);
}

#[test]
fn what_a_crash_left_is_replaced_and_uninstalling_leaves_nothing_of_ours() {
    let root = tempfile::tempdir().expect("folder");
    let unfinished = root.path().join("k8s.device-plugin.nvidia.com-gpu.json.new");
    fs::write(&unfinished, "{\"cdi").expect("left");
    fs::write(root.path().join("other.json"), "{}").expect("another's");
    write(root.path(), &[specification("gpu", 1)]).expect("written");
    assert!(!unfinished.exists());
    fs::write(&unfinished, "{\"cdi").expect("left");
    remove(root.path()).expect("removed");
    assert_eq!(names(root.path()), ["other.json"]);
    remove(&root.path().join("none")).expect("nothing to remove");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let root = tempfile::tempdir().expect("folder");
    fs::write(root.path().join("file"), "").expect("file");
    let error = write(&root.path().join("file/cdi"), &[specification("gpu", 1)]).expect_err("a file is in the way");
    assert!(error.to_string().starts_with("cannot make the folder ") && error.to_string().ends_with("file/cdi"));
}

/// A disk is full where no file may grow past 1 block: `ulimit -f`, which a process can set for itself only.
#[test]
#[expect(clippy::disallowed_methods, reason = "the child is this test again, waited for here")]
fn on_a_full_disk_the_old_file_stays() {
    if let Ok(folder) = std::env::var(NO_ROOM) {
        let error = write(Path::new(&folder), &[specification("gpu", 1000)]).expect_err("no room");
        assert!(error.to_string().ends_with("gpu.json, which stays as it was"), "{error}");
        return;
    }
    let root = tempfile::tempdir().expect("folder");
    write(root.path(), &[specification("gpu", 1)]).expect("room for one");
    let file = root.path().join("k8s.device-plugin.nvidia.com-gpu.json");
    let old = fs::read(&file).expect("file");
    let again = "trap '' XFSZ; ulimit -f 1; exec \"$0\" --exact cdi::file::tests::on_a_full_disk_the_old_file_stays";
    let test = std::env::current_exe().expect("this test");
    let output = Command::new("sh").args(["-c", again]).arg(test).env(NO_ROOM, root.path()).output().expect("sh");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(fs::read(&file).expect("file"), old);
    assert_eq!(names(root.path()), ["k8s.device-plugin.nvidia.com-gpu.json"]);
}
