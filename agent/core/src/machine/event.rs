//! What the shell tells the machine.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::step::{Outcome, StepError, StepKey};
use crate::{
    observed::ObservedPod,
    probe::{ProbeKind, Verdict},
};

/// The time, as the machine needs it: monotonic for its timers, the wall clock for what the API shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For timestamps.
    pub wall: Timestamp,
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The API object is this now.
    Desired(Arc<Pod>),
    /// The API object is gone.
    Removed,
    /// The runtime holds this now.
    Observed(Arc<ObservedPod>),
    /// Objects that the pod's volumes are made of have changed.
    InputsChanged,
    /// A probe of a running container has decided.
    Probe {
        /// The instance that was probed.
        container_id: String,
        /// What for.
        kind: ProbeKind,
        /// What it says.
        verdict: Verdict,
    },
    /// A step has ended.
    StepDone {
        /// Which one.
        step: StepKey,
        /// How.
        result: Result<Outcome, StepError>,
    },
    /// The node does not take the pod: it has never started and never will.
    Reject(Failure),
    /// The node wants the pod gone (pressure, shutdown, preemption).
    Evict {
        /// What the status says.
        failure: Failure,
        /// Whole seconds; the pod's own grace period when `None`.
        grace: Option<Duration>,
    },
}

/// Why a pod failed, where its containers do not say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `status.reason`: `OutOfpods`, `NodeAffinity`, `DeadlineExceeded`, `Evicted`, ...
    pub reason: String,
    /// `status.message`.
    pub message: String,
}

// === impl Now ===

impl Now {
    /// The instant of a wall clock time in the future; now for one in the past.
    #[must_use]
    pub fn instant_of(&self, time: Timestamp) -> Instant {
        let ahead = Duration::try_from(time.duration_since(self.wall)).unwrap_or_default();
        self.instant.checked_add(ahead).unwrap_or(self.instant)
    }
}
