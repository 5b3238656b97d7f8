//! The primary context of a device.

use std::mem::MaybeUninit;
use std::sync::Arc;

use cotenant_model::Bytes;
use cudarc::driver::{result, sys};

use super::{Named as _, log_failure};
use crate::CudaError;

/// A device's primary context, retained until dropped.
#[derive(Debug)]
pub(crate) struct Context {
    device: sys::CUdevice,
    raw: sys::CUcontext,
}

// SAFETY: a context may be made current on any thread, and the driver locks around its own state.
unsafe impl Send for Context {}
// SAFETY: as above; no method changes the Rust side of it.
unsafe impl Sync for Context {}

/// Loads the driver library and starts it; repeated calls do nothing.
pub(crate) fn start() -> Result<(), CudaError> {
    // SAFETY: opening libcuda runs the driver's own initialisers, which is what opening a device is for.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::LibraryMissing);
    }
    result::init().named("start the driver")
}

/// Devices the driver shows.
pub(crate) fn device_count() -> Result<i32, CudaError> {
    result::device::get_count().named("count devices")
}

/// Newest CUDA version the driver runs, major and minor.
pub(crate) fn driver_version() -> Result<(u32, u32), CudaError> {
    let mut version = 0;
    // SAFETY: the driver writes one integer to a live one.
    let status = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    status.result().named("read the driver's version")?;
    let version = version.unsigned_abs();
    Ok((version / 1000, version % 1000 / 10))
}

/// The UUID of a device, as the driver's tools print it. The second form of the call differs from the first only for a
/// MIG device, where it names the instance rather than its card.
pub(crate) fn uuid(ordinal: i32) -> Result<String, CudaError> {
    let device = result::device::get(ordinal).named("open the device")?;
    let card = result::device::get_uuid(device).named("read the device's UUID")?;
    let mut own = MaybeUninit::<sys::CUuuid>::uninit();
    // SAFETY: the driver writes 16 bytes to a live place of that size.
    let status = unsafe { sys::cuDeviceGetUuid_v2(own.as_mut_ptr(), device) };
    status.result().named("read the device's UUID")?;
    // SAFETY: the call above succeeded, so it was written.
    let own = unsafe { own.assume_init() };
    let prefix = if own.bytes == card.bytes { "GPU" } else { "MIG" };
    Ok(format!("{prefix}-{}", hyphenated(own.bytes.map(std::ffi::c_char::cast_unsigned))))
}

/// 16 bytes as `8-4-4-4-12` hexadecimal digits.
fn hyphenated(bytes: [u8; 16]) -> String {
    let digits = bytes.map(|byte| format!("{byte:02x}")).concat();
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32];
    groups.map(|group| digits.get(group).unwrap_or_default()).join("-")
}

impl Context {
    /// Retains the primary context of a device and makes it current on this thread.
    pub(crate) fn open(ordinal: i32) -> Result<Arc<Self>, CudaError> {
        let device = result::device::get(ordinal).named("open the device")?;
        // SAFETY: the device was just named by the driver.
        let raw = unsafe { result::primary_ctx::retain(device) }.named("create a context")?;
        let context = Arc::new(Self { device, raw });
        context.bind()?;
        Ok(context)
    }

    /// Makes the context current on this thread.
    pub(crate) fn bind(&self) -> Result<(), CudaError> {
        // SAFETY: the context is retained as long as self lives.
        unsafe { result::ctx::set_current(self.raw) }.named("enter the context")
    }

    /// The product name.
    pub(crate) fn name(&self) -> Result<String, CudaError> {
        result::device::get_name(self.device).named("read the device's name")
    }

    /// A number the driver tells about the device.
    pub(crate) fn attribute(&self, attribute: sys::CUdevice_attribute) -> Result<u32, CudaError> {
        // SAFETY: the device was named by the driver.
        let value = unsafe { result::device::get_attribute(self.device, attribute) };
        Ok(value.named("read a device attribute")?.unsigned_abs())
    }

    /// Free and total memory as the driver tells this process.
    pub(crate) fn memory(&self) -> Result<(Bytes, Bytes), CudaError> {
        self.bind()?;
        let (free, total) = result::mem_get_info().named("read free memory")?;
        Ok((Bytes(free as u64), Bytes(total as u64)))
    }

    /// Multiprocessors this context may use, where the driver limits them for it.
    pub(crate) fn affinity(&self) -> Option<u32> {
        self.bind().ok()?;
        let mut affinity = MaybeUninit::<sys::CUexecAffinityParam>::zeroed();
        let kind = sys::CUexecAffinityType::CU_EXEC_AFFINITY_TYPE_SM_COUNT;
        // SAFETY: the driver writes the structure of the kind asked for to a live place of its size.
        unsafe { sys::cuCtxGetExecAffinity(affinity.as_mut_ptr(), kind) }.result().ok()?;
        // SAFETY: zeroes and what the driver wrote are both valid for it.
        let affinity = unsafe { affinity.assume_init() };
        // SAFETY: of the union's members the driver wrote the count, as asked.
        Some(unsafe { affinity.param.smCount.val })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once in `open`, released once here; everything of the context held an Arc of self.
        log_failure("release the context", unsafe { result::primary_ctx::release(self.device) });
    }
}

#[cfg(test)]
mod tests {
    use super::hyphenated;

    #[test]
    fn a_uuid_is_written_as_the_drivers_tools_write_it() {
        let bytes: [u8; 16] = std::array::from_fn(|index| u8::try_from(index * 17).expect("byte"));
        assert_eq!(hyphenated(bytes), "00112233-4455-6677-8899-aabbccddeeff");
    }
}
