//! The caller's pointers and handles.

use std::ffi::{CStr, c_char, c_uint};

use crate::nvml::scenario::{ComputeInstance, ErrorCode, Gpu, GpuInstance, MigProfile, Process};
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

    /// Whether the caller wants nothing written.
    pub(super) const fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Writes a list whose room the caller does not tell, as with NVML's lists of instances: it made room for all there can be.
    pub(super) fn put_some(self, count: Out<c_uint>, items: &[T]) -> Result<(), ErrorCode> {
        count.put(c_uint::try_from(items.len()).map_err(|_range| ErrorCode::Unknown)?)?;
        if items.is_empty() {
            return Ok(());
        }
        if self.0.is_null() {
            return Err(ErrorCode::InvalidArgument);
        }
        // SAFETY: the caller has room for as many items as the profile's `instanceCount`, which no list exceeds.
        unsafe { self.0.copy_from_nonoverlapping(items.as_ptr(), items.len()) };
        Ok(())
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

impl<T: Copy> Out<T> {
    /// The caller's items, changed one by one.
    pub(super) fn each(self, count: usize, mut change: impl FnMut(&mut T)) -> Result<(), ErrorCode> {
        for position in 0..count {
            // The pointer is never followed where it is null: `take` refuses it.
            let item = Self(self.0.wrapping_add(position));
            let mut value = if self.0.is_null() { Err(ErrorCode::InvalidArgument) } else { item.take() }?;
            change(&mut value);
            item.put(value)?;
        }
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

/// A handle of a GPU, of a GPU instance, of a compute instance or of a MIG device (which has its compute instance's): the
/// GPU's position from 1 in the upper bits, the ids of the instances from 1 in 16 bits each.
///
/// It stands in for NVML's opaque pointer, which is as wide; it is never followed.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device(pub(super) usize);

impl From<Target> for Device {
    fn from(target: Target) -> Self {
        let id = |id: u32| usize::try_from(id).map_or(0xffff, |id| (id + 1) & 0xffff);
        match target {
            Target::Gpu(gpu) => Self((gpu + 1) << 32),
            Target::Mig(gpu, instance, compute) => Self(((gpu + 1) << 32) | (id(instance) << 16) | id(compute)),
        }
    }
}

impl Device {
    /// The handle of a GPU instance.
    pub(super) fn instance(gpu: usize, instance: u32) -> Self {
        let Self(whole) = Target::Mig(gpu, instance, 0).into();
        Self(whole & !0xffff)
    }

    /// The GPU's position, and the ids of the instances that the handle names.
    pub(super) fn parts(self) -> Result<(usize, Option<u32>, Option<u32>), ErrorCode> {
        let id = |bits: usize| u32::try_from(bits & 0xffff).ok().and_then(|id| id.checked_sub(1));
        let gpu = (self.0 >> 32).checked_sub(1).ok_or(ErrorCode::InvalidArgument)?;
        Ok((gpu, id(self.0 >> 16), id(self.0)))
    }

    /// What the handle of a device stands for.
    pub(super) fn target(self) -> Result<Target, ErrorCode> {
        match self.parts()? {
            (gpu, None, None) => Ok(Target::Gpu(gpu)),
            (gpu, Some(instance), Some(compute)) => Ok(Target::Mig(gpu, instance, compute)),
            _ => Err(ErrorCode::InvalidArgument),
        }
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
    pub(super) fn resolve(self, simulation: &Simulation) -> Result<(&Gpu, Option<MigDevice<'_>>), ErrorCode> {
        match self.target()? {
            Target::Gpu(position) => Ok((simulation.gpu_at(position)?, None)),
            Target::Mig(position, instance, compute) => {
                let gpu = simulation.gpu_at(position)?;
                let device = MigDevice::find(gpu, instance, compute).ok_or(ErrorCode::InvalidArgument)?;
                Ok((gpu, Some(device)))
            }
        }
    }
}

/// A MIG device: a compute instance with its GPU instance and that one's profile.
#[derive(Debug, Clone, Copy)]
pub(super) struct MigDevice<'a> {
    pub(super) profile: &'a MigProfile,
    pub(super) instance: &'a GpuInstance,
    pub(super) compute: &'a ComputeInstance,
}

impl<'a> MigDevice<'a> {
    fn find(gpu: &'a Gpu, instance: u32, compute: u32) -> Option<Self> {
        let mig = gpu.mig.as_ref()?;
        let (instance, compute) = mig.devices().find(|(found, device)| found.id == instance && device.id == compute)?;
        Some(Self { profile: mig.profile(instance.profile)?, instance, compute })
    }

    /// Whether a process runs on it.
    pub(super) fn has(&self, process: &Process) -> bool {
        process.instance == Some((self.instance.id, self.compute.id))
    }
}

/// A figure the scenario leaves out is not supported.
pub(super) fn supported<T>(figure: Option<T>) -> Result<T, ErrorCode> {
    figure.ok_or(ErrorCode::NotSupported)
}
