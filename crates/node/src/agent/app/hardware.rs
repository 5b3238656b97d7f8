//! The driver, for tasks that may not block: one reader, used on threads of its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cotenant_gpu::{MigError, MigOutcome, Nvml, OpenError, ReadError};
use cotenant_model::gpu::{Driver, Gpu, GpuProcess};
use cotenant_model::sharing::mig::Step;
use cotenant_model::{GpuReader as _, GpuUuid};
use tokio::task::spawn_blocking;

/// Between two attempts to load a driver that is not there.
const RETRY: Duration = Duration::from_secs(5);

/// The reader of GPUs.
#[derive(Debug, Clone)]
pub(super) struct Hardware {
    nvml: Arc<Mutex<Nvml>>,
}

impl Hardware {
    /// Loads the driver's library. Waits for it where `fail` is not set, telling `waiting` why.
    pub(super) async fn open(sys: PathBuf, fail: bool, waiting: impl Fn(&OpenError)) -> Result<Self, OpenError> {
        loop {
            match Nvml::open() {
                Ok(nvml) => return Ok(Self { nvml: Arc::new(Mutex::new(nvml.with_sysfs(sys))) }),
                Err(error) if fail => return Err(error),
                Err(error) => waiting(&error),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Another reader of the same library, for a thread of its own.
    pub(super) fn share(&self) -> Nvml {
        self.nvml.lock().unwrap_or_else(PoisonError::into_inner).share()
    }

    async fn with<T: Send + 'static>(&self, ask: impl FnOnce(&mut Nvml) -> T + Send + 'static) -> T {
        let nvml = Arc::clone(&self.nvml);
        let asked = spawn_blocking(move || ask(&mut nvml.lock().unwrap_or_else(PoisonError::into_inner)));
        match asked.await {
            Ok(answer) => answer,
            // The runtime ends, and this task with it; or the reader panicked, which nothing can mend.
            Err(error) => std::panic::resume_unwind(Box::new(error)),
        }
    }

    /// The GPUs and the driver.
    pub(super) async fn inventory(&self) -> Result<(Vec<Gpu>, Driver), ReadError> {
        self.with(|nvml| Ok((nvml.gpus()?, nvml.driver()?))).await
    }

    /// Processes on a GPU.
    pub(super) async fn processes(&self, gpu: GpuUuid) -> Result<Vec<GpuProcess>, ReadError> {
        self.with(move |nvml| nvml.processes(&gpu)).await
    }

    /// Memory of a GPU in use.
    pub(super) async fn memory_used(&self, gpu: GpuUuid) -> Option<cotenant_model::Bytes> {
        self.with(move |nvml| nvml.sample(&gpu).ok()?.memory_used).await
    }

    /// Makes and removes MIG devices.
    pub(super) async fn apply_mig(&self, gpu: GpuUuid, steps: Vec<Step>) -> Result<MigOutcome, MigError> {
        self.with(move |nvml| nvml.apply_mig(&gpu, &steps)).await
    }
}
