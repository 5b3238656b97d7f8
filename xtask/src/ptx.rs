//! Compiles the load kernels to the PTX that is checked in.
//!
//! NVRTC comes from PyPI, kept in a cache outside the clone, and is driven by a small Python script (`nvrtc.py`): neither
//! a GPU nor a CUDA toolkit is needed. Its release is fixed, because it decides the PTX ISA: 12.2 writes 8.2, which driver
//! 535 reads, while 12.9 would want 575. The same release writes the same text, so that `--check` can compare.
#![expect(clippy::disallowed_methods, reason = "every child here is waited for where it is started")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// The wheel of NVRTC.
const WHEEL: &str = "nvidia-cuda-nvrtc-cu12==12.2.140";
/// The library inside the wheel.
const LIBRARY: &str = "nvidia/cuda_nvrtc/lib/libnvrtc.so.12";
/// The kernels' room.
const ROOM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/cuda");
/// Sources and the oldest architecture each is compiled for.
const SOURCES: [(&str, &str); 5] = [
    ("fill", "compute_75"),
    ("decode", "compute_75"),
    ("product_sm75", "compute_75"),
    ("product_sm80", "compute_80"),
    ("tiny", "compute_75"),
];

/// Arguments of `ptx`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Compile to a temporary folder and fail where the result differs from what is checked in.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let cache = cache()?;
    let library = nvrtc(&cache)?;
    let room = Path::new(ROOM);
    if !arguments.check {
        return compile(&library, room, &room.join("ptx"));
    }
    let fresh = cache.join(format!("check-{}", std::process::id()));
    fs::create_dir_all(&fresh).with_context(|| format!("create {}", fresh.display()))?;
    let outcome = compile(&library, room, &fresh).and_then(|()| compare(&room.join("ptx"), &fresh));
    fs::remove_dir_all(&fresh).with_context(|| format!("remove {}", fresh.display()))?;
    outcome
}

/// The folder that outlives clones: `$XDG_CACHE_HOME/cotenant`, or `~/.cache/cotenant`.
fn cache() -> anyhow::Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set: there is no place for NVRTC")?.join("cotenant"))
}

/// The library, fetched the first time and found without a network afterwards.
fn nvrtc(cache: &Path) -> anyhow::Result<PathBuf> {
    let folder = cache.join(WHEEL.replace("==", "-"));
    let library = folder.join(LIBRARY);
    if library.exists() {
        return Ok(library);
    }
    let partial = cache.join(format!("partial-{}", std::process::id()));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"]);
    pip.arg(&partial).arg(WHEEL).env("PIP_ROOT_USER_ACTION", "ignore");
    succeed(pip, "python3 with pip is needed once to fetch NVRTC from PyPI")?;
    if fs::rename(&partial, &folder).is_err() && !library.exists() {
        anyhow::bail!("{} could not be moved to {}", partial.display(), folder.display());
    }
    Ok(library)
}

fn compile(library: &Path, room: &Path, to: &Path) -> anyhow::Result<()> {
    for (name, architecture) in SOURCES {
        let mut python = Command::new("python3");
        python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/nvrtc.py")).arg(library);
        python.arg(room.join("kernels").join(name).with_extension("cu")).arg(architecture);
        python.arg(to.join(name).with_extension("ptx"));
        succeed(python, "python3 is needed to drive NVRTC")?;
    }
    Ok(())
}

/// Fails naming every file that differs.
fn compare(stored: &Path, fresh: &Path) -> anyhow::Result<()> {
    let mut different = Vec::new();
    for (name, _) in SOURCES {
        let read = |folder: &Path| fs::read(folder.join(name).with_extension("ptx")).unwrap_or_default();
        if read(stored) != read(fresh) {
            different.push(format!("{name}.ptx"));
        }
    }
    anyhow::ensure!(
        different.is_empty(),
        "not what the sources compile to: {}; run `cargo xtask ptx`",
        different.join(", ")
    );
    Ok(())
}

fn succeed(mut command: Command, need: &'static str) -> anyhow::Result<()> {
    let status = command.status().context(need)?;
    anyhow::ensure!(status.success(), "{} ended with {status}; {need}", command.get_program().display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_compiled_and_every_compiled_file_has_a_source() {
        for (folder, extension) in [("kernels", "cu"), ("ptx", "ptx")] {
            let entries = fs::read_dir(Path::new(ROOM).join(folder)).expect("folder");
            let paths = entries.map(|entry| entry.expect("entry").path());
            let mut found: Vec<String> = paths
                .filter(|path| path.extension().is_some_and(|found| found == extension))
                .map(|path| path.file_stem().expect("name").to_string_lossy().into_owned())
                .collect();
            found.sort_unstable();
            let mut known: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
            known.sort_unstable();
            assert_eq!(found, known);
        }
    }

    #[test]
    fn a_difference_is_named() {
        let (stored, fresh) = (Path::new(ROOM).join("ptx"), Path::new(ROOM).join("kernels"));
        assert!(compare(&stored, &stored).is_ok());
        let error = compare(&stored, &fresh).expect_err("no PTX there").to_string();
        assert!(error.contains("fill.ptx, decode.ptx") && error.contains("cargo xtask ptx"), "{error}");
    }
}
