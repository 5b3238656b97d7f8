//! The simulated GPUs and driver of a node: files that its pods see, and that a test changes under them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cotenant_testkit::mps;
use cotenant_testkit::nvml::{Gpu, Scenario};
use serde::Serialize;
use serde_json::Value;

use crate::cluster::Programs;

/// Where a node has the files.
pub const ON_NODE: &str = "/run/e2e/world";
/// Where a container that asks for GPUs has them.
pub const IN_CONTAINER: &str = "/run/simulated-driver";

const LIBRARY: &str = "libnvidia-ml.so.1";
const SCENARIO: &str = "scenario.json";
const SCRIPT: &str = "nvidia-cuda-mps-control.json";
/// Settings that programs made, kept by the simulated library.
const SETTINGS: &str = "settings.json";

/// What NVIDIA's container runtime puts into a container that asks for GPUs: a file of the driver and where it is found.
#[must_use]
pub fn injected() -> Vec<(&'static str, String)> {
    let libraries = format!("/usr/lib/{}-linux-gnu/{LIBRARY}", std::env::consts::ARCH);
    vec![
        (LIBRARY, libraries),
        (mps::CONTROL, format!("/usr/bin/{}", mps::CONTROL)),
        // The simulated program reads its script beside itself.
        (SCRIPT, format!("/usr/bin/{SCRIPT}")),
    ]
}

/// The folder with the files.
#[derive(Debug, Clone)]
pub struct World {
    folder: PathBuf,
}

impl World {
    /// The world in a folder.
    #[must_use]
    pub(crate) const fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Installs the simulated driver with the standard GPUs.
    pub(crate) fn install(folder: &Path, programs: &Programs) -> anyhow::Result<Self> {
        let world = Self::at(folder.to_owned());
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (built, name) in [("libcotenant_testkit.so", LIBRARY), (mps::CONTROL, mps::CONTROL)] {
            let built = programs.own.join(built);
            fs::copy(&built, folder.join(name)).with_context(|| format!("{} is not built", built.display()))?;
        }
        world.reset()?;
        Ok(world)
    }

    /// Puts the standard GPUs back with their first settings, and an MPS that does nothing wrong.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn reset(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.folder.join(SETTINGS)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _removed_or_absent => {}
        }
        self.set_gpus(&standard())?;
        self.set_mps(&mps::Script::default())
    }

    /// Replaces the GPUs in one step; programs that run see it at their next call of the driver.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_gpus(&self, scenario: &Scenario) -> anyhow::Result<()> {
        self.replace(SCENARIO, scenario)
    }

    /// The GPUs as they were set last.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn gpus(&self) -> anyhow::Result<Scenario> {
        Ok(serde_json::from_slice(&fs::read(self.folder.join(SCENARIO))?)?)
    }

    /// Changes the GPUs in one step.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn change_gpus(&self, change: impl FnOnce(&mut Scenario)) -> anyhow::Result<()> {
        let mut scenario = self.gpus()?;
        change(&mut scenario);
        self.set_gpus(&scenario)
    }

    /// Changes how MPS behaves; daemons that run follow from their next command on.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_mps(&self, script: &mps::Script) -> anyhow::Result<()> {
        self.replace(SCRIPT, script)
    }

    /// Settings that programs made on GPUs and that last: by UUID, as the simulated library writes them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn settings(&self) -> anyhow::Result<Value> {
        match fs::read(self.folder.join(SETTINGS)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
            read => Ok(serde_json::from_slice(&read?)?),
        }
    }

    fn replace(&self, name: &str, content: &impl Serialize) -> anyhow::Result<()> {
        let draft = self.folder.join("draft");
        fs::write(&draft, serde_json::to_vec_pretty(content)?)?;
        Ok(fs::rename(draft, self.folder.join(name))?)
    }
}

/// UUID of a standard GPU, numbered from 0.
#[must_use]
pub fn gpu_uuid(number: u8) -> String {
    format!("GPU-00000000-0000-4000-8000-{number:012}")
}

/// The standard GPUs: two alike, whose settings outlive the programs that make them.
#[must_use]
pub fn standard() -> Scenario {
    Scenario::of(Gpu::hopper(&gpu_uuid(0))).with_gpu(Gpu::hopper(&gpu_uuid(1))).with_shared_settings()
}
