//! The caller's pointers and handles.

use std::ffi::{CStr, c_char, c_uint};

use crate::nvml::scenario::{ErrorCode, Gpu, MigDevice};
use crate::nvml::simulation::{Simulation, Target};

/// Where the caller wants an answer written; null is an invalid argument.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    /// Writes the answer.
    pub(super) fn put(self, value: T) -> Result<(), ErrorCode> {
        if self.0.is_null() {
            return Err(ErrorCode::InvalidArgument);
        }
        // SAFETY: the caller of an NVML function passes null or a pointer valid for writes of the documented type.
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// Reads what the caller put there.
    pub(super) fn take(self) -> Result<T, ErrorCode> {
        if self.0.is_null() {
            return Err(ErrorCode::InvalidArgument);
        }
        // SAFETY: the caller of an NVML function passes null or a pointer to an initialized value of the documented type.
        Ok(unsafe { self.0.read() })
    }

    /// Writes a list the way NVML does: too small a buffer is answered with the size that is needed.
    pub(super) fn put_all(self, room: Out<c_uint>, items: &[T]) -> Result<(), ErrorCode> {
        let needed = c_uint::try_from(items.len()).map_err(|_range| ErrorCode::Unknown)?;
        let given = room.take()?;
        room.put(needed)?;
        if needed == 0 {
            return Ok(());
        }
        if given < needed || self.0.is_null() {
            return Err(ErrorCode::InsufficientSize);
        }
        // SAFETY: the caller says that there is room for `given` items, which is enough for all of them.
        unsafe { self.0.copy_from_nonoverlapping(items.as_ptr(), items.len()) };
        Ok(())
    }
}

impl Out<c_char> {
    /// Writes a text of C into a buffer of `length` characters.
    pub(super) fn put_text(self, length: c_uint, text: &str) -> Result<(), ErrorCode> {
        let bytes: Vec<c_char> = text.bytes().chain([0]).map(u8::cast_signed).collect();
        let room = usize::try_from(length).map_err(|_range| ErrorCode::InvalidArgument)?;
        if self.0.is_null() {
            return Err(ErrorCode::InvalidArgument);
        }
        if room < bytes.len() {
            return Err(ErrorCode::InsufficientSize);
        }
        // SAFETY: the caller says that there is room for `length` characters, which is enough.
        unsafe { self.0.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }
}

/// A text of the caller.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Text(*const c_char);

impl Text {
    /// The text, where it is one.
    pub(super) fn read(self) -> Result<String, ErrorCode> {
        if self.0.is_null() {
            return Err(ErrorCode::InvalidArgument);
        }
        // SAFETY: the caller of an NVML function passes null or a text that ends with a zero.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map(str::to_owned).map_err(|_utf8| ErrorCode::InvalidArgument)
    }
}

/// A device handle: the GPU's position from 1 in the upper bits, the MIG device's from 1 in the lower 16 (0: the GPU).
///
/// It stands in for NVML's opaque pointer, which is as wide; it is never followed.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device(pub(super) usize);

impl From<Target> for Device {
    fn from(target: Target) -> Self {
        match target {
            Target::Gpu(gpu) => Self((gpu + 1) << 16),
            Target::Mig(gpu, device) => Self(((gpu + 1) << 16) | (device + 1)),
        }
    }
}

impl Device {
    /// What the handle stands for.
    pub(super) fn target(self) -> Result<Target, ErrorCode> {
        let gpu = (self.0 >> 16).checked_sub(1).ok_or(ErrorCode::InvalidArgument)?;
        Ok((self.0 & 0xffff).checked_sub(1).map_or(Target::Gpu(gpu), |device| Target::Mig(gpu, device)))
    }

    /// The position of a whole GPU; a MIG device cannot do what is asked for.
    pub(super) fn position(self) -> Result<usize, ErrorCode> {
        match self.target()? {
            Target::Gpu(gpu) => Ok(gpu),
            Target::Mig(..) => Err(ErrorCode::NotSupported),
        }
    }

    /// The GPU; a MIG device cannot do what is asked for.
    pub(super) fn gpu(self, simulation: &Simulation) -> Result<&Gpu, ErrorCode> {
        simulation.gpu_at(self.position()?)
    }

    /// The GPU of the handle with the MIG device, where it is one.
    pub(super) fn resolve(self, simulation: &Simulation) -> Result<(&Gpu, Option<&MigDevice>), ErrorCode> {
        match self.target()? {
            Target::Gpu(position) => Ok((simulation.gpu_at(position)?, None)),
            Target::Mig(position, device) => {
                let gpu = simulation.gpu_at(position)?;
                let device =
                    gpu.mig.as_ref().and_then(|mig| mig.devices.get(device)).ok_or(ErrorCode::InvalidArgument)?;
                Ok((gpu, Some(device)))
            }
        }
    }
}

/// A figure the scenario leaves out is not supported.
pub(super) fn supported<T>(figure: Option<T>) -> Result<T, ErrorCode> {
    figure.ok_or(ErrorCode::NotSupported)
}
