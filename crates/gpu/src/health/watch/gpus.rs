//! The GPUs that are watched: their event set, and which of them answer.

use std::collections::{BTreeMap, VecDeque};
use std::thread;
use std::time::Duration;

use cotenant_model::GpuUuid;
use nvml_wrapper::Device;
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;

use super::super::{Happening, RecoveryAction};
use crate::driver::{Calls, Driver};
use crate::raw::{EventSet, RawEvent};
use crate::reader::is_lost;

/// `nvmlEventTypeSingleBitEccError`, `nvmlEventTypeDoubleBitEccError`, `nvmlEventTypeXidCriticalError`, `nvmlEventMigConfigChange`.
pub(super) const SINGLE_BIT: u64 = 0x1;
pub(super) const DOUBLE_BIT: u64 = 0x2;
pub(super) const XID: u64 = 0x8;
pub(super) const MIG_CHANGE: u64 = 0x100;

/// After so many failures in a row a GPU that does not say that it is lost counts as lost.
const FAILURES: u32 = 3;

/// The GPUs that were ever seen, and the event set of those that are there.
#[derive(Debug)]
pub(super) struct Gpus {
    driver: Driver,
    known: BTreeMap<GpuUuid, Answers>,
    registered: Option<Registered>,
    /// Whether the driver counts more GPUs than say who they are, or none.
    unnamed: bool,
    /// What a set had still to tell when it was replaced.
    missed: VecDeque<Told>,
}

/// An event and the GPU that it names, or every GPU of the set where the driver names none of them.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) gpus: Vec<GpuUuid>,
    pub(super) event: RawEvent,
}

/// How a GPU has answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Answers {
    failures: u32,
    lost: bool,
}

/// An event set of a session; positions are those of the GPUs.
#[derive(Debug)]
struct Registered {
    session: u64,
    set: EventSet,
    gpus: Vec<GpuUuid>,
}

impl Gpus {
    pub(super) const fn new(driver: Driver) -> Self {
        Self { driver, known: BTreeMap::new(), registered: None, unnamed: false, missed: VecDeque::new() }
    }

    /// Gives the event set back, before NVML ends.
    pub(super) fn let_go(&mut self) {
        let driver = self.driver.clone();
        let _calls = driver.calls();
        self.replace(None);
    }

    /// Whether a GPU is lost, be it one that was never seen to answer.
    pub(super) fn any_lost(&self) -> bool {
        self.unnamed || self.known.values().any(|answers| answers.lost)
    }

    /// Waits for one event at most so long.
    pub(super) fn wait(&mut self, time: Duration) -> Result<Option<Told>, NvmlError> {
        if let Some(missed) = self.missed.pop_front() {
            return Ok(Some(missed));
        }
        let driver = self.driver.clone();
        let calls = driver.calls();
        if self.registered.as_ref().is_none_or(|registered| registered.session != calls.session()) {
            self.register(&calls)?;
        }
        match &mut self.registered {
            Some(registered) if !registered.gpus.is_empty() => registered.wait(time),
            Some(_) | None => {
                drop(calls);
                thread::sleep(time);
                Ok(None)
            }
        }
    }

    /// Asks every GPU; what is to be told of each. By then the event set has every GPU that answers.
    pub(super) fn ask(&mut self) -> Vec<(GpuUuid, Happening)> {
        let driver = self.driver.clone();
        let calls = driver.calls();
        let before = self.answering();
        let count = calls.library.device_count().unwrap_or(0);
        let answers = answers(calls.library, count);
        self.unnamed = answers.is_empty() || u32::try_from(answers.len()).is_ok_and(|named| named < count);
        let mut told = Vec::new();
        for (gpu, answer) in &answers {
            let known = self.known.entry(gpu.clone()).or_default();
            told.extend(known.take(answer).map(|what| (gpu.clone(), what)));
        }
        for (gpu, known) in self.known.iter_mut().filter(|(gpu, _)| !answers.contains_key(*gpu)) {
            told.extend(known.take(&Err(missing(calls.library, gpu))).map(|what| (gpu.clone(), what)));
        }
        if self.answering() != before
            && let Err(error) = self.register(&calls)
        {
            tracing::debug!(%error, "no events of the GPUs for now");
        }
        told
    }

    fn answering(&self) -> Vec<GpuUuid> {
        self.known.iter().filter(|(_, answers)| !answers.lost).map(|(gpu, _)| gpu.clone()).collect()
    }

    /// Makes the event set anew, before the old one goes, so that no event falls between them.
    fn register(&mut self, calls: &Calls<'_>) -> Result<(), NvmlError> {
        let made = register(calls.library, calls.session(), &self.known);
        let (made, outcome) = match made {
            Ok(made) => (Some(made), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.replace(made);
        outcome
    }

    /// Takes another event set, and keeps what the old one has still to tell.
    fn replace(&mut self, made: Option<Registered>) {
        /// More than this is a driver that tells one event for ever.
        const MOST: usize = 64;
        // NVML is ended by this watch alone, and not before it has let go of its set: the old one is alive.
        if let Some(mut old) = std::mem::replace(&mut self.registered, made) {
            let left = std::iter::from_fn(|| old.wait(Duration::ZERO).ok().flatten());
            self.missed.extend(left.take(MOST));
        }
    }
}

impl Registered {
    /// Waits for one event at most so long.
    fn wait(&mut self, time: Duration) -> Result<Option<Told>, NvmlError> {
        let event = match self.set.wait(u32::try_from(time.as_millis()).unwrap_or(u32::MAX)) {
            Err(NvmlError::Timeout) => return Ok(None),
            event => event?,
        };
        let gpus = match event.device.and_then(|position| self.gpus.get(position)) {
            Some(gpu) => vec![gpu.clone()],
            None => self.gpus.clone(),
        };
        Ok(Some(Told { gpus, event }))
    }
}

impl Answers {
    /// Takes in an answer; what is to be told.
    fn take(&mut self, answer: &Result<Option<RecoveryAction>, NvmlError>) -> Option<Happening> {
        match answer {
            Ok(recovery) => {
                *self = Self::default();
                Some(Happening::Answered { recovery: *recovery })
            }
            Err(error) => {
                self.failures += 1;
                let is_new = !self.lost && (is_lost(error) || self.failures >= FAILURES);
                self.lost |= is_new;
                is_new.then(|| Happening::Lost { reason: error.to_string() })
            }
        }
    }
}

/// What each GPU that the driver lists answers.
fn answers(library: &nvml_wrapper::Nvml, count: u32) -> BTreeMap<GpuUuid, Result<Option<RecoveryAction>, NvmlError>> {
    let mut answers = BTreeMap::new();
    for index in 0..count {
        let Ok(device) = library.device_by_index(index) else { continue };
        let Ok(uuid) = device.uuid() else { continue };
        answers.insert(GpuUuid(uuid), asked(&device));
    }
    answers
}

/// A figure that every GPU tells, and that the driver has to ask the GPU for; then what it needs to recover.
fn asked(device: &Device<'_>) -> Result<Option<RecoveryAction>, NvmlError> {
    /// `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`.
    const RECOVERY_ACTION: FieldId = FieldId(230);
    device.memory_info()?;
    let fields = match device.field_values_for(&[RECOVERY_ACTION]) {
        Err(error) if is_lost(&error) => return Err(error),
        fields => fields.unwrap_or_default(),
    };
    let value = fields.into_iter().next().and_then(|field| field.ok()?.value.ok());
    Ok(match value {
        Some(SampleValue::U32(number)) => Some(RecoveryAction::from_number(number)),
        Some(SampleValue::U64(number)) => u32::try_from(number).ok().map(RecoveryAction::from_number),
        Some(SampleValue::F64(_) | SampleValue::I64(_)) | None => None,
    })
}

/// Why a GPU that was seen before is not among those that the driver lists.
fn missing(library: &nvml_wrapper::Nvml, gpu: &GpuUuid) -> NvmlError {
    match library.device_by_uuid(gpu.0.as_str()).and_then(|device| device.memory_info()) {
        Err(NvmlError::NotFound | NvmlError::InvalidArg) | Ok(_) => NvmlError::GpuLost,
        Err(error) => error,
    }
}

/// An event set with every GPU that answers and can tell events; a lost one would end every wait at once.
fn register(
    library: &'static nvml_wrapper::Nvml,
    session: u64,
    known: &BTreeMap<GpuUuid, Answers>,
) -> Result<Registered, NvmlError> {
    let mut set = EventSet::new(library)?;
    let mut gpus = Vec::new();
    for index in 0..library.device_count()? {
        let Ok(device) = library.device_by_index(index) else { continue };
        let Ok(uuid) = device.uuid().map(GpuUuid) else { continue };
        if known.get(&uuid).is_some_and(|answers| answers.lost) {
            continue;
        }
        match set.register(&device, XID | SINGLE_BIT | DOUBLE_BIT | MIG_CHANGE) {
            Ok(_position) => gpus.push(uuid),
            Err(error) => tracing::warn!(gpu = %uuid, %error, "this GPU tells no events; it is asked every second"),
        }
    }
    Ok(Registered { session, set, gpus })
}
