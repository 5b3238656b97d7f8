//! The driver's default: one process alone, or whole-GPU time slices in turn.

use cotenant_model::workload::Tenant;
use cotenant_mps::environment_without_daemon;

use super::{Site, Stage, Strategy, StrategyError};

/// No daemon, no setting.
#[derive(Debug)]
pub(super) struct Plain;

#[derive(Debug)]
struct PlainStage {
    environment: Vec<(String, String)>,
}

impl Strategy for Plain {
    fn refusal(&self, site: &Site, _tenants: &[Tenant]) -> Option<String> {
        (site.gpu.mig == Some(true))
            .then(|| "MIG mode is on, so no process can have the whole GPU; use mig:PROFILE arms".to_owned())
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
