//! The driver's library, shared by every reader and the watch of a process.
//!
//! NVML shows what was there when it was started: a GPU that fell off the bus and came back, or a driver that was loaded anew,
//! is seen only after NVML has been ended and started again, which kills every handle. So each call holds the session, and a
//! session ends only when no call is under way; whoever kept handles from the session before looks them up again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use nvml_wrapper::Nvml as Library;
use nvml_wrapper::error::NvmlError;

use crate::raw;

/// A library that stays loaded as long as the process lives.
#[derive(Debug, Clone)]
pub(crate) struct Driver {
    library: &'static Library,
    session: Arc<RwLock<u64>>,
    watched: Arc<AtomicBool>,
}

/// Calls of one session: NVML is not ended while this is held.
#[derive(Debug)]
pub(crate) struct Calls<'a> {
    pub(crate) library: &'static Library,
    session: RwLockReadGuard<'a, u64>,
}

impl Calls<'_> {
    /// The number of the session; handles of another one are dead.
    pub(crate) fn session(&self) -> u64 {
        *self.session
    }
}

impl Driver {
    pub(crate) fn new(library: Library) -> Self {
        // Handles borrow the library, and a reader that keeps both cannot borrow from itself.
        Self { library: Box::leak(Box::new(library)), session: Arc::default(), watched: Arc::default() }
    }

    /// Whether this is the only watch: one that starts NVML again kills the event set of another.
    pub(crate) fn begin_watch(&self) -> bool {
        !self.watched.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn end_watch(&self) {
        self.watched.store(false, Ordering::Release);
    }

    /// Begins calls.
    pub(crate) fn calls(&self) -> Calls<'_> {
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner);
        Calls { library: self.library, session }
    }

    /// Ends NVML and starts it again, once no call is under way.
    pub(crate) fn restart(&self) -> Result<(), NvmlError> {
        let mut session = self.session.write().unwrap_or_else(PoisonError::into_inner);
        *session += 1;
        raw::restart(self.library)
    }

    /// Says that handles may have changed: after MIG devices came or went.
    pub(crate) fn forget_handles(&self) {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) += 1;
    }
}
