//! The GPU's compute mode, changed for the time of an MPS pass and put back.
//!
//! In `exclusive-process` only the MPS server can have a context, so a client that does not reach its daemon fails instead of
//! running beside it. What the mode was is written to a file before it is changed, so that the run after one that was killed
//! puts it back.
//!
//! Proved on simulated GPUs only.

use std::path::{Path, PathBuf};

use cotenant_gpu::{Nvml, OpenError, SettingError};
use cotenant_model::GpuUuid;
use cotenant_model::gpu::{ComputeMode, Gpu};

use crate::store::{self, StoreError};

/// Why the compute mode could not be changed or put back.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The driver library cannot be opened.
    #[error("cannot reach the driver to change the compute mode")]
    Driver(#[source] OpenError),
    /// The driver does not say what the mode is.
    #[error("{0} has no compute mode to change")]
    Unknown(GpuUuid),
    /// What the mode was cannot be kept, so it was not changed.
    #[error("cannot keep what the compute mode was")]
    Record(#[source] StoreError),
    /// The driver refused.
    #[error("the compute mode was not changed")]
    Set(#[source] SettingError),
}

/// A changed compute mode; dropped, it is put back.
#[derive(Debug)]
pub(super) struct Hold {
    nvml: Nvml,
    gpu: GpuUuid,
    before: ComputeMode,
    record: PathBuf,
}

impl Hold {
    /// Sets `exclusive-process`; `None` where that is the mode already. `folder` keeps what the mode was.
    pub(super) fn exclusive(gpu: &Gpu, folder: &Path) -> Result<Option<Self>, HoldError> {
        Self::with(Nvml::open().map_err(HoldError::Driver)?, gpu, folder)
    }

    fn with(nvml: Nvml, gpu: &Gpu, folder: &Path) -> Result<Option<Self>, HoldError> {
        let before = gpu.compute_mode.ok_or_else(|| HoldError::Unknown(gpu.uuid.clone()))?;
        if before == ComputeMode::ExclusiveProcess {
            return Ok(None);
        }
        let record = path(folder, &gpu.uuid);
        store::write(&record, word(before).as_bytes()).map_err(HoldError::Record)?;
        let mut hold = Self { nvml, gpu: gpu.uuid.clone(), before, record };
        hold.nvml.set_compute_mode(&hold.gpu, ComputeMode::ExclusiveProcess).map_err(HoldError::Set)?;
        Ok(Some(hold))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        match self.nvml.set_compute_mode(&self.gpu, self.before) {
            Ok(()) => forget(&self.record),
            Err(error) => {
                tracing::error!(%error, gpu = %self.gpu, "the compute mode was not put back; the next run tries again");
            }
        }
    }
}

/// Puts back what a killed run had changed; gives the mode that was put back. Call it with the GPU's lock held.
///
/// # Errors
/// When the driver refuses; what is known of the mode is then kept.
pub fn restore(gpu: &GpuUuid, folder: &Path, nvml: &mut Nvml) -> Result<Option<ComputeMode>, HoldError> {
    let record = path(folder, gpu);
    let Ok(text) = std::fs::read_to_string(&record) else { return Ok(None) };
    let modes = [ComputeMode::Default, ComputeMode::ExclusiveProcess, ComputeMode::Prohibited];
    let before = modes.into_iter().find(|mode| word(*mode) == text).unwrap_or(ComputeMode::Default);
    nvml.set_compute_mode(gpu, before).map_err(HoldError::Set)?;
    forget(&record);
    Ok(Some(before))
}

fn path(folder: &Path, gpu: &GpuUuid) -> PathBuf {
    folder.join(format!("{gpu}.compute-mode"))
}

/// A mode as it stands in the file and in messages.
#[must_use]
pub const fn word(mode: ComputeMode) -> &'static str {
    match mode {
        ComputeMode::Default => "default",
        ComputeMode::ExclusiveProcess => "exclusive-process",
        ComputeMode::Prohibited => "prohibited",
    }
}

fn forget(record: &Path) {
    if let Err(error) = std::fs::remove_file(record) {
        tracing::warn!(%error, path = %record.display(), "a compute mode that was put back is put back once more by the next run");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotenant_model::GpuReader as _;
    use cotenant_testkit::nvml;

    #[test]
    fn the_mode_is_put_back_at_the_end_and_by_the_run_after_one_that_was_killed() {
        let uuid = "GPU-00000000-9999-8888-7777-666666666666";
        let library = nvml::Scenario::of(nvml::Gpu::hopper(uuid)).install().expect("simulated NVML");
        let folder = tempfile::tempdir().expect("folder");
        let mut nvml = Nvml::load(library.path()).expect("opened");
        let now = |nvml: &Nvml| nvml.gpus().expect("listed")[0].compute_mode;
        let gpu = nvml.gpus().expect("listed").remove(0);
        let other = Nvml::load(library.path()).expect("opened again");

        let hold = Hold::with(other, &gpu, folder.path()).expect("allowed").expect("changed");
        assert_eq!(now(&nvml), Some(ComputeMode::ExclusiveProcess));
        let record = std::fs::read(&hold.record).expect("what it was is kept");
        let place = hold.record.clone();
        drop(hold);
        assert_eq!(now(&nvml), Some(ComputeMode::Default));
        assert_eq!(restore(&gpu.uuid, folder.path(), &mut nvml).expect("nothing to do"), None);

        nvml.set_compute_mode(&gpu.uuid, ComputeMode::ExclusiveProcess).expect("as a killed run leaves it");
        std::fs::write(place, record).expect("left behind");
        assert_eq!(restore(&gpu.uuid, folder.path(), &mut nvml).expect("put back"), Some(ComputeMode::Default));
        assert_eq!(now(&nvml), Some(ComputeMode::Default));
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
    }
}
