//! Starting, stopping, versions, and finding devices.

use std::ffi::{c_char, c_int, c_uint};

use super::pointer::{Device, Out, Text};
use crate::nvml::scenario::ErrorCode;
use crate::nvml::simulation::Target;

exports! {
    "nvmlInit_v2" => fn init() |simulation| {
        simulation.initialize();
        Ok(())
    };
    "nvmlInitWithFlags" => fn init_with_flags(_flags: c_uint) |simulation| {
        simulation.initialize();
        Ok(())
    };
    "nvmlShutdown" => fn shutdown() |simulation| {
        simulation.shut_down();
        Ok(())
    };
    "nvmlSystemGetDriverVersion" => fn driver_version(version: Out<c_char>, length: c_uint) |simulation|
        version.put_text(length, &simulation.scenario.driver);
    "nvmlSystemGetNVMLVersion" => fn library_version(version: Out<c_char>, length: c_uint) |simulation|
        version.put_text(length, &simulation.scenario.driver);
    "nvmlSystemGetCudaDriverVersion_v2" => fn cuda_version(version: Out<c_int>) |simulation| {
        let (major, minor) = simulation.scenario.cuda;
        version.put(signed(major * 1000 + minor * 10)?)
    };
    "nvmlSystemGetCudaDriverVersion" => fn old_cuda_version(version: Out<c_int>) |simulation| {
        let (major, minor) = simulation.scenario.cuda;
        version.put(signed(major * 1000 + minor * 10)?)
    };
    "nvmlDeviceGetCount_v2" => fn count(count: Out<c_uint>) |simulation|
        count.put(c_uint::try_from(simulation.gpu_count()).map_err(|_range| ErrorCode::Unknown)?);
    "nvmlDeviceGetHandleByIndex_v2" => fn by_index(index: c_uint, device: Out<Device>) |simulation| {
        let position = usize::try_from(index).map_err(|_range| ErrorCode::InvalidArgument)?;
        simulation.gpu_at(position)?;
        device.put(Target::Gpu(position).into())
    };
    "nvmlDeviceGetHandleByUUID" => fn by_uuid(uuid: Text, device: Out<Device>) |simulation| {
        let handle: Device = simulation.find(&uuid.read()?).ok_or(ErrorCode::NotFound)?.into();
        handle.resolve(simulation)?;
        device.put(handle)
    };
}

/// Names an error code; the text is never freed.
#[unsafe(export_name = "nvmlErrorString")]
extern "C" fn error_string(code: c_uint) -> *const c_char {
    let text = match code {
        0 => c"Success",
        1 => c"Uninitialized",
        2 => c"Invalid Argument",
        3 => c"Not Supported",
        4 => c"Insufficient Permissions",
        6 => c"Not Found",
        7 => c"Insufficient Size",
        9 => c"Driver Not Loaded",
        10 => c"Timeout",
        13 => c"Function Not Found",
        15 => c"GPU is lost",
        16 => c"GPU requires reset",
        19 => c"In use by another client",
        23 => c"Insufficient Resources",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

/// The number as C's `int`.
pub(super) fn signed(number: u32) -> Result<c_int, ErrorCode> {
    c_int::try_from(number).map_err(|_range| ErrorCode::Unknown)
}
