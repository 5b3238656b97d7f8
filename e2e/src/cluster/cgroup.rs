//! The control groups that the pods of a cluster lie in: the one thing of a machine that is not in a namespace.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::wait;

const ROOT: &str = "/sys/fs/cgroup";

/// Makes the control group `name` (one or more parts, `a/b`) in every hierarchy.
pub(super) fn make(name: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies()? {
        let mut group = hierarchy.clone();
        for part in Path::new(name) {
            // Version 2 hands controllers down level by level.
            enable_controllers(&group)?;
            group.push(part);
            match fs::create_dir(&group) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| format!("cannot make {}", group.display()));
                }
                _made_or_there => {}
            }
        }
        enable_controllers(&group)?;
    }
    Ok(())
}

fn enable_controllers(group: &Path) -> anyhow::Result<()> {
    let Ok(controllers) = fs::read_to_string(group.join("cgroup.controllers")) else { return Ok(()) };
    let all: Vec<String> = controllers.split_whitespace().map(|controller| format!("+{controller}")).collect();
    fs::write(group.join("cgroup.subtree_control"), all.join(" "))
        .with_context(|| format!("cannot hand the controllers of {} down (does a process lie in it?)", group.display()))
}

/// Removes the control group `name` and all below it; its processes must have been killed.
pub(super) fn remove(name: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        // A group counts as used for a moment after its last process is gone.
        wait::until(&format!("the end of {}", group.display()), Duration::from_secs(20), || remove_tree(&group))?;
    }
    Ok(())
}

fn remove_tree(group: &Path) -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(group) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group).with_context(|| format!("cannot remove {}", group.display()))
}

/// The root of the one hierarchy of version 2, or of each of version 1.
fn hierarchies() -> anyhow::Result<Vec<PathBuf>> {
    let root = PathBuf::from(ROOT);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root]);
    }
    let entries = fs::read_dir(&root).with_context(|| format!("{ROOT} holds no control groups"))?;
    let folders = entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.map(|folder| folder.path()).collect())
}
