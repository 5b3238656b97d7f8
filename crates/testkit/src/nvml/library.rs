//! Finds the built shared library and puts a copy of it beside a scenario.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use super::scenario::{Change, Scenario};

/// Environment variable that names the scenario file; without it the library reads the `scenario.json` beside it.
pub const SCENARIO_VARIABLE: &str = "COTENANT_FAKE_NVML";

const SCENARIO_FILE: &str = "scenario.json";

/// A simulated NVML on disk: a library with its own scenario.
///
/// Each is a copy of its own, so that one process can load several with a state each.
#[derive(Debug)]
pub struct Library {
    directory: PathBuf,
    /// Removes the folder when dropped, where it is ours.
    _temporary: Option<TempDir>,
}

impl Scenario {
    /// Writes the scenario and a copy of the simulated library into a new temporary folder, removed when dropped.
    ///
    /// # Errors
    /// When the shared library has not been built, a GPU's name could pass for a real one, or the disk refuses.
    pub fn install(&self) -> anyhow::Result<Library> {
        let temporary = tempfile::Builder::new().prefix("cotenant-nvml-").tempdir()?;
        let directory = temporary.path().to_owned();
        self.write(Library { directory, _temporary: Some(temporary) })
    }

    /// Writes the scenario and a copy of the simulated library into `folder`, where they stay: a host's library.
    ///
    /// # Errors
    /// As [`Scenario::install`].
    pub fn install_in(&self, folder: impl Into<PathBuf>) -> anyhow::Result<Library> {
        let directory = folder.into();
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        self.write(Library { directory, _temporary: None })
    }

    fn write(&self, library: Library) -> anyhow::Result<Library> {
        library.replace(self)?;
        let built = built_library()?;
        // A program may have the old copy loaded: it keeps that one.
        let next = library.directory.join("libnvidia-ml.so.1.next");
        fs::copy(&built, &next).with_context(|| format!("cannot copy {}", built.display()))?;
        fs::rename(&next, library.path())?;
        Ok(library)
    }

    /// The first name that does not say that its GPU is simulated.
    pub(super) fn misleading_name(&self) -> Option<&str> {
        let mut names = self.gpus.iter().map(|gpu| gpu.name.as_str());
        names.find(|name| !name.contains("Simulated"))
    }
}

impl Library {
    /// The library to load, for `COTENANT_NVML` or `cotenant_gpu::Nvml::load`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.join("libnvidia-ml.so.1")
    }

    /// Its scenario file.
    #[must_use]
    pub fn scenario_path(&self) -> PathBuf {
        self.directory.join(SCENARIO_FILE)
    }

    /// Replaces the scenario in one step; programs that have loaded the library see it at their next call.
    ///
    /// # Errors
    /// When a GPU's name could pass for a real one or the disk refuses.
    pub fn replace(&self, scenario: &Scenario) -> anyhow::Result<()> {
        if let Some(name) = scenario.misleading_name() {
            bail!("the name `{name}` does not contain `Simulated`");
        }
        let next = self.directory.join("scenario.json.next");
        fs::write(&next, serde_json::to_vec_pretty(scenario)?)?;
        fs::rename(&next, self.scenario_path())?;
        Ok(())
    }

    /// The scenario as it stands in the file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn scenario(&self) -> anyhow::Result<Scenario> {
        Ok(serde_json::from_slice(&fs::read(self.scenario_path())?)?)
    }

    /// Lets something happen to GPU number `gpu` now, in every program that has loaded the library.
    ///
    /// # Errors
    /// When the scenario cannot be read or written.
    pub fn happen(&self, gpu: usize, change: Change) -> anyhow::Result<()> {
        self.replace(&self.scenario()?.with_event(0, gpu, change))
    }
}

/// The scenario file of the library that is loaded at `address`.
pub(super) fn scenario_of(address: usize) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(SCENARIO_VARIABLE) {
        return Some(path.into());
    }
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| mapped_range(line).is_some_and(|range| range.contains(&address)))?;
    let library = Path::new(&line[line.find('/')?..]);
    Some(library.with_file_name(SCENARIO_FILE))
}

/// The addresses of a line of `/proc/PID/maps`.
fn mapped_range(line: &str) -> Option<std::ops::Range<usize>> {
    let (start, rest) = line.split_once('-')?;
    let (end, _) = rest.split_once(' ')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

/// The shared library that cargo built beside the running test, example or program.
fn built_library() -> anyhow::Result<PathBuf> {
    const NAME: &str = "libcotenant_testkit.so";
    let program = std::env::current_exe()?;
    let candidates =
        program.ancestors().skip(1).take(3).flat_map(|folder| [folder.join("deps").join(NAME), folder.join(NAME)]);
    match candidates.into_iter().find(|candidate| candidate.is_file()) {
        Some(found) => Ok(found),
        None => bail!("{NAME} is not beside {}; build it with `cargo build -p cotenant-testkit`", program.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvml::Gpu;

    #[test]
    fn a_name_that_could_pass_for_a_real_gpu_is_refused() {
        let scenario = Scenario::of(Gpu { name: "NVIDIA H200".to_owned(), ..Gpu::bare("GPU-0") });
        let refusal = scenario.install().expect_err("a misleading name");
        assert!(refusal.to_string().contains("NVIDIA H200"), "{refusal}");
    }

    #[test]
    fn a_line_of_the_memory_map_tells_its_addresses() {
        assert_eq!(mapped_range("7f00-7f10 r-xp 00000000 08:01 42 /lib/x.so"), Some(0x7f00..0x7f10));
        assert_eq!(mapped_range("nonsense"), None);
    }
}
