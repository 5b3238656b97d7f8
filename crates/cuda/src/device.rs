//! A GPU as the driver shows it to this process.

use std::sync::Arc;

use cotenant_model::{Bytes, GpuUuid};
use cudarc::driver::sys::CUdevice_attribute as Attribute;

use crate::CudaError;
use crate::driver::{self, Context};

/// A GPU with a context of this process on it.
///
/// Devices are those the driver shows after `CUDA_VISIBLE_DEVICES`; under MPS, those its server shows.
#[derive(Debug)]
pub struct Device {
    context: Arc<Context>,
    name: String,
    uuid: GpuUuid,
    capability: (u32, u32),
    multiprocessors: u32,
    shared_memory: u32,
}

/// Oldest compute capability the kernels are compiled for.
const OLDEST: (u32, u32) = (7, 5);

impl Device {
    /// Opens the device of an ordinal, normally 0.
    ///
    /// # Errors
    /// When the driver library is missing, shows no such device or refuses a context, or the card is older than 7.5.
    pub fn open(ordinal: u32) -> Result<Self, CudaError> {
        driver::start()?;
        let count = driver::device_count()?;
        let unknown = || CudaError::UnknownDevice { wanted: ordinal.to_string(), visible: count.unsigned_abs() };
        let index = i32::try_from(ordinal).ok().filter(|index| *index < count).ok_or_else(unknown)?;
        Self::retain(index)
    }

    /// Opens the device of a UUID, `GPU-…` or `MIG-…`.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_uuid(wanted: &GpuUuid) -> Result<Self, CudaError> {
        driver::start()?;
        let count = driver::device_count()?;
        for index in 0..count {
            if driver::uuid(index)? == wanted.0 {
                return Self::retain(index);
            }
        }
        Err(CudaError::UnknownDevice { wanted: wanted.0.clone(), visible: count.unsigned_abs() })
    }

    fn retain(index: i32) -> Result<Self, CudaError> {
        let context = Context::open(index)?;
        let read = |attribute| context.attribute(attribute);
        let major = read(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = read(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        if (major, minor) < OLDEST {
            return Err(CudaError::DeviceTooOld { capability: (major, minor) });
        }
        Ok(Self {
            name: context.name()?,
            uuid: GpuUuid(driver::uuid(index)?),
            capability: (major, minor),
            multiprocessors: read(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_memory: read(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            context,
        })
    }

    /// Product name, such as `NVIDIA H200`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// UUID, `GPU-…` or `MIG-…`.
    #[must_use]
    pub const fn uuid(&self) -> &GpuUuid {
        &self.uuid
    }

    /// Compute capability, major and minor.
    #[must_use]
    pub const fn compute_capability(&self) -> (u32, u32) {
        self.capability
    }

    /// Streaming multiprocessors by the driver's device attribute; NVIDIA's MPS documentation says that a percentage of
    /// active threads makes it smaller.
    #[must_use]
    pub const fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    /// Streaming multiprocessors this process's context may use (`cuCtxGetExecAffinity`); `None` where the driver does
    /// not say. Driver 580 says 132 on a whole H200, also without MPS, and 66 and 32 for MPS clients at 50 and 25 %.
    #[must_use]
    pub fn usable_multiprocessors(&self) -> Option<u32> {
        self.context.affinity()
    }

    /// Free and total memory as the driver tells this process (`cuMemGetInfo`). Under an MPS memory limit the free part
    /// is what the limit leaves, the total the whole card's.
    ///
    /// # Errors
    /// When the driver refuses, as after a fault.
    pub fn memory(&self) -> Result<(Bytes, Bytes), CudaError> {
        self.context.memory()
    }

    /// Most shared memory a block may have, in bytes.
    pub(crate) const fn shared_memory(&self) -> u32 {
        self.shared_memory
    }

    pub(crate) const fn context(&self) -> &Arc<Context> {
        &self.context
    }
}
