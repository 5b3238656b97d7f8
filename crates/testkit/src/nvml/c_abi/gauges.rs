//! What a GPU reads right now.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::nvmlUtilization_t;

use super::pointer::{Device, Out, supported};
use crate::nvml::scenario::{ErrorCode, Gpu};

exports! {
    "nvmlDeviceGetPowerUsage" => fn power(device: Device, power: Out<c_uint>) |simulation|
        power.put(supported(device.gpu(simulation)?.power_milliwatts)?);
    "nvmlDeviceGetTotalEnergyConsumption" => fn energy(device: Device, energy: Out<c_ulonglong>) |simulation|
        energy.put(supported(simulation.energy_of(device.gpu(simulation)?))?);
    "nvmlDeviceGetClockInfo" => fn clock(device: Device, kind: c_uint, clock: Out<c_uint>) |simulation|
        clock.put(clock_of(device.gpu(simulation)?, kind)?);
    "nvmlDeviceGetMaxClockInfo" => fn highest_clock(device: Device, kind: c_uint, clock: Out<c_uint>) |simulation| {
        let gpu = device.gpu(simulation)?;
        clock.put(match kind {
            GRAPHICS_CLOCK | SM_CLOCK => supported(gpu.max_sm_clock_mhz)?,
            MEMORY_CLOCK => supported(gpu.memory_clock_mhz)?,
            _ => return Err(ErrorCode::NotSupported),
        })
    };
    "nvmlDeviceGetTemperature" => fn temperature(device: Device, _sensor: c_uint, celsius: Out<c_uint>) |simulation|
        celsius.put(supported(device.gpu(simulation)?.temperature_celsius)?);
    "nvmlDeviceGetCurrentClocksThrottleReasons" => fn throttle_reasons(device: Device, reasons: Out<c_ulonglong>) |simulation|
        reasons.put(supported(device.gpu(simulation)?.throttle_reasons)?);
    "nvmlDeviceGetCurrentClocksEventReasons" => fn event_reasons(device: Device, reasons: Out<c_ulonglong>) |simulation|
        reasons.put(supported(device.gpu(simulation)?.throttle_reasons)?);
    "nvmlDeviceGetUtilizationRates" => fn utilization(device: Device, rates: Out<nvmlUtilization_t>) |simulation| {
        let (gpu, memory) = supported(device.gpu(simulation)?.utilization)?;
        rates.put(nvmlUtilization_t { gpu, memory })
    };
}

const GRAPHICS_CLOCK: c_uint = 0;
const SM_CLOCK: c_uint = 1;
const MEMORY_CLOCK: c_uint = 2;

fn clock_of(gpu: &Gpu, kind: c_uint) -> Result<u32, ErrorCode> {
    match kind {
        GRAPHICS_CLOCK | SM_CLOCK => supported(gpu.sm_clock_mhz),
        MEMORY_CLOCK => supported(gpu.memory_clock_mhz),
        _ => Err(ErrorCode::NotSupported),
    }
}
