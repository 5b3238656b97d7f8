//! Processes of the tuner, one for each (tenant, percentage) pair that a probe has asked for.

use std::collections::BTreeMap;

use cotenant_model::run::Window;
use cotenant_model::{Nanoseconds, Percent};
use cotenant_mps::{ClientLimits, Daemon};

use crate::compare::pass::{self, Seat};
use crate::compare::{Comparison, Interrupted, Machine};

/// Clients that an MPS server takes at most is 48 on drivers before CUDA 13.1 (60 from there on); some room is left.
const MOST: usize = 44;

/// The processes that run.
#[derive(Debug)]
pub(super) struct Pool<'a> {
    machine: &'a Machine<'a>,
    comparison: &'a Comparison,
    daemon: &'a Daemon,
    keeps: bool,
    seats: BTreeMap<(usize, Percent), Seat<'a>>,
    windows: u64,
}

impl<'a> Pool<'a> {
    pub(super) fn new(machine: &'a Machine<'a>, comparison: &'a Comparison, daemon: &'a Daemon, keeps: bool) -> Self {
        Self { machine, comparison, daemon, keeps, seats: BTreeMap::new(), windows: 0 }
    }

    /// One window at a setting, every tenant in file order; `None` when a tenant failed, whose process is then gone.
    pub(super) fn measure(
        &mut self,
        percent: &[Percent],
        warmup: Nanoseconds,
        length: Nanoseconds,
    ) -> Result<Option<Vec<Window>>, Interrupted> {
        let wanted: Vec<(usize, Percent)> = percent.iter().copied().enumerate().collect();
        self.make_room(&wanted);
        self.fill(&wanted)?;
        self.windows += 1;
        let seed = self.comparison.settings.seed;
        let plan = pass::window(self.machine, seed, (warmup, length), (self.windows, false));
        let mut seats: Vec<Seat<'a>> = wanted.iter().filter_map(|pair| self.seats.remove(pair)).collect();
        let seen = pass::answers(self.machine, &mut seats, plan);
        for (pair, seat) in wanted.into_iter().zip(seats) {
            if seat.worker.is_ok() {
                self.seats.insert(pair, seat);
            }
        }
        let windows = seen?;
        Ok(windows.iter().all(|window| window.failure.is_none()).then_some(windows))
    }

    /// Ends processes that the setting does not want, where they are not kept or too many.
    fn make_room(&mut self, wanted: &[(usize, Percent)]) {
        if self.keeps && self.seats.len() + wanted.len() <= MOST {
            return;
        }
        let unwanted: Vec<(usize, Percent)> =
            self.seats.keys().filter(|pair| !wanted.contains(pair)).copied().collect();
        let seats = unwanted.iter().filter_map(|pair| self.seats.remove(pair)).collect();
        pass::leave(seats, self.machine);
    }

    fn fill(&mut self, wanted: &[(usize, Percent)]) -> Result<(), Interrupted> {
        for &(position, percent) in wanted {
            let Some(tenant) = self.comparison.workload.tenants.get(position) else { continue };
            if self.seats.contains_key(&(position, percent)) {
                continue;
            }
            let limits = ClientLimits { percent: Some(percent), memory: None };
            let environment = self.daemon.client_environment(limits);
            let mut seat = pass::spawn(self.machine, self.comparison.settings.seed, &environment, (position, tenant));
            pass::settle(self.machine, &mut seat)?;
            self.seats.insert((position, percent), seat);
        }
        Ok(())
    }

    /// Ends every process.
    pub(super) fn end(self) {
        pass::leave(self.seats.into_values().collect(), self.machine);
    }
}
