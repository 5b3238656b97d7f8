//! The compute mode of a GPU that MPS shares, and of one that it no longer does.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cotenant_gpu::{Nvml, OpenError, ReadError, SettingError};
use cotenant_model::gpu::ComputeMode;
use cotenant_model::{GpuReader as _, GpuUuid};

use super::record::{Record, RecordError};

/// Why a compute mode is not as wanted.
#[derive(Debug, thiserror::Error)]
pub(super) enum ModeError {
    /// There is no driver library.
    #[error("the compute mode cannot be set (`cotenant.mps.compute-mode: keep` leaves it alone): {}", .0.fix())]
    Open(#[source] OpenError),
    /// The driver does not tell the GPUs.
    #[error("the compute mode cannot be read")]
    Read(#[source] ReadError),
    /// There is no such GPU, or it has no compute mode.
    #[error("GPU {gpu} has no compute mode that could be set")]
    None {
        /// The GPU.
        gpu: GpuUuid,
    },
    /// The driver refuses.
    #[error("the compute mode cannot be set (`cotenant.mps.compute-mode: keep` leaves it alone)")]
    Set(#[source] SettingError),
    /// What it was cannot be written down, so it is not changed.
    #[error("the compute mode is left as it is")]
    Record(#[source] RecordError),
}

/// Sets compute modes and remembers what they were.
#[derive(Debug)]
pub(super) struct Modes {
    library: Option<PathBuf>,
    driver: Mutex<Option<Nvml>>,
}

impl Modes {
    pub(super) const fn new(library: Option<PathBuf>) -> Self {
        Self { library, driver: Mutex::new(None) }
    }

    /// Makes the mode of a GPU exclusive-process, having written down what it was.
    ///
    /// # Errors
    /// When that cannot be written down, or the driver refuses.
    pub(super) fn occupy(&self, gpu: &GpuUuid, record: &Mutex<Record>) -> Result<(), ModeError> {
        let before = self.read(gpu)?;
        let known = {
            let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
            let known = record.content().modes.contains_key(gpu);
            record
                .change(|content| {
                    content.modes.entry(gpu.clone()).or_insert(before);
                })
                .map_err(ModeError::Record)?;
            known
        };
        if before == ComputeMode::ExclusiveProcess {
            return Ok(());
        }
        let set = self.set(gpu, ComputeMode::ExclusiveProcess);
        if set.is_err() && !known {
            forget(gpu, record);
        }
        set
    }

    /// Puts the mode of a GPU back, where it was changed.
    ///
    /// # Errors
    /// When the driver refuses; it is tried again by the next keeper.
    pub(super) fn release(&self, gpu: &GpuUuid, record: &Mutex<Record>) -> Result<(), ModeError> {
        let before = record.lock().unwrap_or_else(PoisonError::into_inner).content().modes.get(gpu).copied();
        let Some(before) = before else { return Ok(()) };
        if self.read(gpu)? != before {
            self.set(gpu, before)?;
        }
        forget(gpu, record);
        Ok(())
    }

    fn read(&self, gpu: &GpuUuid) -> Result<ComputeMode, ModeError> {
        let gpus = self.with_driver(|driver| driver.gpus().map_err(ModeError::Read))?;
        let mode = gpus.into_iter().find(|one| one.uuid == *gpu).and_then(|one| one.compute_mode);
        mode.ok_or_else(|| ModeError::None { gpu: gpu.clone() })
    }

    fn set(&self, gpu: &GpuUuid, mode: ComputeMode) -> Result<(), ModeError> {
        self.with_driver(|driver| driver.set_compute_mode(gpu, mode).map_err(ModeError::Set))?;
        tracing::info!(%gpu, ?mode, "compute mode");
        Ok(())
    }

    /// The driver, opened at its first use: a keeper without compute modes to set needs none.
    fn with_driver<T>(&self, ask: impl FnOnce(&mut Nvml) -> Result<T, ModeError>) -> Result<T, ModeError> {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *driver {
            Some(driver) => ask(driver),
            None => {
                let opened = self.library.as_ref().map_or_else(Nvml::open, Nvml::load);
                ask(driver.insert(opened.map_err(ModeError::Open)?))
            }
        }
    }
}

fn forget(gpu: &GpuUuid, record: &Mutex<Record>) {
    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = record.change(|content| content.modes.retain(|one, _| one != gpu)) {
        tracing::warn!(%gpu, error = &error as &dyn std::error::Error, "the compute mode was put back but that cannot be recorded");
    }
}
