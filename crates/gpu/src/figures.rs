//! One reading of a GPU.

use cotenant_model::gpu::GpuSample;
use cotenant_model::{Bytes, GpuUuid};
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::gpm::gpm_metrics_get;
use nvml_wrapper::{Device, GpmSample};

use crate::reader::{ReadError, optional};

/// Reads every cheap figure; energy first, so that the time before the call is the counter's.
pub(crate) fn sample(device: &Device<'_>, gpu: &GpuUuid) -> Result<GpuSample, ReadError> {
    let energy_millijoules = optional(device.total_energy_consumption(), gpu)?;
    let utilization = optional(device.utilization_rates(), gpu)?;
    Ok(GpuSample {
        energy_millijoules,
        power_milliwatts: optional(device.power_usage(), gpu)?,
        gpu_utilization: utilization.as_ref().map(|rates| rates.gpu),
        memory_utilization: utilization.map(|rates| rates.memory),
        memory_used: optional(device.memory_info(), gpu)?.map(|memory| Bytes(memory.used)),
        sm_clock_mhz: optional(device.clock_info(Clock::SM), gpu)?,
        memory_clock_mhz: optional(device.clock_info(Clock::Memory), gpu)?,
        temperature_celsius: optional(device.temperature(TemperatureSensor::Gpu), gpu)?,
        throttle_reasons: optional(device.current_throttle_reasons(), gpu)?.map(reasons),
        ..GpuSample::default()
    })
}

/// NVML's names of the reasons that slow a GPU down; being idle and clocks that were asked for are not among them.
fn reasons(mask: ThrottleReasons) -> Vec<String> {
    const NAMES: [(ThrottleReasons, &str); 6] = [
        (ThrottleReasons::SW_POWER_CAP, "SwPowerCap"),
        (ThrottleReasons::HW_SLOWDOWN, "HwSlowdown"),
        (ThrottleReasons::SYNC_BOOST, "SyncBoost"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "SwThermalSlowdown"),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "HwThermalSlowdown"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "HwPowerBrakeSlowdown"),
    ];
    NAMES.iter().filter(|(reason, _)| mask.contains(*reason)).map(|(_, name)| (*name).to_owned()).collect()
}

/// GPM figures of one GPU, which are the difference of two samples.
#[derive(Debug, Default)]
pub(crate) struct Monitoring {
    /// Whether the GPU has them; asked once.
    supported: Option<bool>,
    previous: Option<GpmSample<'static>>,
}

impl Monitoring {
    /// Forgets a sample of a session that has ended, without giving it back: its handle is dead.
    pub(crate) fn abandon(self) {
        if let Some(previous) = self.previous {
            let _dead = previous.into_handle();
        }
    }

    /// Adds the figures since the previous call; nothing at the first call and on GPUs without GPM.
    pub(crate) fn fill(
        &mut self,
        sample: &mut GpuSample,
        library: &'static nvml_wrapper::Nvml,
        device: &Device<'static>,
    ) {
        let supported = *self.supported.get_or_insert_with(|| device.gpm_support().unwrap_or(false));
        if !supported {
            return;
        }
        let Ok(current) = device.gpm_sample() else { return self.previous = None };
        if let Some(previous) = self.previous.replace(current)
            && let Some(current) = &self.previous
        {
            read_metrics(sample, library, &previous, current);
        }
    }
}

/// Computes the figures between two samples; one that is not a percentage is left out.
fn read_metrics(
    sample: &mut GpuSample,
    library: &'static nvml_wrapper::Nvml,
    previous: &GpmSample<'static>,
    current: &GpmSample<'static>,
) {
    const METRICS: [GpmMetricId; 4] =
        [GpmMetricId::SmUtil, GpmMetricId::SmOccupancy, GpmMetricId::DramBwUtil, GpmMetricId::AnyTensorUtil];
    let Ok(metrics) = gpm_metrics_get(library, previous, current, &METRICS) else { return };
    let mut percentages = metrics.into_iter().map(|metric| percentage(metric.ok()?.value));
    sample.sm_activity = percentages.next().flatten();
    sample.sm_occupancy = percentages.next().flatten();
    sample.memory_bandwidth = percentages.next().flatten();
    sample.tensor_activity = percentages.next().flatten();
}

/// A value between 0 and 100, with room for the driver's rounding.
fn percentage(value: f64) -> Option<f64> {
    (-0.5..=100.5).contains(&value).then(|| value.clamp(0.0, 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idling_and_asked_for_clocks_are_no_reasons() {
        let mask =
            ThrottleReasons::GPU_IDLE | ThrottleReasons::APPLICATIONS_CLOCKS_SETTING | ThrottleReasons::SW_POWER_CAP;
        assert_eq!(reasons(mask), ["SwPowerCap"]);
        assert_eq!(reasons(ThrottleReasons::GPU_IDLE), [""; 0]);
    }

    #[test]
    fn what_is_no_percentage_is_left_out() {
        assert_eq!((percentage(100.2), percentage(-0.1)), (Some(100.0), Some(0.0)));
        assert_eq!((percentage(f64::NAN), percentage(4e9), percentage(-3.0)), (None, None, None));
    }
}
