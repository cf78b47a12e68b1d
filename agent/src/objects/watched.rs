//! Single objects by name, each fetched once and watched from there while some pod refers to it.
//!
//! One task per entry; it ends when the last pod lets go of the object. Input: the API server. Output: the entry's
//! `watch` value, and the pods marked in [`Dirty`] at each change of content.
//!
//! ```text
//! task:  GET ──found──> watch from its version ──closed──> watch again ──expired, error──> GET
//!         └──missing──> watch from the beginning (it reports an object that appears)
//! ```

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::TryStreamExt as _;
use gantry_agent_core::volumes::refs::ObjectKind;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Dirty, ObjectError};

/// After a failed request: doubled up to the maximum, with jitter.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The API server learns that a pod is bound to this node from its own watch, perhaps a moment after us; until then it
/// refuses the node. Waits before the tries that follow a refusal.
const RACE_WAITS_MS: [u64; 8] = [3, 6, 12, 25, 50, 100, 200, 400];

/// An object that can be kept here.
pub(super) trait Kept:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + PartialEq
    + Send
    + Sync
    + 'static
{
    const KIND: ObjectKind;

    fn is_immutable(&self) -> bool;
}

impl Kept for ConfigMap {
    const KIND: ObjectKind = ObjectKind::ConfigMap;

    fn is_immutable(&self) -> bool {
        self.immutable.unwrap_or(false)
    }
}

impl Kept for Secret {
    const KIND: ObjectKind = ObjectKind::Secret;

    fn is_immutable(&self) -> bool {
        self.immutable.unwrap_or(false)
    }
}

type Answer<K> = Result<Arc<K>, ObjectError>;

/// All objects of one kind.
pub(super) struct Watched<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    client: kube::Client,
    dirty: Dirty,
    state: Mutex<State<K>>,
}

struct State<K> {
    entries: HashMap<Key, Entry<K>>,
    by_pod: HashMap<String, BTreeSet<Key>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    namespace: String,
    name: String,
}

struct Entry<K> {
    /// The UIDs of the pods that refer to it.
    pods: BTreeSet<String>,
    /// `None` before the first answer; the last one stays when the task has ended (an immutable object).
    answer: watch::Receiver<Option<Answer<K>>>,
    _task: AbortOnDropHandle<()>,
}

impl<K> Clone for Watched<K> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K: Kept> Watched<K> {
    pub(super) fn new(client: kube::Client, dirty: Dirty) -> Self {
        let state = Mutex::new(State {
            entries: HashMap::new(),
            by_pod: HashMap::new(),
        });
        Self {
            shared: Arc::new(Shared { client, dirty, state }),
        }
    }

    /// Makes these the objects that the pod refers to.
    pub(super) fn track(&self, uid: &str, namespace: &str, names: BTreeSet<String>) {
        let keys: BTreeSet<Key> = names
            .into_iter()
            .map(|name| Key {
                namespace: namespace.to_owned(),
                name,
            })
            .collect();
        let mut state = self.shared.lock();
        let before = state.by_pod.remove(uid).unwrap_or_default();
        for gone in before.difference(&keys) {
            state.release(gone, uid);
        }
        for key in &keys {
            let entry = state
                .entries
                .entry(key.clone())
                .or_insert_with(|| self.entry(key.clone()));
            entry.pods.insert(uid.to_owned());
        }
        if !keys.is_empty() {
            state.by_pod.insert(uid.to_owned(), keys);
        }
    }

    pub(super) fn forget(&self, uid: &str) {
        self.track(uid, "", BTreeSet::new());
    }

    /// The object. A tracked one that is known is answered without a request; a bad answer is never trusted.
    pub(super) async fn get(&self, namespace: &str, name: &str) -> Answer<K> {
        let key = Key {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let tracked = self
            .shared
            .lock()
            .entries
            .get(&key)
            .map(|entry| entry.answer.clone());
        if let Some(mut answer) = tracked {
            let first = answer.borrow().is_none();
            // An error means that the entry was dropped meanwhile: ask directly, as for an untracked one.
            let known = answer
                .wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|known| (*known).clone());
            match known {
                Some(Ok(object)) => return Ok(object),
                Some(Err(error)) if first => return Err(error),
                Some(Err(_)) | None => {}
            }
        }
        let api = kube::Api::namespaced(self.shared.client.clone(), namespace);
        fetch::<K>(&api, name).await.map(|(object, _)| object)
    }

    fn entry(&self, key: Key) -> Entry<K> {
        let (publish, answer) = watch::channel(None);
        let api = kube::Api::namespaced(self.shared.client.clone(), &key.namespace);
        let follower = Follower {
            shared: Arc::downgrade(&self.shared),
            key,
            publish,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(follower.run(api)));
        Entry {
            pods: BTreeSet::new(),
            answer,
            _task: task,
        }
    }
}

impl<K> Shared<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> State<K> {
    fn release(&mut self, key: &Key, uid: &str) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.pods.remove(uid);
            if entry.pods.is_empty() {
                self.entries.remove(key);
            }
        }
    }
}

/// The task of one entry.
struct Follower<K> {
    shared: Weak<Shared<K>>,
    key: Key,
    publish: watch::Sender<Option<Answer<K>>>,
}

/// How a watch ended.
enum Ended {
    /// The server closed it; the next begins at this version.
    At(String),
    /// What was missed cannot be told, or the connection broke: fetch again.
    Lost,
    /// The object cannot change any more.
    Final,
}

impl<K: Kept> Follower<K> {
    async fn run(self, api: kube::Api<K>) {
        let mut wait = RETRY_MIN;
        loop {
            let mut version = match fetch(&api, &self.key.name).await {
                Ok((object, version)) => {
                    let immutable = object.is_immutable();
                    self.tell(Ok(object));
                    if immutable {
                        return;
                    }
                    version
                }
                Err(error @ ObjectError::Missing { .. }) => {
                    self.tell(Err(error));
                    "0".to_owned()
                }
                Err(error) => {
                    self.tell_failure(error);
                    tokio::time::sleep(jittered(wait)).await;
                    wait = (wait * 2).min(RETRY_MAX);
                    continue;
                }
            };
            wait = RETRY_MIN;
            loop {
                match self.watch(&api, version).await {
                    Ended::At(next) => version = next,
                    Ended::Lost => break,
                    Ended::Final => return,
                }
            }
            tokio::time::sleep(jittered(wait)).await;
        }
    }

    async fn watch(&self, api: &kube::Api<K>, mut version: String) -> Ended {
        let only = WatchParams::default().fields(&format!("metadata.name={}", self.key.name));
        let Ok(events) = api.watch(&only, &version).await else {
            return Ended::Lost;
        };
        let mut events = pin!(events);
        loop {
            let object = match events.try_next().await {
                Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object))) => object,
                Ok(Some(WatchEvent::Deleted(object))) => {
                    version = object.meta().resource_version.clone().unwrap_or_default();
                    self.tell(Err(missing::<K>(&self.key.name)));
                    continue;
                }
                Ok(Some(WatchEvent::Bookmark(mark))) => {
                    version = mark.metadata.resource_version;
                    continue;
                }
                Ok(None) => return Ended::At(version),
                Ok(Some(WatchEvent::Error(_))) | Err(_) => return Ended::Lost,
            };
            version = object.meta().resource_version.clone().unwrap_or_default();
            let immutable = object.is_immutable();
            self.tell(Ok(Arc::new(reduced(object))));
            if immutable {
                return Ended::Final;
            }
        }
    }

    /// Publishes an answer; a change of content marks the pods.
    fn tell(&self, answer: Answer<K>) {
        let mut known_before = false;
        let changed = self.publish.send_if_modified(|known| {
            known_before = known.is_some();
            if known.as_ref().is_some_and(|known| same(known, &answer)) {
                return false;
            }
            *known = Some(answer);
            true
        });
        if changed
            && known_before
            && let Some(shared) = self.shared.upgrade()
        {
            let state = shared.lock();
            if let Some(entry) = state.entries.get(&self.key) {
                shared.dirty.mark(entry.pods.iter().map(String::as_str));
            }
        }
    }

    /// A failed request replaces no good answer.
    fn tell_failure(&self, error: ObjectError) {
        tracing::debug!(
            namespace = self.key.namespace,
            error = &error as &dyn std::error::Error,
            "object not fetched"
        );
        self.publish.send_if_modified(|known| {
            let replace = !matches!(known, Some(Ok(_)));
            if replace {
                *known = Some(Err(error));
            }
            replace
        });
    }
}

fn same<K: PartialEq>(one: &Answer<K>, other: &Answer<K>) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one == other,
        (Err(ObjectError::Missing { .. }), Err(ObjectError::Missing { .. })) => true,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}

/// The object and its version.
async fn fetch<K: Kept>(api: &kube::Api<K>, name: &str) -> Result<(Arc<K>, String), ObjectError> {
    match past_the_race(|| api.get_opt(name)).await {
        Ok(Some(object)) => {
            let version = object.meta().resource_version.clone().unwrap_or_default();
            Ok((Arc::new(reduced(object)), version))
        }
        Ok(None) => Err(missing::<K>(name)),
        Err(error) => Err(ObjectError::Fetch {
            kind: K::KIND,
            name: name.to_owned(),
            source: Arc::new(error),
        }),
    }
}

/// Repeats a request that is refused, for as long as it takes the API server to learn of the pod.
pub(super) async fn past_the_race<T, F>(mut request: impl FnMut() -> F) -> Result<T, kube::Error>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    for wait in RACE_WAITS_MS {
        match request().await {
            Err(kube::Error::Api(status)) if status.code == 403 => {
                tokio::time::sleep(Duration::from_millis(wait)).await
            }
            other => return other,
        }
    }
    request().await
}

fn missing<K: Kept>(name: &str) -> ObjectError {
    ObjectError::Missing {
        kind: K::KIND,
        name: name.to_owned(),
    }
}

/// Without the metadata that nobody here reads: equality is then equality of content.
fn reduced<K: Kept>(mut object: K) -> K {
    let meta = std::mem::take(object.meta_mut());
    *object.meta_mut() = ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        ..ObjectMeta::default()
    };
    object
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(1.0 + rand::random::<f64>() / 2.0)
}

#[cfg(test)]
mod tests;
