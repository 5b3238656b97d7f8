//! Who is on a GPU, from the driver's three lists and its utilisation buffer.

use std::collections::BTreeMap;
use std::time::SystemTime;

use cotenant_model::gpu::{GpuProcess, ProcessList};
use cotenant_model::{Bytes, GpuUuid};
use nvml_wrapper::Device;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::{ProcessInfo, ProcessUtilizationSample};

use crate::reader::{ReadError, failed, optional};

/// How old a utilisation sample may be. The driver keeps minutes of them, dead processes included; `nvitop` asks for 1 s and
/// `nvidia-smi pmon` prints one a second.
const FRESH_MICROSECONDS: u64 = 2_000_000;

/// Processes on a GPU by pid, each once.
pub(crate) fn processes(device: &Device<'_>, gpu: &GpuUuid) -> Result<Vec<GpuProcess>, ReadError> {
    let wrong = |source| failed("the compute processes", &gpu.0, source);
    let compute = list(|| device.running_compute_processes()).map_err(wrong)?;
    let mps = optional(list(|| device.mps_running_compute_processes()), gpu)?.unwrap_or_default();
    let graphics = optional(list(|| device.running_graphics_processes()), gpu)?.unwrap_or_default();
    let mut merged = BTreeMap::new();
    // The later list wins: a client stands in the compute list too, and one process may have both kinds of context.
    for (list, entries) in
        [(ProcessList::Graphics, graphics), (ProcessList::Compute, compute), (ProcessList::MpsClient, mps)]
    {
        entries.iter().for_each(|entry| add(&mut merged, list, entry));
    }
    let since = wall_clock_microseconds().saturating_sub(FRESH_MICROSECONDS);
    if let Some(samples) = utilization(device, gpu, since)? {
        apply(&mut merged, &samples, since);
    }
    Ok(merged.into_values().collect())
}

/// Reads a list again when it grew between counting and reading.
fn list(read: impl Fn() -> Result<Vec<ProcessInfo>, NvmlError>) -> Result<Vec<ProcessInfo>, NvmlError> {
    const ATTEMPTS: usize = 3;
    for _ in 1..ATTEMPTS {
        match read() {
            Err(NvmlError::InsufficientSize(_)) => {}
            answer => return answer,
        }
    }
    read()
}

fn add(merged: &mut BTreeMap<u32, GpuProcess>, list: ProcessList, entry: &ProcessInfo) {
    let memory = match entry.used_gpu_memory {
        UsedGpuMemory::Unavailable => None,
        UsedGpuMemory::Used(bytes) => Some(Bytes(bytes)),
    };
    let known = merged.get(&entry.pid).and_then(|process| process.memory);
    let process = GpuProcess { pid: entry.pid, memory: memory.or(known), list, sm_utilization: None };
    merged.insert(entry.pid, process);
}

/// The utilisation samples since a time of the wall clock; `None` where the GPU has none, which is so in MIG mode.
fn utilization(
    device: &Device<'_>,
    gpu: &GpuUuid,
    since: u64,
) -> Result<Option<Vec<ProcessUtilizationSample>>, ReadError> {
    match device.process_utilization_stats(since) {
        // The driver's way of saying that every process was idle.
        Err(NvmlError::NotFound) => Ok(Some(Vec::new())),
        answer => optional(answer, gpu),
    }
}

/// Gives each process its newest sample. One without any was idle, except under MPS, where the driver tells the server's
/// alone and a client's is unknown.
fn apply(merged: &mut BTreeMap<u32, GpuProcess>, samples: &[ProcessUtilizationSample], since: u64) {
    for process in merged.values_mut() {
        // Real drivers hand out samples older than asked for.
        let fresh = samples.iter().filter(|sample| sample.pid == process.pid && sample.timestamp >= since);
        process.sm_utilization = match fresh.max_by_key(|sample| sample.timestamp) {
            // Values near 2^31 have been seen on real drivers.
            Some(sample) => Some(sample.sm_util).filter(|percent| *percent <= 100),
            None => (process.list != ProcessList::MpsClient).then_some(0),
        };
    }
}

#[expect(clippy::disallowed_methods, reason = "the driver stamps its utilisation samples with the wall clock")]
fn wall_clock_microseconds() -> u64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
