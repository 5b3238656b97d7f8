//! The simulated container runtime of NVIDIA: `runc` that puts the simulated driver into containers that ask for GPUs.
//!
//! As the real one does, it looks for `NVIDIA_VISIBLE_DEVICES` in a container's environment before it hands the container
//! to `runc`. What the real one makes visible is device files and the driver's libraries and programs; here it is a folder
//! with the simulated ones, and links to them in the places where the real ones would be. A container that asks for GPUs on
//! a node without the driver's library is not started.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use e2e::process::command;
use e2e::world::{IN_CONTAINER, ON_NODE, injected};
use serde_json::{Value, json};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(bundle) = bundle(&arguments) {
        prepare(&bundle).with_context(|| format!("cannot put the simulated driver into {}", bundle.display()))?;
    }
    Err(command("runc").args(arguments).exec()).context("cannot start runc")
}

/// The folder of the container that is to be created.
fn bundle(arguments: &[String]) -> Option<PathBuf> {
    let create = arguments.iter().position(|argument| argument == "create")?;
    let rest = arguments.get(create..)?;
    let named = |name: &str| rest.iter().position(|argument| argument == name).and_then(|at| rest.get(at + 1));
    let joined = || rest.iter().find_map(|argument| argument.strip_prefix("--bundle=")).map(PathBuf::from);
    named("--bundle").or_else(|| named("-b")).map(PathBuf::from).or_else(joined)
}

fn prepare(bundle: &Path) -> anyhow::Result<()> {
    let path = bundle.join("config.json");
    let mut container: Value = serde_json::from_slice(&fs::read(&path)?)?;
    if !asks_for_gpus(&container) {
        return Ok(());
    }
    for (file, _target) in injected() {
        anyhow::ensure!(Path::new(ON_NODE).join(file).exists(), "the node's driver lacks {file}");
    }
    let root = container["root"]["path"].as_str().context("the container has no root")?;
    link(&bundle.join(root))?;
    // Settings of the GPUs are files in it, which root changes, as it does the real ones.
    let mount = json!({
        "destination": IN_CONTAINER, "type": "bind", "source": ON_NODE, "options": ["rbind", "nosuid", "nodev"],
    });
    container["mounts"].as_array_mut().context("the container has no mounts")?.push(mount);
    Ok(fs::write(path, container.to_string())?)
}

/// Whether the environment names GPUs, `all` of them or some.
fn asks_for_gpus(container: &Value) -> bool {
    let environment = container["process"]["env"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut values = environment.iter().filter_map(Value::as_str).filter_map(|entry| entry.split_once('='));
    values.any(|(name, value)| name == "NVIDIA_VISIBLE_DEVICES" && !["", "void", "none"].contains(&value))
}

/// Links in the container's files to where the driver will be mounted.
fn link(root: &Path) -> anyhow::Result<()> {
    for (file, target) in injected() {
        let link = root.join(target.trim_start_matches('/'));
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder)?;
        }
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link)?;
        }
        symlink(Path::new(IN_CONTAINER).join(file), &link)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn only_a_container_that_is_created_is_looked_at() {
        assert_eq!(bundle(&words("--root /r create --bundle /b --pid-file /p id")), Some(PathBuf::from("/b")));
        assert_eq!(bundle(&words("create --bundle=/b id")), Some(PathBuf::from("/b")));
        assert_eq!(bundle(&words("--root /r start id")), None);
    }

    #[test]
    fn a_container_asks_for_gpus_by_its_environment() {
        let container = |entry: &str| json!({ "process": { "env": ["PATH=/bin", entry] } });
        assert!(asks_for_gpus(&container("NVIDIA_VISIBLE_DEVICES=GPU-0")));
        assert!(asks_for_gpus(&container("NVIDIA_VISIBLE_DEVICES=all")));
        assert!(!asks_for_gpus(&container("NVIDIA_VISIBLE_DEVICES=void")));
        assert!(!asks_for_gpus(&container("OTHER=all")));
        assert!(!asks_for_gpus(&json!({})));
    }

    #[test]
    fn the_driver_is_linked_where_the_real_one_would_be() {
        let root = tempfile::tempdir().unwrap();
        link(root.path()).unwrap();
        link(root.path()).unwrap();
        let control = fs::read_link(root.path().join("usr/bin/nvidia-cuda-mps-control")).unwrap();
        assert_eq!(control, Path::new("/run/simulated-driver/nvidia-cuda-mps-control"));
    }
}
