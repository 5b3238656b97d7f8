//! CUDA MPS: a control daemon of our own for the time of a pass, every tenant its client.

use cotenant_model::Arm;
use cotenant_model::workload::Tenant;
use cotenant_mps::life::State;
use cotenant_mps::{ClientLimits, Daemon};

use super::super::hold::Hold;
use super::{Site, Stage, Strategy, StrategyError, already_running};
use crate::compare::preflight::memory_limit;

/// MPS with the limits of an arm.
#[derive(Debug)]
pub(super) struct Mps {
    pub(super) arm: Arm,
}

#[derive(Debug)]
struct MpsStage {
    arm: Arm,
    daemon: Daemon,
    /// Dropped after the daemon.
    _hold: Option<Hold>,
}

impl Strategy for Mps {
    fn refusal(&self, site: &Site, tenants: &[Tenant]) -> Option<String> {
        let running = already_running(tenants);
        if !running.is_empty() {
            return Some(format!(
                "the server of {} runs already, not under this MPS; give it a `command`",
                running.join(", ")
            ));
        }
        if site.gpu.mig == Some(true) {
            return Some("MIG mode is on; MPS inside MIG instances is not compared".to_owned());
        }
        let missing: Vec<&str> =
            tenants.iter().filter(|tenant| memory_limit(tenant).is_none()).map(|tenant| tenant.name.as_str()).collect();
        if self.arm == Arm::MpsMemory && !missing.is_empty() {
            return Some(format!("no `memory` is given for {}", missing.join(", ")));
        }
        cotenant_mps::find_program().err().map(|error| error.to_string())
    }

    fn begin(&self, site: &Site) -> Result<Box<dyn Stage>, StrategyError> {
        let (daemon, hold) = site.start_mps()?;
        Ok(Box::new(MpsStage { arm: self.arm.clone(), daemon, _hold: hold }))
    }
}

impl Stage for MpsStage {
    fn environment(&self, position: usize, tenant: &Tenant) -> Vec<(String, String)> {
        let memory = if self.arm == Arm::MpsMemory { memory_limit(tenant) } else { None };
        self.daemon.client_environment(ClientLimits { percent: self.arm.percent(position), memory })
    }

    fn trouble(&mut self, running: usize) -> Option<String> {
        let health = match self.daemon.health() {
            Ok(health) => health,
            Err(error) => return Some(error.to_string()),
        };
        let clients: usize = health.servers.iter().map(|server| server.clients.len()).sum();
        if health.state == State::Fault {
            return Some("the MPS server is in FAULT: a client's error ended every client".to_owned());
        }
        // A client whose daemon is out of reach runs without MPS and says nothing.
        (clients < running).then(|| format!("MPS has {clients} clients for {running} running tenants"))
    }
}
