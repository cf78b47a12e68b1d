//! What is known of one pod's status: what the API server shall have, what it has, and when it shall have it.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodStatus},
    jiff::Timestamp,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{Target, WriterMetrics, patch, patience::patience};
use crate::metrics::Phase;

/// One pod's status.
pub(super) struct Slot {
    pub(super) target: Target,
    wanted: Arc<PodStatus>,
    /// What the API server has, as far as we know.
    told: Arc<PodStatus>,
    /// The pod is being deleted.
    deleting: bool,
    /// Counts changes of `wanted`.
    version: u64,
    /// The newest version that the API server has; closed when the pod is gone.
    sent: watch::Sender<u64>,
    /// When the API server shall have `wanted` at the latest.
    due: Instant,
    /// Somebody waits for that.
    flush: bool,
    /// `due` may have come closer.
    hurry: Arc<Notify>,
    /// Since when the API server lacks what it should have.
    behind: Option<Instant>,
    /// Since when it lacks that the pod runs.
    runs: Option<Instant>,
    /// Conditions that the API server has, as far as we know.
    known: Vec<PodCondition>,
    /// A task is at work.
    busy: bool,
    /// The API object's version when it was last looked at.
    resource_version: Option<String>,
}

/// What is to be done about a pod.
pub(super) enum Next {
    Send(Request),
    /// Until then, or until the notification.
    Wait(Instant, Arc<Notify>),
    Nothing,
}

/// What one request carries.
pub(super) struct Request {
    pub(super) status: Arc<PodStatus>,
    /// Conditions that the API server has.
    pub(super) known: Vec<PodCondition>,
    version: u64,
}

impl Slot {
    pub(super) fn new(target: Target, pod: &Pod) -> Self {
        let api = Arc::new(pod.status.clone().unwrap_or_default());
        Self {
            target,
            known: api.conditions.clone().unwrap_or_default(),
            wanted: Arc::clone(&api),
            told: api,
            deleting: false,
            version: 0,
            sent: watch::Sender::new(0),
            due: Instant::now(),
            flush: false,
            hurry: Arc::default(),
            behind: None,
            runs: None,
            busy: false,
            resource_version: pod.metadata.resource_version.clone(),
        }
    }

    /// The newest status.
    pub(super) fn wanted(&self) -> Arc<PodStatus> {
        Arc::clone(&self.wanted)
    }

    /// `status` is the newest one. True when a task has to be started, which then asks for what is [`next`](Self::next).
    pub(super) fn want(&mut self, pod: &Pod, mut status: PodStatus) -> bool {
        let newer = self.resource_version != pod.metadata.resource_version;
        self.resource_version.clone_from(&pod.metadata.resource_version);
        patch::stamp(&mut status, &self.known, Timestamp::now());
        let overwritten = newer && pod.status.as_ref().is_none_or(|api| patch::differs(api, &status));
        if *self.wanted == status && (self.busy || !overwritten) {
            return false;
        }
        let now = Instant::now();
        if phase(&self.wanted) == "Pending" && phase(&status) == "Running" {
            self.runs = Some(now);
        }
        // What waited before waits no longer than it would have.
        let limit = self.waits().then_some(self.due);
        self.known = merged(&self.known, &status);
        self.wanted = Arc::new(status);
        self.version += 1;
        self.deleting = pod.metadata.deletion_timestamp.is_some();
        let wait = if overwritten {
            Duration::ZERO
        } else {
            self.patience()
        };
        self.due = limit.map_or(now + wait, |limit| limit.min(now + wait));
        if wait.is_zero() {
            self.behind.get_or_insert(now);
        }
        self.hurry.notify_one();
        !std::mem::replace(&mut self.busy, true)
    }

    /// Somebody waits until the API server has the version that is the newest now.
    pub(super) fn flush(&mut self) -> (u64, watch::Receiver<u64>) {
        self.flush = self.waits();
        self.due = Instant::now();
        self.hurry.notify_one();
        (self.version, self.sent.subscribe())
    }

    /// The next step; after `Nothing` the pod has no task any more.
    pub(super) fn next(&mut self) -> Next {
        if !self.waits() {
            (self.busy, self.flush) = (false, false);
            return Next::Nothing;
        }
        let now = Instant::now();
        if self.due > now {
            return Next::Wait(self.due, Arc::clone(&self.hurry));
        }
        self.behind.get_or_insert(now);
        Next::Send(Request {
            status: Arc::clone(&self.wanted),
            known: self.known.clone(),
            version: self.version,
        })
    }

    /// The API server has taken a request.
    pub(super) fn done(&mut self, request: Request, metrics: &WriterMetrics) {
        self.sent.send_replace(request.version);
        self.told = request.status;
        let (current, wait) = (!self.waits(), self.patience());
        self.due = Instant::now() + wait;
        if current {
            // The conditions that the request took away are no longer known.
            self.known = self.wanted.conditions.clone().unwrap_or_default();
        }
        if let Some(since) = self.behind.take() {
            // Of several changes the first one counts.
            metrics.status.synced(since.elapsed());
            // What came while the request was under way waits from now on.
            self.behind = (!current && wait.is_zero()).then(Instant::now);
        }
        if let Some(since) = self.runs.take_if(|_| current) {
            metrics.starts.phase(Phase::Status, since.elapsed());
        }
    }

    /// The API server lacks something.
    fn waits(&self) -> bool {
        *self.sent.borrow() < self.version
    }

    /// How long it may go on without.
    fn patience(&self) -> Duration {
        if self.flush {
            Duration::ZERO
        } else {
            patience(self.deleting, &self.told, &self.wanted)
        }
    }
}

fn phase(status: &PodStatus) -> &str {
    status.phase.as_deref().unwrap_or("Pending")
}

/// `known` with the conditions of `status` laid over it.
fn merged(known: &[PodCondition], status: &PodStatus) -> Vec<PodCondition> {
    let mut all = status.conditions.clone().unwrap_or_default();
    let others: Vec<_> = known
        .iter()
        .filter(|old| all.iter().all(|new| new.type_ != old.type_))
        .cloned()
        .collect();
    all.extend(others);
    all
}
