//! One MIG instance a tenant, where such instances exist already; layouts are never changed here.

use cotenant_model::GpuUuid;
use cotenant_model::workload::Tenant;
use cotenant_mps::environment_without_daemon;

use super::{Site, Stage, Strategy, StrategyError, already_running};

/// Instances of one profile.
#[derive(Debug)]
pub(super) struct Mig {
    pub(super) profile: String,
}

#[derive(Debug)]
struct MigStage {
    environments: Vec<Vec<(String, String)>>,
}

impl Mig {
    fn instances<'a>(&'a self, site: &'a Site) -> impl Iterator<Item = &'a GpuUuid> {
        site.gpu.mig_devices.iter().filter(|device| device.profile == self.profile).map(|device| &device.uuid)
    }
}

impl Strategy for Mig {
    fn refusal(&self, site: &Site, tenants: &[Tenant]) -> Option<String> {
        let there = self.instances(site).count();
        let running = already_running(tenants);
        match site.gpu.mig {
            None => Some(format!("{} has no MIG", site.gpu.name)),
            Some(false) => {
                Some("MIG mode is off; create instances first (this command changes no GPU setting)".to_owned())
            }
            Some(true) if there < tenants.len() => {
                Some(format!("{there} instances of {} exist for {} tenants", self.profile, tenants.len()))
            }
            Some(true) if !running.is_empty() => {
                Some(format!("the server of {} runs already; give it a `command`", running.join(", ")))
            }
            Some(true) => None,
        }
    }

    fn begin(&self, site: &Site) -> Result<Box<dyn Stage>, StrategyError> {
        let environments = self.instances(site).map(environment_without_daemon).collect();
        Ok(Box::new(MigStage { environments }))
    }
}

impl Stage for MigStage {
    fn environment(&self, position: usize, _tenant: &Tenant) -> Vec<(String, String)> {
        self.environments.get(position).cloned().unwrap_or_default()
    }
}
