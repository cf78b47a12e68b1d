//! The status writer: the only code that patches pod status and that deletes pods from the API.
//!
//! `publish` stores the newest status of a pod and returns; if nothing is in flight for this pod, a task is started
//! that sends until the API server has the newest one, then ends. So there is one request per pod at a time, the
//! latest status wins, and an idle pod costs no task. At most [`IN_FLIGHT`] requests run at once over all pods.
//!
//! A failed request is repeated with back-off, 0.2 s to 10 s. A pod that is gone, or that has another UID now, is
//! forgotten: its status interests nobody.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodStatus},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PartialObjectMeta, Patch, PatchParams, Preconditions},
    core::Request,
};
use tokio::sync::{Semaphore, watch};

use super::patch;
use crate::{
    metrics::{Phase, StartMetrics, StatusMetrics},
    report::Chain,
};

/// Requests at the same time. More do not make a burst of 110 pods faster: the API server and etcd serialise.
const IN_FLIGHT: usize = 16;

const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Which pod a request is about; the UID tells it from a later pod of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// `metadata.namespace`.
    pub(crate) namespace: String,
    /// `metadata.name`.
    pub(crate) name: String,
    /// `metadata.uid`.
    pub(crate) uid: String,
}

impl Target {
    /// The target that a pod is.
    pub(crate) fn of(pod: &Pod) -> Self {
        Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
        }
    }
}

/// Handle to the writer; cheap to clone.
#[derive(Clone)]
pub(crate) struct StatusWriter {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    permits: Semaphore,
    metrics: WriterMetrics,
    /// By UID. Never held across an await.
    pods: Mutex<HashMap<String, Slot>>,
}

/// What the writer counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriterMetrics {
    pub(crate) status: StatusMetrics,
    pub(crate) starts: StartMetrics,
}

/// What is known of one pod's status.
struct Slot {
    target: Target,
    wanted: Arc<PodStatus>,
    /// Counts calls of `publish` that changed `wanted`.
    version: u64,
    /// Since when the API server lacks something.
    behind: Option<Instant>,
    /// Since when it lacks that the pod runs.
    runs: Option<Instant>,
    /// The newest version that the API server has; closed when the pod is gone.
    sent: watch::Sender<u64>,
    /// Conditions that the API server has, as far as we know.
    known: Vec<PodCondition>,
    /// A task is at work.
    busy: bool,
    /// The API object's version when `publish` last looked at it.
    resource_version: Option<String>,
}

/// How one request ended.
enum Outcome {
    Done,
    Gone,
    Retry(kube::Error),
}

impl StatusWriter {
    /// A writer over this client. Must be used inside a tokio runtime.
    pub(crate) fn new(client: Client, metrics: WriterMetrics) -> Self {
        let shared = Shared {
            client,
            metrics,
            permits: Semaphore::new(IN_FLIGHT),
            pods: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Make `status` the pod's status in the API, soon. `pod` is the API object as last seen: its conditions give the
    /// transition times, and its status shows what another may have overwritten. Transition times that are missing
    /// are filled in. Returns at once.
    pub(crate) fn publish(&self, pod: &Pod, mut status: PodStatus) {
        let target = Target::of(pod);
        let mut pods = self.shared.lock();
        let slot = pods
            .entry(target.uid.clone())
            .or_insert_with(|| Slot::new(target, pod));
        let newer = slot.resource_version != pod.metadata.resource_version;
        slot.resource_version.clone_from(&pod.metadata.resource_version);
        patch::stamp(&mut status, &slot.known, Timestamp::now());
        let overwritten = newer && pod.status.as_ref().is_none_or(|api| patch::differs(api, &status));
        if *slot.wanted == status && (slot.busy || !overwritten) {
            return;
        }
        let now = Instant::now();
        slot.behind.get_or_insert(now);
        if phase(&slot.wanted) == "Pending" && phase(&status) == "Running" {
            slot.runs = Some(now);
        }
        slot.known = merged(&slot.known, &status);
        slot.wanted = Arc::new(status);
        slot.version += 1;
        if !slot.busy {
            slot.busy = true;
            tokio::spawn(drive(self.shared.clone(), slot.target.clone()));
        }
    }

    /// The status that was published last, or that the API server had before; `None` for a pod that is not known.
    pub(crate) fn current(&self, uid: &str) -> Option<Arc<PodStatus>> {
        self.shared.lock().get(uid).map(|slot| slot.wanted.clone())
    }

    /// Wait until the API server has what was published for this pod, or the pod is gone.
    pub(crate) async fn flush(&self, uid: &str) {
        let (version, mut sent) = match self.shared.lock().get(uid) {
            Some(slot) => (slot.version, slot.sent.subscribe()),
            None => return,
        };
        // An error means that the slot was dropped: the pod is gone.
        let _ = sent.wait_for(|sent| *sent >= version).await;
    }

    /// Delete the pod from the API, with grace 0 and only if it still has this UID. Returns when the API server has
    /// said yes or that there is no such pod; keeps trying otherwise.
    pub(crate) async fn delete_pod(&self, target: &Target) {
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &target.namespace);
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(target.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let mut backoff = BACKOFF_MIN;
        loop {
            match api.delete(&target.name, &params).await {
                Ok(_) => break,
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => break,
                Err(error) => {
                    tracing::warn!(pod = target.name, namespace = target.namespace, error = %Chain(&error), "cannot delete the pod, will retry");
                }
            }
            tokio::time::sleep(jittered(backoff)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        self.forget(&target.uid);
    }

    /// Drop what is known of a pod that the API server no longer has.
    pub(crate) fn forget(&self, uid: &str) {
        self.shared.lock().remove(uid);
    }
}

impl Slot {
    fn new(target: Target, pod: &Pod) -> Self {
        let api = pod.status.clone().unwrap_or_default();
        Self {
            target,
            known: api.conditions.clone().unwrap_or_default(),
            wanted: Arc::new(api),
            version: 0,
            behind: None,
            runs: None,
            sent: watch::Sender::new(0),
            busy: false,
            resource_version: pod.metadata.resource_version.clone(),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        // No code panics while it holds the lock, and the map stays sound if one did.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request.
    async fn send(&self, target: &Target, status: &PodStatus, known: &[PodCondition]) -> Outcome {
        let body = Patch::Strategic(patch::body(&target.uid, status, known));
        let url = format!("/api/v1/namespaces/{}/pods", target.namespace);
        let request =
            Request::new(url).patch_subresource("status", &target.name, &PatchParams::default(), &body);
        let request = match request {
            Ok(request) => request,
            Err(error) => return Outcome::Retry(kube::Error::BuildRequest(error)),
        };
        // Only the metadata of the answer is decoded.
        match self.client.request::<PartialObjectMeta<Pod>>(request).await {
            Ok(_) => Outcome::Done,
            Err(kube::Error::Api(answer)) if answer.code == 404 => Outcome::Gone,
            Err(kube::Error::Api(answer)) if answer.code == 409 => self.after_conflict(target, answer).await,
            Err(error) => Outcome::Retry(error),
        }
    }

    /// A conflict: another pod has this name now, or a race that a retry solves.
    async fn after_conflict(&self, target: &Target, answer: Box<kube::core::Status>) -> Outcome {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &target.namespace);
        match api.get_metadata_opt(&target.name).await {
            Ok(Some(found)) if found.metadata.uid.as_deref() == Some(&target.uid) => {
                Outcome::Retry(kube::Error::Api(answer))
            }
            Ok(_) => Outcome::Gone,
            Err(error) => Outcome::Retry(error),
        }
    }
}

/// Send until the API server has the newest status of this pod.
async fn drive(shared: Arc<Shared>, target: Target) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let (status, version, known) = {
            let mut pods = shared.lock();
            let Some(slot) = pods.get_mut(&target.uid) else {
                return;
            };
            if *slot.sent.borrow() >= slot.version {
                slot.busy = false;
                return;
            }
            (slot.wanted.clone(), slot.version, slot.known.clone())
        };
        let outcome = {
            let Ok(_permit) = shared.permits.acquire().await else {
                return;
            };
            shared.send(&target, &status, &known).await
        };
        match outcome {
            Outcome::Done => {
                backoff = BACKOFF_MIN;
                if let Some(slot) = shared.lock().get_mut(&target.uid) {
                    slot.sent.send_replace(version);
                    slot.drop_gone_conditions();
                    slot.count(&shared.metrics);
                }
            }
            Outcome::Gone => {
                tracing::debug!(
                    pod = target.name,
                    namespace = target.namespace,
                    "status dropped, the pod is gone"
                );
                shared.lock().remove(&target.uid);
                return;
            }
            Outcome::Retry(error) => {
                tracing::warn!(pod = target.name, namespace = target.namespace, error = %Chain(&error), "cannot write the pod's status, will retry");
                tokio::time::sleep(jittered(backoff)).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

impl Slot {
    /// After a request: how late the API server is. Of several changes the first one counts.
    fn count(&mut self, metrics: &WriterMetrics) {
        let current = *self.sent.borrow() == self.version;
        if let Some(since) = self.behind.take() {
            metrics.status.synced(since.elapsed());
            // What came while the request was under way waits from now on.
            self.behind = (!current).then(Instant::now);
        }
        if let Some(since) = self.runs.take_if(|_| current) {
            metrics.starts.phase(Phase::Status, since.elapsed());
        }
    }

    /// After a request: the conditions that it took away are no longer known.
    fn drop_gone_conditions(&mut self) {
        if *self.sent.borrow() == self.version {
            self.known = self.wanted.conditions.clone().unwrap_or_default();
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

fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.75..1.25))
}

#[cfg(test)]
mod tests;
