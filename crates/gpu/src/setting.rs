//! The one setting of a GPU that can be changed here: its compute mode.

use cotenant_model::GpuUuid;
use cotenant_model::gpu::ComputeMode;
use nvml_wrapper::enum_wrappers::device::ComputeMode as NvmlComputeMode;
use nvml_wrapper::error::NvmlError;

use crate::reader::{Nvml, ReadError};

/// Why the compute mode is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// The GPU is unknown or lost.
    #[error("cannot reach the GPU")]
    Gpu(#[from] ReadError),
    /// The driver refused; setting it takes root.
    #[error("cannot set the compute mode of {gpu} (it takes root)")]
    Refused {
        /// The GPU.
        gpu: GpuUuid,
        /// What the driver answered.
        #[source]
        source: NvmlError,
    },
}

impl Nvml {
    /// Sets a GPU's compute mode. Processes that run keep their contexts; the mode lasts until it is set again or the driver
    /// is unloaded.
    ///
    /// # Errors
    /// When the GPU is unknown or the driver refuses.
    pub fn set_compute_mode(&mut self, gpu: &GpuUuid, mode: ComputeMode) -> Result<(), SettingError> {
        let mode = match mode {
            ComputeMode::Default => NvmlComputeMode::Default,
            ComputeMode::ExclusiveProcess => NvmlComputeMode::ExclusiveProcess,
            ComputeMode::Prohibited => NvmlComputeMode::Prohibited,
        };
        self.ask(gpu, |device| {
            device.set_compute_mode(mode).map_err(|source| SettingError::Refused { gpu: gpu.clone(), source })
        })
    }
}
