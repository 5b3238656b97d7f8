//! GPM: two samples, then metrics between them.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlGpmMetric_t, nvmlGpmMetricsGet_t, nvmlGpmSupport_t};

use super::pointer::{Device, Out, supported};
use crate::nvml::scenario::{ErrorCode, Monitoring};
use crate::nvml::simulation::{Simulation, now};

exports! {
    "nvmlGpmQueryDeviceSupport" => fn support(device: Device, support: Out<nvmlGpmSupport_t>) |simulation| {
        let version = support.take()?.version;
        let is_supported = device.gpu(simulation)?.monitoring.is_some();
        support.put(nvmlGpmSupport_t { version, isSupportedDevice: is_supported.into() })
    };
    "nvmlGpmSampleAlloc" => fn allocate(sample: Out<usize>) |simulation| {
        let handle = simulation.new_handle();
        simulation.monitoring_samples.insert(handle, None);
        sample.put(handle)
    };
    "nvmlGpmSampleFree" => fn free(sample: usize) |simulation|
        simulation.monitoring_samples.remove(&sample).map(drop).ok_or(ErrorCode::InvalidArgument);
    "nvmlGpmSampleGet" => fn take(device: Device, sample: usize) |simulation| {
        let figures = *supported(device.gpu(simulation)?.monitoring.as_ref())?;
        let slot = simulation.monitoring_samples.get_mut(&sample).ok_or(ErrorCode::InvalidArgument)?;
        *slot = Some((now(), figures));
        Ok(())
    };
    "nvmlGpmMetricsGet" => fn metrics(request: Out<nvmlGpmMetricsGet_t>) |simulation| {
        let mut answer = request.take()?;
        let figures = between(simulation, answer.sample1.addr(), answer.sample2.addr())?;
        let wanted = usize::try_from(answer.numMetrics).map_err(|_range| ErrorCode::InvalidArgument)?;
        for metric in answer.metrics.iter_mut().take(wanted) {
            fill(metric, &figures);
        }
        request.put(answer)
    };
}

/// The figures of the later sample, which must have been taken after the earlier one.
fn between(simulation: &Simulation, earlier: usize, later: usize) -> Result<Monitoring, ErrorCode> {
    let taken =
        |handle| simulation.monitoring_samples.get(&handle).copied().flatten().ok_or(ErrorCode::InvalidArgument);
    let ((start, _), (end, figures)) = (taken(earlier)?, taken(later)?);
    if start < end { Ok(figures) } else { Err(ErrorCode::InvalidArgument) }
}

const fn fill(metric: &mut nvmlGpmMetric_t, figures: &Monitoring) {
    const SUCCESS: c_uint = 0;
    metric.nvmlReturn = SUCCESS;
    metric.value = match metric.metricId {
        2 => figures.sm_activity,
        3 => figures.sm_occupancy,
        5 => figures.tensor_activity,
        10 => figures.memory_bandwidth,
        _ => {
            metric.nvmlReturn = ErrorCode::NotSupported as c_uint;
            0.0
        }
    };
}
