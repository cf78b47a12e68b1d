//! Events: what the agent tells users about pods and its node (core/v1 Event, `source.component: kubelet`).
//!
//! Callers never wait: an event goes into a bounded queue and is dropped, and counted, when that is full. One task
//! takes them out, merges repeats ([`correlate`]), keeps to `eventRecordQPS`, and writes them to the API server. While
//! pods start and stop, what is normal waits a little: writing it costs as much as a pod's status.

mod correlate;
mod recorder;

use k8s_openapi::{
    api::core::v1::{ObjectReference, Pod},
    jiff::Timestamp,
};
use kube::ResourceExt;
use tokio::sync::mpsc;

pub(crate) use self::recorder::start;

/// Events waiting to be sent; as many as the reference holds. More arrive only in a storm, which nobody reads.
const QUEUE: usize = 1000;

/// `type` of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventType {
    /// Nothing is wrong.
    Normal,
    /// Something may be wrong.
    Warning,
}

impl EventType {
    /// The API's word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Happening {
    pub(crate) about: ObjectReference,
    pub(crate) kind: EventType,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) at: Timestamp,
}

/// Where callers leave events. Cheap to clone; never blocks.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<Happening>,
    node: String,
}

impl Events {
    /// A recorder and the end of its queue, for [`start`] or a test.
    pub(crate) fn new(node: &str) -> (Self, mpsc::Receiver<Happening>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (
            Self {
                queue,
                node: node.to_owned(),
            },
            receiver,
        )
    }

    /// About a pod. `reason` is one of the reference's words (`pkg/kubelet/events/event.go`).
    pub(crate) fn pod(&self, pod: &Pod, kind: EventType, reason: &str, message: impl Into<String>) {
        self.leave(pod_reference(pod, None), kind, reason, message.into());
    }

    /// About a container of a pod, given as field path, e.g. `spec.containers{web}`.
    pub(crate) fn container(
        &self,
        (pod, field_path): (&Pod, &str),
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.leave(pod_reference(pod, Some(field_path)), kind, reason, message.into());
    }

    /// About our node.
    pub(crate) fn node(&self, kind: EventType, reason: &str, message: impl Into<String>) {
        // The reference uses the name as UID too, and `kubectl describe node` looks for that.
        let about = ObjectReference {
            kind: Some("Node".into()),
            name: Some(self.node.clone()),
            uid: Some(self.node.clone()),
            ..ObjectReference::default()
        };
        self.leave(about, kind, reason, message.into());
    }

    fn leave(&self, about: ObjectReference, kind: EventType, reason: &str, message: String) {
        let happening = Happening {
            about,
            kind,
            reason: reason.to_owned(),
            message,
            at: Timestamp::now(),
        };
        if let Err(error) = self.queue.try_send(happening) {
            tracing::warn!(reason, %error, "event dropped");
        }
    }
}

fn pod_reference(pod: &Pod, field_path: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: pod.namespace(),
        name: pod.metadata.name.clone(),
        uid: pod.uid(),
        resource_version: pod.resource_version(),
        field_path: field_path.map(str::to_owned),
    }
}
