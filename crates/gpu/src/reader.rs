//! The reader of GPUs through NVML.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::path::PathBuf;

use cotenant_model::gpu::{self as model, Gpu, GpuProcess, GpuSample};
use cotenant_model::{GpuReader, GpuUuid};
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;

use crate::driver::{Calls, Driver};
use crate::figures::{self, Monitoring};
use crate::inventory::Host;
use crate::open::{OpenError, sort};
use crate::{inventory, processes};

/// Environment variable that names another NVML-compatible library than the driver's; a path or a name for the linker.
pub const LIBRARY_VARIABLE: &str = "COTENANT_NVML";

/// The driver's library in its usual place.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Why a reading failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The driver knows no GPU or MIG device of this UUID.
    #[error("no GPU has the UUID `{uuid}`")]
    UnknownGpu {
        /// The UUID as asked for.
        uuid: GpuUuid,
        /// What the driver answered.
        #[source]
        source: NvmlError,
    },
    /// The GPU fell off the bus or must be reset: nothing can be read from it any more.
    #[error("the GPU {gpu} is lost")]
    Lost {
        /// UUID, or position where its UUID was never read.
        gpu: String,
        /// What the driver answered.
        #[source]
        source: NvmlError,
    },
    /// A figure that every GPU has cannot be read.
    #[error("cannot read {what} of the GPU {gpu}")]
    Figure {
        /// The figure.
        what: &'static str,
        /// UUID, or position where its UUID was never read.
        gpu: String,
        /// What the driver answered.
        #[source]
        source: NvmlError,
    },
    /// The driver itself does not answer.
    #[error("cannot read {what} from the driver")]
    Driver {
        /// What was asked for.
        what: &'static str,
        /// What the driver answered.
        #[source]
        source: NvmlError,
    },
}

/// The GPUs of this host, read through the driver's library.
///
/// Handles of GPUs are looked up once and kept. The library stays loaded as long as the process lives, so open it once and
/// give each thread a reader of its own with [`Nvml::share`].
#[derive(Debug)]
pub struct Nvml {
    driver: Driver,
    host: Host,
    /// The session that the cards are of.
    session: u64,
    cards: BTreeMap<GpuUuid, Card>,
}

/// A GPU that was read before.
#[derive(Debug)]
struct Card {
    device: Device<'static>,
    monitoring: Monitoring,
}

impl Nvml {
    /// Opens the library that [`LIBRARY_VARIABLE`] names, or else the driver's.
    ///
    /// # Errors
    /// Says which of the usual reasons it is that no GPU can be read.
    pub fn open() -> Result<Self, OpenError> {
        match std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
            Some(library) => Self::load(library),
            None => Self::load(LIBRARY),
        }
    }

    /// Opens a library by path or by a name for the linker.
    ///
    /// # Errors
    /// As [`Nvml::open`].
    pub fn load(library: impl AsRef<OsStr>) -> Result<Self, OpenError> {
        let path = library.as_ref();
        let sorted = |source| sort(path.as_ref(), source);
        let library = nvml_wrapper::Nvml::builder().lib_path(path).init().map_err(sorted)?;
        if library.device_count().map_err(sorted)? == 0 {
            return Err(OpenError::NoGpu);
        }
        Ok(Self::of(Driver::new(library), Host::default()))
    }

    const fn of(driver: Driver, host: Host) -> Self {
        Self { driver, host, session: 0, cards: BTreeMap::new() }
    }

    /// Another reader of the same library, for another thread. When NVML is started again, because a GPU was lost, it is so
    /// for all of them; two readers of [`Nvml::open`] would keep each other from it.
    #[must_use]
    pub fn share(&self) -> Self {
        Self::of(self.driver.clone(), self.host.clone())
    }

    /// The same reader with another folder than `/sys`, such as a container's mount of the host's.
    #[must_use]
    pub fn with_sysfs(self, root: impl Into<PathBuf>) -> Self {
        Self { host: Host::at(root), ..self }
    }

    pub(crate) const fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Asks the driver about a GPU or MIG device with its kept handle, while NVML stays as it is.
    pub(crate) fn ask<T, E: From<ReadError>>(
        &mut self,
        gpu: &GpuUuid,
        question: impl FnOnce(&mut Device<'static>) -> Result<T, E>,
    ) -> Result<T, E> {
        let driver = self.driver.clone();
        let calls = driver.calls();
        question(&mut self.card(&calls, gpu)?.device)
    }

    /// The kept handle of a GPU, looked up at its first use in a session.
    fn card(&mut self, calls: &Calls<'_>, uuid: &GpuUuid) -> Result<&mut Card, ReadError> {
        if self.session != calls.session() {
            std::mem::take(&mut self.cards).into_values().for_each(|card| card.monitoring.abandon());
            self.session = calls.session();
        }
        match self.cards.entry(uuid.clone()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(free) => {
                let answer = calls.library.device_by_uuid(uuid.0.as_str());
                let device = answer.map_err(|source| no_handle(uuid, source))?;
                Ok(free.insert(Card { device, monitoring: Monitoring::default() }))
            }
        }
    }
}

impl GpuReader for Nvml {
    type Error = ReadError;

    fn gpus(&self) -> Result<Vec<Gpu>, ReadError> {
        inventory::gpus(self.driver.calls().library, &self.host)
    }

    fn driver(&self) -> Result<model::Driver, ReadError> {
        inventory::driver(self.driver.calls().library)
    }

    fn sample(&mut self, gpu: &GpuUuid) -> Result<GpuSample, ReadError> {
        let driver = self.driver.clone();
        let calls = driver.calls();
        let Card { device, monitoring } = self.card(&calls, gpu)?;
        let mut sample = figures::sample(device, gpu)?;
        monitoring.fill(&mut sample, calls.library, device);
        Ok(sample)
    }

    fn processes(&mut self, gpu: &GpuUuid) -> Result<Vec<GpuProcess>, ReadError> {
        self.ask(gpu, |device| processes::processes(device, gpu))
    }
}

/// Why a UUID has no handle.
fn no_handle(uuid: &GpuUuid, source: NvmlError) -> ReadError {
    if matches!(source, NvmlError::NotFound | NvmlError::InvalidArg | NvmlError::NulError(_)) {
        return ReadError::UnknownGpu { uuid: uuid.clone(), source };
    }
    failed("the handle", &uuid.0, source)
}

/// An answer without which there is nothing to tell: a lost GPU is told apart from a call that failed.
pub(crate) fn failed(what: &'static str, gpu: &str, source: NvmlError) -> ReadError {
    let gpu = gpu.to_owned();
    if is_lost(&source) { ReadError::Lost { gpu, source } } else { ReadError::Figure { what, gpu, source } }
}

/// A figure that not every GPU has: only a lost GPU or driver is an error, anything else is an absent figure.
pub(crate) fn optional<T>(answer: Result<T, NvmlError>, gpu: &GpuUuid) -> Result<Option<T>, ReadError> {
    match answer {
        Ok(figure) => Ok(Some(figure)),
        Err(source) if is_lost(&source) => Err(ReadError::Lost { gpu: gpu.0.clone(), source }),
        Err(source) => {
            tracing::trace!(%gpu, %source, "a figure is absent");
            Ok(None)
        }
    }
}

/// Whether nothing more will come from this GPU or driver before NVML is started again.
pub(crate) const fn is_lost(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::GpuLost | NvmlError::ResetRequired | NvmlError::Uninitialized | NvmlError::DriverNotLoaded
    )
}
