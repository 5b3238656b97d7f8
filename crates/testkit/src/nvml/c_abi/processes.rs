//! Processes on a GPU.

use std::ffi::{c_uint, c_ulonglong};
use std::time::SystemTime;

use nvml_wrapper_sys::bindings::{nvmlProcessInfo_t, nvmlProcessUtilizationSample_t};

use super::pointer::{Device, Out};
use crate::nvml::scenario::{ErrorCode, Gpu, Process, ProcessList};
use crate::nvml::simulation::Simulation;

exports! {
    "nvmlDeviceGetComputeRunningProcesses_v3" => fn compute(device: Device, room: Out<c_uint>, list: Out<nvmlProcessInfo_t>)
        |simulation| list.put_all(room, &listed(device, simulation, ProcessList::Compute)?);
    "nvmlDeviceGetGraphicsRunningProcesses_v3" => fn graphics(device: Device, room: Out<c_uint>, list: Out<nvmlProcessInfo_t>)
        |simulation| list.put_all(room, &listed(device, simulation, ProcessList::Graphics)?);
    "nvmlDeviceGetMPSComputeRunningProcesses_v3" => fn mps(device: Device, room: Out<c_uint>, list: Out<nvmlProcessInfo_t>)
        |simulation| list.put_all(room, &listed(device, simulation, ProcessList::Mps)?);
    "nvmlDeviceGetProcessUtilization" => fn utilization(
        device: Device, list: Out<nvmlProcessUtilizationSample_t>, room: Out<c_uint>, last_seen: c_ulonglong
    ) |simulation| {
        let gpu = device.gpu(simulation)?;
        if gpu.mig.as_ref().is_some_and(|mig| mig.enabled) {
            return Err(ErrorCode::NotSupported);
        }
        let samples = utilization_after(gpu, last_seen);
        if samples.is_empty() { Err(ErrorCode::NotFound) } else { list.put_all(room, &samples) }
    };
}

/// Stands for "no value" in a field of NVML.
const NO_VALUE: u64 = u64::MAX;
const NO_INSTANCE: u32 = u32::MAX;

/// The processes of a GPU, those on its MIG devices among them, or of one MIG device.
fn listed(device: Device, simulation: &Simulation, list: ProcessList) -> Result<Vec<nvmlProcessInfo_t>, ErrorCode> {
    let (gpu, mig) = device.resolve(simulation)?;
    let there = |process: &&Process| mig.is_none_or(|mig| mig.has(process));
    let named = gpu.processes.iter().filter(|process| process.lists.contains(&list)).filter(there);
    Ok(named.map(entry).collect())
}

fn entry(process: &Process) -> nvmlProcessInfo_t {
    let (instance, compute) = process.instance.unwrap_or((NO_INSTANCE, NO_INSTANCE));
    nvmlProcessInfo_t {
        pid: process.pid,
        usedGpuMemory: process.memory.unwrap_or(NO_VALUE),
        gpuInstanceId: instance,
        computeInstanceId: compute,
    }
}

/// The samples newer than `last_seen`, in microseconds of the wall clock, as the driver stamps them.
fn utilization_after(gpu: &Gpu, last_seen: u64) -> Vec<nvmlProcessUtilizationSample_t> {
    let now = wall_clock_microseconds();
    let samples =
        gpu.processes.iter().flat_map(|process| process.utilization.iter().map(|sample| (process.pid, sample)));
    let entry = |(pid, sample): (u32, &crate::nvml::Utilization)| nvmlProcessUtilizationSample_t {
        pid,
        timeStamp: now.saturating_sub(sample.age_milliseconds * 1_000),
        smUtil: sample.sm,
        memUtil: 0,
        encUtil: 0,
        decUtil: 0,
    };
    samples.map(entry).filter(|sample| gpu.whole_utilization_buffer || sample.timeStamp > last_seen).collect()
}

#[expect(clippy::disallowed_methods, reason = "the driver stamps utilisation samples with the wall clock")]
fn wall_clock_microseconds() -> u64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
