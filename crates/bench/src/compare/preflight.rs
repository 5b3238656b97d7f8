//! What is looked at before the first pass: whether the tenants fit, who else is on the GPU, which arms can run.

use cotenant_model::gpu::Gpu;
use cotenant_model::workload::Tenant;
use cotenant_model::{Arm, Bytes};

use super::strategy::{self, Site};

/// Device memory that a kernel tenant's process takes beside its buffers: CUDA context, module and graph.
///
/// NVML shows it on an H200 with driver 580: 524 MiB for a decoder alone or under time slicing (2,876 MiB with 2,352 MiB of
/// weights), 522 MiB for a client of MPS, whose server takes 66 MiB once more. The driver makes a client's smaller where a
/// percentage leaves it fewer multiprocessors (280 MiB at 50 %, 150 MiB at 25 %); no other card has been seen.
pub(super) const CONTEXT: Bytes = Bytes::mebibytes(524);

/// What a tenant's memory limit leaves above its buffers and [`CONTEXT`] where the workload states none: 1 GiB in all, with
/// which decoders on an H200 did the same work as without a limit.
const ROOM: Bytes = Bytes::mebibytes(500);

/// What a tenant may take under a memory limit: its stated `memory`, else a kernel's buffers, context and some room; `None`
/// where neither is known.
pub(super) fn memory_limit(tenant: &Tenant) -> Option<Bytes> {
    let needed = |buffers: Bytes| Bytes(buffers.0.saturating_add(CONTEXT.0).saturating_add(ROOM.0));
    tenant.memory.or_else(|| tenant.expected_memory().map(needed))
}

/// More memory is wanted than the GPU has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tenants together need {wanted} of device memory ({detail}), and {gpu} has {total}")]
pub struct TooLarge {
    /// Buffers and contexts of all tenants.
    pub wanted: Bytes,
    /// What each needs.
    pub detail: String,
    /// The GPU's name.
    pub gpu: String,
    /// Its memory.
    pub total: Bytes,
}

/// Checks that the tenants whose sizes are known fit on the GPU at once.
///
/// # Errors
/// When they do not.
pub(super) fn memory(gpu: &Gpu, tenants: &[Tenant]) -> Result<(), TooLarge> {
    let needs: Vec<(&str, Bytes)> = tenants
        .iter()
        .filter_map(|tenant| tenant.expected_memory().map(|buffers| (tenant.name.as_str(), buffers)))
        .map(|(name, buffers)| (name, Bytes(buffers.0.saturating_add(CONTEXT.0))))
        .collect();
    let wanted = Bytes(needs.iter().fold(0, |sum, (_, need)| sum.saturating_add(need.0)));
    if wanted <= gpu.memory {
        return Ok(());
    }
    let detail: Vec<String> = needs.iter().map(|(name, need)| format!("{name} {need}")).collect();
    Err(TooLarge { wanted, detail: detail.join(", "), gpu: gpu.name.clone(), total: gpu.memory })
}

/// Why an arm cannot run here; `None` when it can.
#[must_use]
pub(super) fn refusal(arm: &Arm, site: &Site, tenants: &[Tenant]) -> Option<String> {
    if let Arm::MpsPercent(shares) = arm
        && shares.len() > 1
        && shares.len() != tenants.len()
    {
        return Some(format!("it has {} percentages for {} tenants", shares.len(), tenants.len()));
    }
    strategy::of(arm).refusal(site, tenants)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotenant_model::kernel::Buffer;
    use cotenant_model::workload::{Class, Engine};
    use cotenant_model::{GpuUuid, Kernel};

    fn gpu(memory: Bytes) -> Gpu {
        Gpu {
            compute_capability: Some((7, 5)),
            ..Gpu::new(0, GpuUuid("GPU-simulated".to_owned()), "Simulated T4".to_owned(), memory)
        }
    }

    fn holder(name: &str, size: Bytes) -> Tenant {
        let engine = Engine::Kernel(Kernel::Memory(Buffer { size }));
        Tenant { name: name.to_owned(), class: Class::Standard, engine, load: None, slo: Vec::new(), memory: None }
    }

    #[test]
    fn a_limit_that_nobody_states_holds_buffers_and_context() {
        let mut tenant = holder("a", Bytes::mebibytes(8192));
        assert!(memory_limit(&tenant) > Some(Bytes::mebibytes(8192 + CONTEXT.to_mebibytes())));
        tenant.memory = Some(Bytes::mebibytes(5));
        assert_eq!(memory_limit(&tenant), tenant.memory);
        assert!(memory_limit(&holder("a", Bytes(u64::MAX))).is_some());
    }

    #[test]
    fn tenants_that_do_not_fit_are_refused_with_the_sum() {
        let gpu = gpu(Bytes::mebibytes(15 * 1024));
        let tenants = [holder("a", Bytes::mebibytes(8192)), holder("b", Bytes::mebibytes(8192))];
        let error = memory(&gpu, &tenants).expect_err("17 GiB on 15 GiB");
        assert_eq!(
            error.to_string(),
            "the tenants together need 17 GiB of device memory (a 8.51 GiB, b 8.51 GiB), and Simulated T4 has 15 GiB"
        );
        assert_eq!(memory(&gpu, &tenants[..1]), Ok(()));
        assert!(memory(&gpu, &[holder("a", Bytes(u64::MAX))]).is_err());
    }
}
