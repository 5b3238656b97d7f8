//! Which of the driver's processes belong to a tenant: its own and those it started.

use cotenant_model::Bytes;
use cotenant_model::gpu::GpuProcess;

/// Device memory of a tenant's process and its family; `None` when the driver names none of them or not their memory.
///
/// The driver names host process ids; inside a container without the host's id space none matches, and the answer is `None`.
pub(super) fn device_memory(tenant: u32, processes: &[GpuProcess]) -> Option<Bytes> {
    let family = cotenant_mps::family(tenant);
    let sizes = processes.iter().filter(|process| family.contains(&process.pid)).filter_map(|process| process.memory);
    sizes.reduce(|sum, size| Bytes(sum.0 + size.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotenant_model::gpu::ProcessList;

    fn process(pid: u32, memory: Option<Bytes>) -> GpuProcess {
        GpuProcess { pid, memory, list: ProcessList::Compute, sm_utilization: None }
    }

    #[test]
    fn memory_nobody_states_is_not_zero() {
        let me = std::process::id();
        assert_eq!(device_memory(me, &[process(me, None)]), None);
        assert_eq!(device_memory(me, &[process(me, Some(Bytes(7))), process(1, Some(Bytes(5)))]), Some(Bytes(7)));
    }
}
