//! A set of pods that need another look: latest wins, nothing is lost, never larger than the number of pods.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// The set. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Dirty {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    uids: Mutex<HashSet<String>>,
    changed: Notify,
}

impl Dirty {
    /// Adds pods.
    pub(crate) fn mark<'a>(&self, uids: impl IntoIterator<Item = &'a str>) {
        let mut set = self.shared.uids.lock().unwrap_or_else(PoisonError::into_inner);
        let before = set.len();
        set.extend(uids.into_iter().map(str::to_owned));
        if set.len() > before {
            self.shared.changed.notify_one();
        }
    }

    /// Waits until the set is not empty and empties it. One task may wait. Cancel safe: nothing is taken before the
    /// last await.
    pub(crate) async fn take(&self) -> HashSet<String> {
        loop {
            let taken = std::mem::take(&mut *self.shared.uids.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.shared.changed.notified().await;
        }
    }
}
