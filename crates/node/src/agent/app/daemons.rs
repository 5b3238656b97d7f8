//! The MPS control daemons as the agent sees them: how to speak to them, their logs, the folders that containers get.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cotenant_model::GpuUuid;
use cotenant_model::sharing::Offer;
use cotenant_mps::Place;
use cotenant_mps::three::{client_directory, namespace_name};

use super::Agent;
use super::hands::{Daemon, pipe};
use super::watchers::watch_log;
use crate::keeper::protocol::Kept;

impl Agent {
    /// How to speak to a GPU's daemon: as the keeper says that it was started, or as it will be.
    pub(super) fn daemon(&self, gpu: &GpuUuid) -> Option<Daemon> {
        let kept = self.kept.get(gpu);
        Some(Daemon {
            pipe: pipe(&self.mps_root(gpu)?, gpu)?,
            program: kept.map(|kept| kept.program.clone()),
            three: kept.is_some_and(|kept| kept.three),
        })
    }

    /// The keeper tells how daemons were started: the folders that containers are given depend on their protocol.
    pub(super) fn learn_daemons(&mut self, kept: Vec<Kept>) {
        for kept in kept.into_iter().filter(|kept| kept.pid.is_some()) {
            for trap in &kept.traps {
                tracing::warn!(gpu = %kept.gpu, trap, "MPS clients of other users may be kept out");
            }
            self.kept.insert(kept.gpu.clone(), kept);
        }
        if let Some(offer) = self.state.offer().cloned() {
            let pipes = self.pipes(&offer);
            if self.served.borrow().pipes != pipes {
                self.serve(|served| served.pipes = pipes);
            }
        }
    }

    /// The pipe folders that containers are given, by GPU; under protocol 3 also by size class.
    pub(super) fn pipes(&self, offer: &Offer) -> BTreeMap<(GpuUuid, Option<String>), PathBuf> {
        let mut pipes = BTreeMap::new();
        for gpu in &offer.gpus {
            let Some(daemon) = &gpu.daemon else { continue };
            let Some(own) = pipe(Path::new(&daemon.root), &gpu.gpu) else { continue };
            if self.kept.get(&gpu.gpu).is_some_and(|kept| kept.three) {
                let classes = offer.devices_of(&gpu.gpu).filter_map(|(_, device)| device.class.clone());
                let folder = |class: String| client_directory(&own, &namespace_name(&class));
                pipes.extend(classes.map(|class| ((gpu.gpu.clone(), Some(class.clone())), folder(class))));
                pipes.insert((gpu.gpu.clone(), None), client_directory(&own, "default"));
            } else {
                pipes.insert((gpu.gpu.clone(), None), own);
            }
        }
        pipes
    }

    /// The MPS root of a GPU's daemon.
    fn mps_root(&self, gpu: &GpuUuid) -> Option<PathBuf> {
        let offer = self.state.offer()?;
        offer.gpu(gpu)?.daemon.as_ref().map(|daemon| PathBuf::from(&daemon.root))
    }

    /// Follows the logs of every daemon that is offered, and no others.
    pub(super) fn follow_logs(&mut self, offer: &Offer) {
        let wanted = |gpu: &GpuUuid| offer.gpu(gpu).is_some_and(|gpu| gpu.daemon.is_some());
        self.logs.retain(|gpu, stop| {
            if !wanted(gpu) {
                stop.cancel();
            }
            wanted(gpu)
        });
        for gpu in &offer.gpus {
            let Some(daemon) = &gpu.daemon else { continue };
            let Ok(place) = Place::new(Path::new(&daemon.root), gpu.gpu.clone()) else { continue };
            if self.logs.contains_key(&gpu.gpu) {
                continue;
            }
            let stop = self.tasks_stop.child_token();
            self.logs.insert(gpu.gpu.clone(), stop.clone());
            let (uuid, people, to) = (gpu.gpu.clone(), self.hands.people.clone(), self.to.clone());
            self.hands.tasks.spawn(async move {
                stop.run_until_cancelled(watch_log(uuid, place.log(), people, to)).await;
            });
        }
    }
}
