//! One run of cotenant on a GPU at a time.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};

use cotenant_model::GpuUuid;

use crate::run_root::{RunRoot, RunRootError};

/// Why a GPU could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run has it.
    #[error("GPU {gpu} is in use by another cotenant{}", holder.map(|pid| format!(", process {pid}")).unwrap_or_default())]
    Held {
        /// The GPU.
        gpu: GpuUuid,
        /// Process that holds the lock, as it wrote itself.
        holder: Option<u32>,
    },
    /// The UUID has characters that no UUID has.
    #[error("`{uuid}` is not the UUID of a GPU")]
    Uuid {
        /// The text given.
        uuid: String,
    },
    /// The lock file cannot be opened.
    #[error("cannot open the lock of GPU {gpu}")]
    Open {
        /// The GPU.
        gpu: GpuUuid,
        /// Why.
        #[source]
        source: RunRootError,
    },
    /// The lock file cannot be locked or written.
    #[error("cannot lock GPU {gpu}")]
    Io {
        /// The GPU.
        gpu: GpuUuid,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The hold of this process on a GPU, given back on drop and by the kernel when the process dies.
///
/// It stands between runs of one user, or of all runs that share a run root; another user's runs are seen as foreign
/// processes on the GPU only.
#[derive(Debug)]
pub struct GpuLock {
    gpu: GpuUuid,
    file: File,
}

impl GpuLock {
    /// Locks a GPU without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process holds it; else what stood in the way of the lock file.
    pub fn acquire(root: &RunRoot, gpu: &GpuUuid) -> Result<Self, LockError> {
        if gpu.0.is_empty() || !gpu.0.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(LockError::Uuid { uuid: gpu.0.clone() });
        }
        let file =
            root.lock_file(&format!("{gpu}.lock")).map_err(|source| LockError::Open { gpu: gpu.clone(), source })?;
        let mut lock = Self { gpu: gpu.clone(), file };
        match lock.file.try_lock() {
            Ok(()) => lock.write_holder()?,
            Err(TryLockError::WouldBlock) => return Err(lock.held()),
            Err(TryLockError::Error(source)) => return Err(LockError::Io { gpu: gpu.clone(), source }),
        }
        Ok(lock)
    }

    /// The GPU that is held.
    #[must_use]
    pub const fn gpu(&self) -> &GpuUuid {
        &self.gpu
    }

    fn write_holder(&mut self) -> Result<(), LockError> {
        let gpu = &self.gpu;
        let file = &mut self.file;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|source| LockError::Io { gpu: gpu.clone(), source })
    }

    fn held(mut self) -> LockError {
        let mut text = String::new();
        let read = self.file.read_to_string(&mut text);
        let holder = read.ok().and_then(|_length| text.trim().parse().ok());
        LockError::Held { gpu: self.gpu, holder }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_of_a_gpu_is_refused_with_the_holders_pid_until_the_first_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let root = RunRoot::at(&directory.path().join("run")).unwrap();
        let gpu = GpuUuid("GPU-1".to_owned());
        let first = GpuLock::acquire(&root, &gpu).unwrap();
        let error = GpuLock::acquire(&root, &gpu).unwrap_err();
        assert!(matches!(error, LockError::Held { holder: Some(pid), .. } if pid == std::process::id()), "{error}");
        let _other = GpuLock::acquire(&root, &GpuUuid("GPU-2".to_owned())).unwrap();
        drop(first);
        assert_eq!(GpuLock::acquire(&root, &gpu).unwrap().gpu(), &gpu);
    }

    #[test]
    fn a_uuid_cannot_lead_out_of_the_run_root() {
        let directory = tempfile::tempdir().unwrap();
        let root = RunRoot::at(&directory.path().join("run")).unwrap();
        for uuid in ["../x", "", "GPU/1", "GPU 1"] {
            let error = GpuLock::acquire(&root, &GpuUuid(uuid.to_owned())).unwrap_err();
            assert!(matches!(error, LockError::Uuid { .. }), "{error}");
        }
    }
}
