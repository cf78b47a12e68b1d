//! The pods of this node, for those who ask: the API, statistics, logs.
//!
//! The manager says which pods there are; the status is the one that the status writer last took, so it is never older
//! than what the API server shows. Nothing is copied or computed before somebody asks.
//!
//! A mutex guards the two maps; it is held for a look-up or a change of one entry, never across an await.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::ResourceExt as _;

use crate::status::StatusWriter;

/// The pods of this node; clones share it.
#[derive(Clone)]
pub(crate) struct Directory {
    status: StatusWriter,
    shared: Arc<Mutex<Shared>>,
    /// When the manager last began a round.
    round: Arc<Mutex<Option<Instant>>>,
}

#[derive(Default)]
struct Shared {
    by_uid: HashMap<String, Known>,
    /// Namespace and name to UID: of two pods of a name, the later one.
    by_name: HashMap<(String, String), String>,
}

#[derive(Clone)]
struct Known {
    pod: Arc<Pod>,
    seen: Timestamp,
}

/// One pod, as of now.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The API object as last seen; its status may be behind.
    pub(crate) pod: Arc<Pod>,
    /// The status that the agent last computed; that of the API object until there is one.
    pub(crate) status: Arc<PodStatus>,
    /// When the agent first saw it.
    pub(crate) seen: Timestamp,
}

impl Directory {
    /// Nothing yet; statuses come from `status`.
    pub(crate) fn new(status: StatusWriter) -> Self {
        Self {
            status,
            shared: Arc::default(),
            round: Arc::default(),
        }
    }

    /// Where statuses come from.
    pub(crate) fn status_writer(&self) -> &StatusWriter {
        &self.status
    }

    /// All pods, in no order.
    pub(crate) fn all(&self) -> Vec<Entry> {
        let known: Vec<Known> = self.lock().by_uid.values().cloned().collect();
        known.into_iter().map(|known| self.entry(known)).collect()
    }

    /// The pod of this name.
    pub(crate) fn by_name(&self, namespace: &str, name: &str) -> Option<Entry> {
        let known = {
            let shared = self.lock();
            let uid = shared.by_name.get(&(namespace.to_owned(), name.to_owned()))?;
            shared.by_uid.get(uid)?.clone()
        };
        Some(self.entry(known))
    }

    /// How long ago the manager began its round; `None` before the first.
    pub(crate) fn last_round(&self) -> Option<Duration> {
        let round = *self.round.lock().unwrap_or_else(PoisonError::into_inner);
        round.map(|began| began.elapsed())
    }

    /// The manager begins a round.
    pub(super) fn begin_round(&self) {
        *self.round.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// There is this pod, or it has changed.
    pub(super) fn put(&self, pod: &Arc<Pod>) {
        let Some(uid) = pod.uid() else { return };
        let mut shared = self.lock();
        shared.by_name.insert(name(pod), uid.clone());
        let seen = shared.by_uid.get(&uid).map(|known| known.seen);
        let known = Known {
            pod: pod.clone(),
            seen: seen.unwrap_or_else(Timestamp::now),
        };
        shared.by_uid.insert(uid, known);
    }

    /// This pod is no longer wanted.
    pub(super) fn remove(&self, uid: &str) {
        let mut shared = self.lock();
        let Some(known) = shared.by_uid.remove(uid) else {
            return;
        };
        let name = name(&known.pod);
        if shared.by_name.get(&name).is_some_and(|named| named == uid) {
            shared.by_name.remove(&name);
        }
    }

    fn entry(&self, known: Known) -> Entry {
        let uid = known.pod.metadata.uid.as_deref().unwrap_or_default();
        let status = self.status.current(uid);
        Entry {
            status: status.unwrap_or_else(|| Arc::new(known.pod.status.clone().unwrap_or_default())),
            seen: known.seen,
            pod: known.pod,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // No code panics while it holds the lock, and the maps stay sound if one did.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// The object with the status that the agent last computed, and the annotations that say where it is from, as the
    /// reference shows it.
    pub(crate) fn with_status(&self) -> Pod {
        let mut pod = Pod {
            status: Some(PodStatus::clone(&self.status)),
            ..Pod::clone(&self.pod)
        };
        let annotations = pod.metadata.annotations.get_or_insert_default();
        let seen = self.seen.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string();
        annotations.insert("kubernetes.io/config.seen".to_owned(), seen);
        annotations.insert("kubernetes.io/config.source".to_owned(), "api".to_owned());
        pod
    }
}

fn name(pod: &Pod) -> (String, String) {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::{status::WriterMetrics, testing::ApiServer};

    /// A directory of these pods; nothing is written to an API server.
    pub(crate) fn directory(pods: impl IntoIterator<Item = Pod>) -> Directory {
        let (client, _) = ApiServer::new();
        let directory = Directory::new(StatusWriter::new(client, WriterMetrics::default()));
        for pod in pods {
            directory.put(&Arc::new(pod));
        }
        directory
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{status::WriterMetrics, testing::ApiServer};

    fn pod(uid: &str, phase: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"namespace": "ns", "name": "p", "uid": uid},
                "status": {"phase": phase},
            }))
            .unwrap(),
        )
    }

    #[tokio::test]
    async fn a_later_pod_of_the_same_name_is_found_by_it() {
        let directory = testing::directory([]);
        directory.put(&pod("a", "Running"));
        directory.put(&pod("b", "Pending"));
        let found = |name| directory.by_name("ns", name).and_then(|entry| entry.pod.uid());
        assert_eq!((found("p").as_deref(), found("q")), (Some("b"), None));
        directory.remove("a");
        assert_eq!(
            found("p").as_deref(),
            Some("b"),
            "the old one takes nothing with it"
        );
        assert_eq!(directory.all().len(), 1);
        directory.remove("b");
        assert!(directory.by_name("ns", "p").is_none());
    }

    #[tokio::test]
    async fn the_status_is_the_one_that_the_agent_computed_last() {
        let (client, _server) = ApiServer::new();
        let writer = StatusWriter::new(client, WriterMetrics::default());
        let directory = Directory::new(writer.clone());
        let pod = pod("a", "Pending");
        directory.put(&pod);
        let phase = || directory.by_name("ns", "p").unwrap().status.phase.clone();
        assert_eq!(phase().as_deref(), Some("Pending"));
        let status = PodStatus {
            phase: Some("Running".into()),
            ..PodStatus::default()
        };
        writer.publish(&pod, status);
        assert_eq!(phase().as_deref(), Some("Running"));
        let whole = directory.by_name("ns", "p").unwrap().with_status();
        assert_eq!(
            whole.metadata.annotations.as_ref().unwrap()["kubernetes.io/config.source"],
            "api"
        );
        assert_eq!(whole.status.unwrap().phase.as_deref(), Some("Running"));
    }
}
