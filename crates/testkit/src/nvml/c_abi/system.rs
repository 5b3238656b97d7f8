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

/// The number as C's `int`.
pub(super) fn signed(number: u32) -> Result<c_int, ErrorCode> {
    c_int::try_from(number).map_err(|_range| ErrorCode::Unknown)
}
