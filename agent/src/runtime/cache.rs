//! The cache of what runs: one [`Index`] and, for each pod, a `watch` that always holds its newest picture.
//!
//! The index sits behind a plain mutex that is held for the length of one merge, never across an await: an executor
//! must see the effect of its own call when the call returns, which a task behind a channel could not promise
//! without a second round trip.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gantry_agent_core::observed::{ContainerState, ObservedPod};
use tokio::sync::watch;

use super::merge::{Change, Index, Stamp};
use crate::metrics::state::Running;

/// What the runtime holds, as far as known. Clones share it.
#[derive(Clone)]
pub(crate) struct PodCache {
    shared: Arc<Mutex<Shared>>,
    synced: Arc<watch::Sender<bool>>,
}

#[derive(Default)]
struct Shared {
    index: Index,
    watches: HashMap<String, watch::Sender<Arc<ObservedPod>>>,
}

impl Default for PodCache {
    fn default() -> Self {
        Self {
            shared: Arc::default(),
            synced: Arc::new(watch::Sender::new(false)),
        }
    }
}

impl PodCache {
    /// The pod's picture now and from now on; an empty one while the runtime has nothing of it.
    #[must_use]
    pub(crate) fn subscribe(&self, uid: &str) -> watch::Receiver<Arc<ObservedPod>> {
        let mut shared = self.lock();
        if let Some(sender) = shared.watches.get(uid) {
            return sender.subscribe();
        }
        let pod = shared.index.get(uid).cloned().unwrap_or_else(|| empty(uid));
        let sender = watch::Sender::new(pod);
        let receiver = sender.subscribe();
        shared.watches.insert(uid.to_owned(), sender);
        receiver
    }

    /// The pod's picture, if the runtime has anything of it.
    #[must_use]
    pub(crate) fn get(&self, uid: &str) -> Option<Arc<ObservedPod>> {
        self.lock().index.get(uid).cloned()
    }

    /// Every pod that the runtime has something of, as far as known.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<Arc<ObservedPod>> {
        let shared = self.lock();
        let uids = shared.index.uids();
        uids.filter_map(|uid| shared.index.get(uid).cloned()).collect()
    }

    /// How much of what there is.
    #[must_use]
    pub(crate) fn running(&self) -> Running {
        let mut all = Running::default();
        for pod in self.lock().index.pods() {
            all.pods += u32::from(pod.sandboxes.iter().any(|s| s.ready));
            for container in &pod.containers {
                *match container.state {
                    ContainerState::Created => &mut all.created,
                    ContainerState::Running { .. } => &mut all.running,
                    ContainerState::Exited(_) => &mut all.exited,
                    ContainerState::Unknown => &mut all.unknown,
                } += 1;
            }
        }
        all
    }

    /// The UIDs of all pods that the runtime has something of; `None` before the first full list, when an absent
    /// pod means nothing.
    #[must_use]
    pub(crate) fn known(&self) -> Option<Vec<String>> {
        self.is_synced()
            .then(|| self.lock().index.uids().cloned().collect())
    }

    /// The first full list has been taken in.
    #[must_use]
    pub(crate) fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits for the first full list. Cancel safe.
    pub(crate) async fn synced(&self) {
        // The sender lives in self, so this cannot fail.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    pub(super) fn set_synced(&self) {
        self.synced
            .send_if_modified(|synced| !std::mem::replace(synced, true));
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.lock().index.stamp()
    }

    pub(super) fn owner(&self, id: &str) -> Option<String> {
        self.lock().index.owner(id).map(str::to_owned)
    }

    pub(super) fn uids(&self) -> Vec<String> {
        self.lock().index.uids().cloned().collect()
    }

    /// Takes news in and publishes what changed.
    pub(super) fn apply(&self, change: Change<'_>) {
        let mut shared = self.lock();
        let Some(uid) = shared.index.apply(change) else {
            return;
        };
        let pod = shared.index.get(&uid).cloned();
        if let Some(sender) = shared.watches.get(&uid) {
            sender.send_replace(pod.unwrap_or_else(|| empty(&uid)));
        }
    }

    /// After a full list that was asked for at `asked`: forget old removals and watches that nobody holds.
    pub(super) fn tidy(&self, asked: Stamp) {
        let mut shared = self.lock();
        shared.index.forget_gone(asked);
        shared.watches.retain(|_, sender| sender.receiver_count() > 0);
    }

    /// Waits at most `limit` until the pod's picture satisfies `wanted`; says whether it does.
    pub(super) async fn settled(
        &self,
        uid: &str,
        limit: Duration,
        wanted: impl Fn(&ObservedPod) -> bool,
    ) -> bool {
        let mut pod = self.subscribe(uid);
        let outcome = tokio::time::timeout(limit, pod.wait_for(|pod| wanted(pod))).await;
        matches!(outcome, Ok(Ok(_)))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A merge does not panic half way; if it ever did, the next relist repairs the picture.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn empty(uid: &str) -> Arc<ObservedPod> {
    Arc::new(ObservedPod {
        uid: uid.to_owned(),
        ..ObservedPod::default()
    })
}
