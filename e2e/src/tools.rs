//! Programs from Go modules, built once for each version and kept outside the clone.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;

use crate::process::command;

/// Version of Kubernetes, that of the module in `tools/go.mod`.
pub const KUBERNETES: &str = "v1.34.4";
/// Version of Helm, that of the module in `tools/helm/go.mod`.
pub const HELM: &str = "v3.19.5";

/// Where `kubectl` reads its version. It refuses a server that has none.
const KUBERNETES_STAMP: &str = "k8s.io/component-base/version";
const HELM_STAMP: &str = "helm.sh/helm/v3/internal/version";

/// A folder of programs to be built.
struct Build {
    /// Name of the folder in the cache.
    folder: String,
    /// Module that pins what is built, below `tools`.
    module: PathBuf,
    programs: &'static [&'static str],
    stamp: String,
    /// What to expect of a first build.
    effort: &'static str,
}

/// The folder with `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, `kubelet`, `kube-proxy` and `kubectl`.
///
/// # Errors
/// When they cannot be built.
pub fn kubernetes() -> anyhow::Result<PathBuf> {
    let (major, minor) = major_and_minor(KUBERNETES);
    let stamps = [("gitVersion", KUBERNETES), ("gitMajor", major), ("gitMinor", minor)];
    let build = Build {
        folder: format!("kubernetes-{KUBERNETES}"),
        module: modules(),
        programs: &["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"],
        stamp: stamps.map(|(name, value)| format!(" -X {KUBERNETES_STAMP}.{name}={value}")).concat(),
        effort: "about 8 minutes on two cores and 4 GB of Go's build cache",
    };
    build.ensure()
}

/// The program `helm`.
///
/// # Errors
/// When it cannot be built.
pub fn helm() -> anyhow::Result<PathBuf> {
    let build = Build {
        folder: format!("helm-{HELM}"),
        module: modules().join("helm"),
        programs: &["helm"],
        stamp: format!(" -X {HELM_STAMP}.version={HELM}"),
        effort: "about 3 minutes on two cores",
    };
    Ok(build.ensure()?.join("helm"))
}

fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools")
}

fn major_and_minor(version: &str) -> (&str, &str) {
    let mut numbers = version.trim_start_matches('v').split('.');
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

/// `$XDG_CACHE_HOME/cotenant/e2e`, or `~/.cache/cotenant/e2e`.
fn cache() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = named.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set: there is no cache")?;
    Ok(cache.join("cotenant").join("e2e"))
}

impl Build {
    fn ensure(&self) -> anyhow::Result<PathBuf> {
        self.ensure_in(&cache()?, |folder| self.run(folder))
    }

    /// The folder, filled by `make` in a scratch folder when it is not complete. Two runs do not make it at once.
    fn ensure_in(&self, cache: &Path, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
        let folder = cache.join(&self.folder);
        if self.is_whole(&folder) {
            return Ok(folder);
        }
        fs::create_dir_all(cache).with_context(|| format!("cannot make the cache {}", cache.display()))?;
        let _lock = self.lock(cache)?;
        // Another run may have made it while this one waited.
        if self.is_whole(&folder) {
            return Ok(folder);
        }
        let prefix = format!(".building-{}-", self.folder);
        remove_started(cache, &prefix)?;
        let scratch = tempfile::Builder::new().prefix(&prefix).tempdir_in(cache)?;
        let made = scratch.path().join(&self.folder);
        fs::create_dir(&made)?;
        make(&made).with_context(|| format!("cannot build {}", self.folder))?;
        anyhow::ensure!(self.is_whole(&made), "the build of {} lacks some of {:?}", self.folder, self.programs);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove what {} lacks", folder.display()))?;
        }
        fs::rename(&made, &folder).with_context(|| format!("cannot move {} into place", folder.display()))?;
        Ok(folder)
    }

    fn is_whole(&self, folder: &Path) -> bool {
        self.programs.iter().all(|program| folder.join(program).is_file())
    }

    fn lock(&self, cache: &Path) -> anyhow::Result<File> {
        let path = cache.join(format!(".{}.lock", self.folder));
        let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress(&format!("another run builds {}: waiting for it", self.folder));
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        Ok(file)
    }

    /// Builds the module's tools into `folder`, in sight of the terminal.
    fn run(&self, folder: &Path) -> anyhow::Result<()> {
        progress(&format!("building {} from its Go modules: {}, once", self.folder, self.effort));
        let mut go = command("go");
        go.args(["build", "-trimpath", &format!("-ldflags=-s -w{}", self.stamp), "-o"]).arg(folder).arg("tool");
        go.current_dir(&self.module).env("CGO_ENABLED", "0").stdin(Stdio::null());
        let status = go.status().context("cannot start `go` (1.24 or newer, from https://go.dev/dl)")?;
        anyhow::ensure!(status.success(), "`go build` in {} failed ({status})", self.module.display());
        Ok(())
    }
}

/// Removes what a build left that was killed; whoever calls this holds the lock of the builds with this prefix.
fn remove_started(cache: &Path, prefix: &str) -> anyhow::Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "progress of a build of minutes, beside the result on stdout")]
fn progress(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build() -> Build {
        Build {
            folder: "tool-v1".to_owned(),
            module: PathBuf::new(),
            programs: &["a", "b"],
            stamp: String::new(),
            effort: "",
        }
    }

    fn make(folder: &Path) -> anyhow::Result<()> {
        fs::write(folder.join("a"), "")?;
        Ok(fs::write(folder.join("b"), "")?)
    }

    #[test]
    fn a_build_that_fails_leaves_nothing_and_is_tried_again() {
        let cache = tempfile::tempdir().unwrap();
        assert!(build().ensure_in(cache.path(), |_folder| anyhow::bail!("cut off")).is_err());
        assert!(build().ensure_in(cache.path(), |folder| Ok(fs::write(folder.join("a"), "")?)).is_err());
        let folder = build().ensure_in(cache.path(), make).unwrap();
        assert_eq!(build().ensure_in(cache.path(), |_folder| anyhow::bail!("built twice")).unwrap(), folder);
        let left: Vec<_> = fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn what_is_incomplete_is_built_anew() {
        let cache = tempfile::tempdir().unwrap();
        fs::create_dir(cache.path().join("tool-v1")).unwrap();
        let killed = cache.path().join(".building-tool-v1-x");
        fs::create_dir(&killed).unwrap();
        let folder = build().ensure_in(cache.path(), make).unwrap();
        assert!(folder.join("b").is_file() && !killed.exists());
    }

    #[test]
    fn the_modules_pin_the_versions_that_the_cache_names() {
        for (module, requirement) in
            [("go.mod", format!("k8s.io/kubernetes {KUBERNETES}")), ("helm/go.mod", format!("helm.sh/helm/v3 {HELM}"))]
        {
            let text = fs::read_to_string(modules().join(module)).unwrap();
            assert!(text.contains(&requirement), "{module} does not require {requirement}");
        }
        assert_eq!(major_and_minor(KUBERNETES), ("1", "34"));
    }
}
