//! The status writer: the only code that patches pod status and that deletes pods from the API.
//!
//! `publish` stores the newest status of a pod and returns; if nothing is in flight for this pod, a task is started
//! that sends until the API server has the newest one, then ends. So there is one request per pod at a time, the
//! latest status wins, and an idle pod costs no task. At most [`IN_FLIGHT`] requests run at once over all pods. A change
//! that nobody acts on waits a moment for the next one (`patience`); `flush` waits for nothing.
//!
//! A failed request is repeated with back-off, 0.2 s to 10 s. A pod that is gone, or that has another UID now, is
//! forgotten: its status interests nobody.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PartialObjectMeta, Patch, PatchParams, Preconditions},
    core::Request,
};
use tokio::{sync::Semaphore, time::sleep_until};

use super::{
    patch,
    slot::{self, Next, Slot},
};
use crate::{
    metrics::{StartMetrics, StatusMetrics},
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
    pub(crate) fn publish(&self, pod: &Pod, status: PodStatus) {
        let target = Target::of(pod);
        let mut pods = self.shared.lock();
        let slot = pods
            .entry(target.uid.clone())
            .or_insert_with(|| Slot::new(target, pod));
        if slot.want(pod, status) {
            tokio::spawn(drive(self.shared.clone(), slot.target.clone()));
        }
    }

    /// The status that was published last, or that the API server had before; `None` for a pod that is not known.
    pub(crate) fn current(&self, uid: &str) -> Option<Arc<PodStatus>> {
        self.shared.lock().get(uid).map(Slot::wanted)
    }

    /// Wait until the API server has what was published for this pod, or the pod is gone.
    pub(crate) async fn flush(&self, uid: &str) {
        let flushing = self.shared.lock().get_mut(uid).map(Slot::flush);
        let Some((version, mut sent)) = flushing else {
            return;
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        // No code panics while it holds the lock, and the map stays sound if one did.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next step for a pod; after `Nothing` it has no task any more.
    fn next(&self, target: &Target) -> Next {
        self.lock().get_mut(&target.uid).map_or(Next::Nothing, Slot::next)
    }

    /// One request.
    async fn send(&self, target: &Target, request: &slot::Request) -> Outcome {
        let body = Patch::Strategic(patch::body(&target.uid, &request.status, &request.known));
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
        let request = match shared.next(&target) {
            Next::Send(request) => request,
            Next::Nothing => return,
            Next::Wait(due, hurry) => {
                // Cancel safe: whoever wakes us has changed the slot, which is looked at again.
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = hurry.notified() => {}
                }
                continue;
            }
        };
        let outcome = {
            let Ok(_permit) = shared.permits.acquire().await else {
                return;
            };
            shared.send(&target, &request).await
        };
        match outcome {
            Outcome::Done => {
                backoff = BACKOFF_MIN;
                if let Some(slot) = shared.lock().get_mut(&target.uid) {
                    slot.done(request, &shared.metrics);
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

fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.75..1.25))
}

#[cfg(test)]
mod tests;
