//! Sharing strategies, one file each: what an arm needs on the GPU before its tenants start, and what it gives each tenant.

mod mig;
mod mps;
mod plain;

use std::path::PathBuf;

use cotenant_model::Arm;
use cotenant_model::gpu::Gpu;
use cotenant_model::workload::{Engine, Tenant};
use cotenant_mps::{Daemon, Settings};

use super::hold::{Hold, HoldError};

/// Where a comparison runs.
#[derive(Debug, Clone)]
pub struct Site {
    /// The GPU.
    pub gpu: Gpu,
    /// Folder of this run for the logs of servers.
    pub directory: PathBuf,
    /// Register of the processes that must not outlive the run.
    pub registry: cotenant_mps::Registry,
    /// Whether the compute mode may be `exclusive-process` while MPS runs.
    pub exclusive: bool,
}

impl Site {
    /// Starts an MPS daemon with its server, in `exclusive-process` where that is allowed.
    pub(super) fn start_mps(&self) -> Result<(Daemon, Option<Hold>), StrategyError> {
        let hold = if self.exclusive { Hold::exclusive(&self.gpu, self.registry.root().path()) } else { Ok(None) };
        let hold = hold.map_err(StrategyError::Hold)?;
        let settings = Settings::new(self.gpu.uuid.clone(), &self.registry).map_err(StrategyError::Mps)?;
        let mut daemon = Daemon::start(settings, &self.registry).map_err(StrategyError::Mps)?;
        daemon.start_server().map_err(StrategyError::Mps)?;
        Ok((daemon, hold))
    }
}

/// A strategy that did not come up.
#[derive(Debug, thiserror::Error)]
pub(super) enum StrategyError {
    /// MPS.
    #[error("could not start MPS")]
    Mps(#[source] cotenant_mps::MpsError),
    /// The compute mode.
    #[error("could not prepare the GPU for MPS")]
    Hold(#[source] HoldError),
}

/// One way to share the GPU.
pub(super) trait Strategy {
    /// Why this arm cannot run here, with the fix; `None` when it can.
    fn refusal(&self, site: &Site, tenants: &[Tenant]) -> Option<String>;

    /// Sets the GPU up for tenants.
    ///
    /// # Errors
    /// When that fails; nothing is left behind then.
    fn begin(&self, site: &Site) -> Result<Box<dyn Stage>, StrategyError>;
}

/// A GPU that is set up for tenants; dropping it takes everything down.
pub(super) trait Stage: std::fmt::Debug {
    /// Environment of the tenant at `position`.
    fn environment(&self, position: usize, tenant: &Tenant) -> Vec<(String, String)>;

    /// What is wrong under the feet of `running` tenants, such as an MPS server in FAULT; `None` when all is well.
    fn trouble(&mut self, _running: usize) -> Option<String> {
        None
    }
}

/// The strategy of an arm.
#[must_use]
pub(super) fn of(arm: &Arm) -> Box<dyn Strategy> {
    match arm {
        Arm::Solo | Arm::TimeSlicing => Box::new(plain::Plain { shared: *arm == Arm::TimeSlicing }),
        Arm::Mps | Arm::MpsPercent(_) | Arm::MpsMemory => Box::new(mps::Mps { arm: arm.clone() }),
        Arm::Mig(profile) => Box::new(mig::Mig { profile: profile.clone() }),
    }
}

/// Names of the tenants whose server runs already, so that no arm can change its environment.
fn already_running(tenants: &[Tenant]) -> Vec<&str> {
    let runs = |tenant: &&Tenant| matches!(&tenant.engine, Engine::Server(server) if server.command.is_none());
    tenants.iter().filter(runs).map(|tenant| tenant.name.as_str()).collect()
}
