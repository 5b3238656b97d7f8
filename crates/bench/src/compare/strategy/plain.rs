//! The driver's default: one process alone, or whole-GPU time slices in turn.

use cotenant_model::gpu::ComputeMode;
use cotenant_model::workload::Tenant;
use cotenant_mps::environment_without_daemon;

use super::{Site, Stage, Strategy, StrategyError};

/// No daemon, no setting.
#[derive(Debug)]
pub(super) struct Plain {
    /// Whether several tenants run at once.
    pub(super) shared: bool,
}

#[derive(Debug)]
struct PlainStage {
    environment: Vec<(String, String)>,
}

impl Strategy for Plain {
    fn refusal(&self, site: &Site, tenants: &[Tenant]) -> Option<String> {
        if site.gpu.mig == Some(true) {
            return Some("MIG mode is on, so no process can have the whole GPU; use mig:PROFILE arms".to_owned());
        }
        let alone = site.gpu.compute_mode == Some(ComputeMode::ExclusiveProcess);
        (self.shared && alone && tenants.len() > 1)
            .then(|| "the GPU's compute mode is exclusive-process: it takes one process at a time".to_owned())
    }

    fn begin(&self, site: &Site) -> Result<Box<dyn Stage>, StrategyError> {
        Ok(Box::new(PlainStage { environment: environment_without_daemon(&site.gpu.uuid) }))
    }
}

impl Stage for PlainStage {
    fn environment(&self, _position: usize, _tenant: &Tenant) -> Vec<(String, String)> {
        self.environment.clone()
    }
}
