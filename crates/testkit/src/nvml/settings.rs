//! Settings of GPUs that programs made: those of this program alone, or of every program of the host.
//!
//! Shared settings stand in a file beside the scenario. Whoever changes one holds the lock file, reads the file again and
//! replaces it in one step, so a program that is killed leaves the old settings or the new.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::scenario::{ComputeMode, Gpu, GpuInstance};

/// Settings by GPU UUID.
#[derive(Debug, Default)]
pub(super) struct Settings {
    by_gpu: BTreeMap<String, Setting>,
    stamp: Option<Stamp>,
}

/// Tells one version of a file from another.
pub(super) type Stamp = (u64, SystemTime, u64);

/// The settings of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Setting {
    compute_mode: ComputeMode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mig: Option<MigSetting>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MigSetting {
    enabled: bool,
    #[serde(default)]
    pending: Option<bool>,
    instances: Vec<GpuInstance>,
}

/// The version of the file at `path`; `None` where there is none.
pub(super) fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some((metadata.ino(), metadata.modified()?, metadata.len()))),
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Holds the lock of the settings beside a scenario until it is dropped.
pub(super) fn lock(scenario: &Path) -> io::Result<File> {
    let lock = File::create(scenario.with_file_name("settings.lock"))?;
    lock.lock()?;
    Ok(lock)
}

fn file(scenario: &Path) -> PathBuf {
    scenario.with_file_name("settings.json")
}

impl Settings {
    /// Reads the shared settings when they are others than the last ones read; whether they are.
    pub(super) fn read(&mut self, scenario: &Path) -> io::Result<bool> {
        let path = file(scenario);
        let stamp = stamp(&path)?;
        if stamp == self.stamp {
            return Ok(false);
        }
        self.by_gpu = if stamp.is_some() { serde_json::from_slice(&fs::read(path)?)? } else { BTreeMap::new() };
        self.stamp = stamp;
        Ok(true)
    }

    /// Replaces the shared settings in one step.
    pub(super) fn write(&mut self, scenario: &Path) -> io::Result<()> {
        let path = file(scenario);
        let next = scenario.with_file_name(format!("settings.json.{}", std::process::id()));
        fs::write(&next, serde_json::to_vec_pretty(&self.by_gpu)?)?;
        fs::rename(&next, &path)?;
        self.stamp = stamp(&path)?;
        Ok(())
    }

    /// Remembers a GPU's settings as they are now.
    pub(super) fn keep(&mut self, gpu: &Gpu) {
        let mig = gpu.mig.as_ref().map(|mig| MigSetting {
            enabled: mig.enabled,
            pending: mig.pending,
            instances: mig.instances.clone(),
        });
        self.by_gpu.insert(gpu.uuid.clone(), Setting { compute_mode: gpu.compute_mode, mig });
    }

    /// Forgets every setting.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts the settings on a GPU of the scenario.
    pub(super) fn apply(&self, gpu: &mut Gpu) {
        let Some(setting) = self.by_gpu.get(&gpu.uuid) else { return };
        gpu.compute_mode = setting.compute_mode;
        if let (Some(mig), Some(set)) = (gpu.mig.as_mut(), setting.mig.as_ref()) {
            (mig.enabled, mig.pending) = (set.enabled, set.pending);
            mig.instances.clone_from(&set.instances);
        }
    }
}
