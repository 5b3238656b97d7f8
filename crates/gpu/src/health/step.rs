//! From what the watch sees to what is healthy: a rule without input or output.

use std::collections::BTreeMap;
use std::fmt;

use cotenant_model::{GpuUuid, Nanoseconds};

use super::{Happening, InstanceIds, Notice, Place, RecoveryAction, XidPolicy, XidRecovery, xid_name, xid_recovery};

/// How long no further error may come after an XID error that passes: a container that the error ended, and that starts and
/// fails again, is back well within it.
pub const QUIET: Nanoseconds = Nanoseconds(60_000_000_000);

/// The health of the GPUs of a host.
#[derive(Debug, Clone)]
pub struct Health {
    policy: XidPolicy,
    quiet: Nanoseconds,
    troubles: BTreeMap<Place, Trouble>,
}

/// Why a GPU or MIG device is unhealthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What happened.
    pub cause: Cause,
    /// When it happened first.
    pub since: Nanoseconds,
    /// How it ends.
    pub ends: Ends,
}

/// What made a GPU or MIG device unhealthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// An XID error.
    Xid(u64),
    /// The driver asks for something.
    Asked(RecoveryAction),
    /// It does not answer.
    Lost(String),
}

/// How a trouble ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// At this instant, when it answers and no further error has come.
    AfterQuiet(Nanoseconds),
    /// When the GPU has been reset: the driver asks for it no more, the GPU was gone and is back, or somebody says so.
    AfterReset {
        /// Whether the driver has asked for a reset since.
        asked: bool,
    },
    /// When it answers again.
    OnReturn,
}

/// A change of health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthChange {
    /// The GPU with all its MIG devices, or one of them.
    pub place: Place,
    /// What is wrong now; `None` is healthy.
    pub trouble: Option<Trouble>,
}

impl Ends {
    /// How bad: only a worse trouble replaces one.
    const fn severity(self) -> u8 {
        match self {
            Self::AfterQuiet(_) => 0,
            Self::AfterReset { .. } => 1,
            Self::OnReturn => 2,
        }
    }
}

impl Health {
    /// Everything healthy. `quiet` is how long no further error may come after one that passes; [`QUIET`] is the default.
    #[must_use]
    pub const fn new(policy: XidPolicy, quiet: Nanoseconds) -> Self {
        Self { policy, quiet, troubles: BTreeMap::new() }
    }

    /// What is wrong with a GPU, or with one of its MIG devices (its own trouble or the GPU's); `None` is healthy.
    #[must_use]
    pub fn trouble(&self, gpu: &GpuUuid, instance: Option<InstanceIds>) -> Option<&Trouble> {
        let of = |instance| self.troubles.get(&Place { gpu: gpu.clone(), instance });
        of(None).or_else(|| instance.and_then(|instance| of(Some(instance))))
    }

    /// Takes in what the watch saw; what changes by it, worse or better.
    pub fn step(&mut self, notice: &Notice) -> Vec<HealthChange> {
        let Notice { at, gpu, what } = notice;
        match what {
            Happening::Xid { xid, instance } if self.policy.counts(*xid) => self.xid(*at, gpu, *xid, *instance),
            Happening::Xid { .. } | Happening::MemoryError { .. } | Happening::MigChanged => Vec::new(),
            Happening::Lost { reason } => {
                let trouble = Trouble { cause: Cause::Lost(reason.clone()), since: *at, ends: Ends::OnReturn };
                self.worsen(whole(gpu), trouble)
            }
            Happening::Answered { recovery } => self.answered(*at, gpu, *recovery),
        }
    }

    /// Somebody says that the GPU is well: an operator who has reset it.
    pub fn clear(&mut self, gpu: &GpuUuid) -> Vec<HealthChange> {
        let places: Vec<Place> = self.troubles.keys().filter(|place| place.gpu == *gpu).cloned().collect();
        places.into_iter().flat_map(|place| self.mend(place)).collect()
    }

    fn xid(&mut self, at: Nanoseconds, gpu: &GpuUuid, xid: u64, instance: Option<InstanceIds>) -> Vec<HealthChange> {
        let (place, ends) = match xid_recovery(xid) {
            XidRecovery::Passes => {
                let until = Nanoseconds(at.0.saturating_add(self.quiet.0));
                (Place { gpu: gpu.clone(), instance }, Ends::AfterQuiet(until))
            }
            XidRecovery::Reset => (whole(gpu), Ends::AfterReset { asked: false }),
        };
        self.worsen(place, Trouble { cause: Cause::Xid(xid), since: at, ends })
    }

    /// Replaces a milder trouble; one that waits for quiet waits anew.
    fn worsen(&mut self, place: Place, trouble: Trouble) -> Vec<HealthChange> {
        match self.troubles.get_mut(&place) {
            Some(known) if known.ends.severity() >= trouble.ends.severity() => {
                if let (Ends::AfterQuiet(_), Ends::AfterQuiet(_)) = (known.ends, trouble.ends) {
                    known.ends = trouble.ends;
                }
                Vec::new()
            }
            Some(_) | None => {
                self.troubles.insert(place.clone(), trouble.clone());
                vec![HealthChange { place, trouble: Some(trouble) }]
            }
        }
    }

    fn mend(&mut self, place: Place) -> Option<HealthChange> {
        self.troubles.remove(&place).map(|_| HealthChange { place, trouble: None })
    }

    fn answered(&mut self, at: Nanoseconds, gpu: &GpuUuid, recovery: Option<RecoveryAction>) -> Vec<HealthChange> {
        let asked = recovery.filter(|action| *action != RecoveryAction::Nothing);
        let known = self.troubles.get(&whole(gpu)).map(|trouble| trouble.ends);
        match (known, asked) {
            // Back, but not well.
            (Some(Ends::OnReturn), Some(action)) => {
                self.troubles.remove(&whole(gpu));
                self.asked(at, gpu, action)
            }
            (Some(Ends::OnReturn), None) => self.clear(gpu),
            (_, Some(action)) => self.asked(at, gpu, action),
            (Some(Ends::AfterReset { asked: true }), None) if recovery.is_some() => self.clear(gpu),
            (Some(Ends::AfterReset { .. }), None) => Vec::new(),
            (Some(Ends::AfterQuiet(_)) | None, None) => self.passed(at, gpu),
        }
    }

    /// The driver asks for something: the GPU is not to be used until it asks no more.
    fn asked(&mut self, at: Nanoseconds, gpu: &GpuUuid, action: RecoveryAction) -> Vec<HealthChange> {
        if let Some(Trouble { ends: Ends::AfterReset { asked }, .. }) = self.troubles.get_mut(&whole(gpu)) {
            *asked = true;
            return Vec::new();
        }
        let ends = Ends::AfterReset { asked: true };
        self.worsen(whole(gpu), Trouble { cause: Cause::Asked(action), since: at, ends })
    }

    /// Ends what has been quiet for long enough, in the GPU and in each of its MIG devices.
    fn passed(&mut self, at: Nanoseconds, gpu: &GpuUuid) -> Vec<HealthChange> {
        let is_over = |ends| matches!(ends, Ends::AfterQuiet(until) if until.0 <= at.0);
        let of_gpu = self.troubles.iter().filter(|(place, trouble)| place.gpu == *gpu && is_over(trouble.ends));
        let places: Vec<Place> = of_gpu.map(|(place, _)| place.clone()).collect();
        places.into_iter().flat_map(|place| self.mend(place)).collect()
    }
}

fn whole(gpu: &GpuUuid) -> Place {
    Place { gpu: gpu.clone(), instance: None }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xid(xid) => match xid_name(*xid) {
                Some(name) => write!(f, "XID {xid} ({name})"),
                None => write!(f, "XID {xid}"),
            },
            Self::Asked(action) => write!(f, "the driver asks for {action}"),
            Self::Lost(reason) => write!(f, "the GPU does not answer: {reason}"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let then = match self.ends {
            Ends::AfterQuiet(_) => "healthy again when no further error comes",
            Ends::AfterReset { .. } => "it must be reset",
            Ends::OnReturn => "healthy when it answers again",
        };
        write!(f, "{}; {then}", self.cause)
    }
}

#[cfg(test)]
mod tests;
