//! The end of a keeper.

use std::sync::{Arc, PoisonError};

use tokio::task::JoinSet;

use super::{Keeper, server};

impl Keeper {
    /// Ends every daemon, puts back every compute mode, unmounts, and removes what is the keeper's own.
    pub(super) async fn end(&self) {
        let cleanup = *self.shared.cleanup.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.tasks.close();
        let slots: Vec<_> = self.slots().values().map(Arc::clone).collect();
        let mut ends = JoinSet::new();
        for slot in slots {
            let keeper = self.clone();
            let slot = slot.lock_owned().await;
            ends.spawn_blocking(move || {
                let mut slot = slot;
                if let Err(error) = slot.stop() {
                    tracing::warn!(gpu = %slot.gpu(), why = error.why(), "an MPS control daemon stays behind");
                    return;
                }
                keeper.put_back(slot.gpu());
                if cleanup {
                    slot.remove();
                }
            });
        }
        while ends.join_next().await.is_some() {}
        self.shared.memory.unmount();
        server::remove_socket(&self.shared.root);
        // Without a daemon's folder there is nothing for the next keeper: also not after one that was started again at the end of
        // an uninstallation.
        if cleanup || super::folders(&self.shared.root).is_empty() {
            drop(std::fs::remove_file(self.shared.root.join("keeper.lock")));
            // Only an empty root goes: others may have something in it.
            drop(std::fs::remove_dir(&self.shared.root));
        }
        // Whoever asked for the end hears of it now.
        self.shared.over.cancel();
        self.shared.tasks.wait().await;
    }
}
