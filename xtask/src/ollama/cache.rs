//! Folders that are either whole or absent.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Where parts are kept.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
}

/// `$XDG_CACHE_HOME/cotenant/ollama`, or `~/.cache/cotenant/ollama`.
pub(super) fn default_root() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = named.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set; name a folder with --cache")?;
    Ok(cache.join("cotenant").join("ollama"))
}

impl Cache {
    pub(super) fn new(root: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&root).with_context(|| format!("cannot make the cache {}", root.display()))?;
        Ok(Self { root })
    }

    /// The folder `name`, made by `make` in a scratch folder when it is not there yet.
    pub(super) fn part(&self, name: &str, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
        let target = self.root.join(name);
        if target.is_dir() {
            return Ok(target);
        }
        eprintln_progress(&format!("making {name}"));
        let scratch = tempfile::Builder::new()
            .prefix(&format!(".{name}-"))
            .tempdir_in(&self.root)
            .with_context(|| format!("cannot make a scratch folder in {}", self.root.display()))?;
        make(scratch.path()).with_context(|| format!("cannot make {name}"))?;
        let made = scratch.path().join("part");
        match fs::rename(&made, &target) {
            // Another run was faster; its folder is as whole as ours.
            Err(_) if target.is_dir() => Ok(target),
            renamed => {
                renamed.with_context(|| format!("cannot move {} into place", target.display()))?;
                Ok(target)
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "progress of a build of minutes, beside the result on stdout")]
fn eprintln_progress(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_fails_leaves_nothing_and_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache")).unwrap();
        let failed = cache.part("one", |scratch| {
            fs::create_dir(scratch.join("part"))?;
            anyhow::bail!("cut off")
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(folder.path().join("cache")).unwrap().count(), 0);
        let make = |scratch: &Path| Ok(fs::create_dir(scratch.join("part"))?);
        let made = cache.part("one", make).unwrap();
        assert!(made.is_dir());
        assert_eq!(cache.part("one", |_scratch| anyhow::bail!("made twice")).unwrap(), made);
    }
}
