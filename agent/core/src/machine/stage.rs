//! The stages of a pod, and what is remembered in each.

use std::time::Instant;

use super::{Failure, Now};

/// Where a pod is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// Brought to what its spec says and kept there. Left when it has to go or is done.
    Syncing {
        /// Directories, cgroup and volumes are there.
        set_up: bool,
    },
    /// Its containers, then its sandboxes are being stopped. Left when none is left.
    Terminating(Ending),
    /// Nothing of it runs: its phase is final; volumes and cgroup go, then, when it was deleted, the API object.
    /// Left when the API object is gone.
    Terminated {
        ending: Ending,
        /// The cgroup is removed.
        freed: bool,
        /// The API server has accepted the DELETE (finalizers may keep the object).
        deleted: bool,
    },
    /// Dead sandboxes, containers, directories and logs are being removed. Left when nothing is left.
    Removing {
        /// Directories and logs are removed.
        cleaned: bool,
    },
    /// Nothing is left; the machine can be dropped.
    Gone,
}

/// Why and until when a pod ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    /// When what still runs is killed.
    pub(super) deadline: Instant,
    /// What the status says besides what the containers say.
    pub(super) failure: Option<Failure>,
    /// It was never started here.
    pub(super) rejected: bool,
    /// Its volumes are unmounted.
    pub(super) unmounted: bool,
}

/// The node starts few pods at a time; this is what the pod knows of its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Has none and may be waiting for one.
    Idle,
    /// It is this pod's turn.
    Held { since: Instant },
    /// Held for too long and given back; the steps in flight go on.
    Spent,
}

impl Ending {
    pub(super) fn by(deadline: Instant, failure: Option<Failure>) -> Self {
        Self {
            deadline,
            failure,
            rejected: false,
            unmounted: false,
        }
    }

    pub(super) fn at_once(failure: Option<Failure>, now: Now) -> Self {
        Self::by(now.instant, failure)
    }

    pub(super) fn rejected(mut self) -> Self {
        self.rejected = true;
        self
    }
}
