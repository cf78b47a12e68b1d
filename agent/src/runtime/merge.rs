//! How pieces of news become one picture of each pod. Pure: no IO, no clock.
//!
//! News arrives on several paths (CRI events, answers to our own calls, lists) and in any order: containerd collects
//! the content of an event before it stamps and queues it, so not even the events' own times order them. Therefore
//! nothing here depends on order. A container only moves forward, `Created -> Running -> Unknown -> Exited -> gone`,
//! and a sandbox `ready -> not ready -> gone`; what is gone (ids are never used twice) stays gone. Only the answer to
//! a question that was asked after an object's last change is the truth in every direction, and that is what heals
//! a lost or wrong piece of news.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use gantry_agent_core::observed::{Container, ContainerState, ObservedPod, Sandbox};

/// Counts the changes of an [`Index`]; orders a question against the news that came meanwhile.
pub(super) type Stamp = u64;

/// Who a pod is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) namespace: String,
}

/// One piece of news.
#[derive(Debug, Clone)]
pub(super) enum Change<'a> {
    /// A sandbox and its containers as they were at some moment that has passed; says nothing of what it lacks.
    Seen {
        identity: Identity,
        sandbox: Option<Sandbox>,
        containers: Vec<Container>,
    },
    /// All that the runtime has of one pod; `asked` is the index's stamp from before the question.
    Listed {
        identity: Identity,
        sandboxes: Vec<Sandbox>,
        containers: Vec<Container>,
        asked: Stamp,
    },
    /// The runtime has stopped the sandbox for us.
    SandboxStopped { id: &'a str },
    /// The sandbox is gone, and its containers with it.
    SandboxRemoved { id: &'a str },
    /// The container is gone.
    ContainerRemoved { id: &'a str },
}

/// What runs, by pod UID.
#[derive(Debug, Default)]
pub(super) struct Index {
    pods: HashMap<String, Arc<ObservedPod>>,
    objects: HashMap<String, Object>,
    /// Ids that were removed and when, so that late news does not bring them back.
    gone: HashMap<String, Stamp>,
    clock: Stamp,
}

#[derive(Debug)]
struct Object {
    uid: String,
    changed: Stamp,
}

impl Index {
    /// The time of a question about to be asked.
    pub(super) fn stamp(&self) -> Stamp {
        self.clock
    }

    pub(super) fn get(&self, uid: &str) -> Option<&Arc<ObservedPod>> {
        self.pods.get(uid)
    }

    pub(super) fn pods(&self) -> impl Iterator<Item = &Arc<ObservedPod>> {
        self.pods.values()
    }

    pub(super) fn uids(&self) -> impl Iterator<Item = &String> {
        self.pods.keys()
    }

    /// The pod that a sandbox or container id belongs to.
    pub(super) fn owner(&self, id: &str) -> Option<&str> {
        self.objects.get(id).map(|object| object.uid.as_str())
    }

    /// Takes one piece of news in; returns the UID of the pod that it changed.
    pub(super) fn apply(&mut self, change: Change<'_>) -> Option<String> {
        self.clock += 1;
        match change {
            Change::Seen {
                identity,
                sandbox,
                containers,
            } => {
                let mut changed = false;
                if let Some(sandbox) = sandbox {
                    changed |= self.put_sandbox(&identity, sandbox, 0);
                }
                for container in containers {
                    changed |= self.put_container(&identity, container, 0);
                }
                changed.then_some(identity.uid)
            }
            Change::Listed {
                identity,
                sandboxes,
                containers,
                asked,
            } => {
                let mut changed = self.drop_unlisted(&identity.uid, &sandboxes, &containers, asked);
                for sandbox in sandboxes {
                    changed |= self.put_sandbox(&identity, sandbox, asked);
                }
                for container in containers {
                    changed |= self.put_container(&identity, container, asked);
                }
                changed.then_some(identity.uid)
            }
            Change::SandboxStopped { id } => self.stop_sandbox(id),
            Change::SandboxRemoved { id } => self.remove_sandbox(id),
            Change::ContainerRemoved { id } => self.remove(&[id.to_owned()]),
        }
    }

    /// Forgets removals from before `asked`: a full list that was asked for later has been taken in.
    pub(super) fn forget_gone(&mut self, asked: Stamp) {
        self.gone.retain(|_, when| *when > asked);
    }

    /// `asked` is 0 for news without a known time.
    fn put_sandbox(&mut self, identity: &Identity, new: Sandbox, asked: Stamp) -> bool {
        let Some(authoritative) = self.admit(identity, &new.id, asked) else {
            return false;
        };
        let clock = self.clock;
        let pod = self.pod(identity);
        let changed = match pod.sandboxes.iter().position(|old| old.id == new.id) {
            None => {
                let pod = Arc::make_mut(pod);
                pod.sandboxes.push(new.clone());
                pod.sandboxes.sort_by_key(|s| Reverse((s.attempt, s.created_at)));
                true
            }
            Some(at) => {
                let old = &pod.sandboxes[at];
                let forward = old.ready && !new.ready || old.ready == new.ready && old.ips.is_empty();
                let replace = *old != new && (authoritative || forward);
                if replace {
                    Arc::make_mut(pod).sandboxes[at] = new.clone();
                }
                replace
            }
        };
        if changed {
            self.touch(&new.id, &identity.uid, clock);
        }
        changed
    }

    fn put_container(&mut self, identity: &Identity, new: Container, asked: Stamp) -> bool {
        let Some(authoritative) = self.admit(identity, &new.id, asked) else {
            return false;
        };
        let clock = self.clock;
        let pod = self.pod(identity);
        let changed = match pod.containers.iter().position(|old| old.id == new.id) {
            None => {
                let pod = Arc::make_mut(pod);
                pod.containers.push(new.clone());
                pod.containers
                    .sort_by(|a, b| b.attempt.cmp(&a.attempt).then_with(|| a.id.cmp(&b.id)));
                true
            }
            Some(at) => {
                let old = &pod.containers[at];
                let replace = *old != new && (authoritative || moves_forward(&old.state, &new.state));
                if replace {
                    Arc::make_mut(pod).containers[at] = new.clone();
                }
                replace
            }
        };
        if changed {
            self.touch(&new.id, &identity.uid, clock);
        }
        changed
    }

    /// `None` for what is gone; else whether the news is later than the object's last change.
    fn admit(&self, identity: &Identity, id: &str, asked: Stamp) -> Option<bool> {
        if identity.uid.is_empty() || self.gone.contains_key(id) {
            return None;
        }
        Some(self.objects.get(id).is_none_or(|object| object.changed <= asked))
    }

    fn pod(&mut self, identity: &Identity) -> &mut Arc<ObservedPod> {
        self.pods.entry(identity.uid.clone()).or_insert_with(|| {
            Arc::new(ObservedPod {
                uid: identity.uid.clone(),
                name: identity.name.clone(),
                namespace: identity.namespace.clone(),
                ..ObservedPod::default()
            })
        })
    }

    fn touch(&mut self, id: &str, uid: &str, changed: Stamp) {
        self.objects.insert(
            id.to_owned(),
            Object {
                uid: uid.to_owned(),
                changed,
            },
        );
    }

    fn drop_unlisted(
        &mut self,
        uid: &str,
        sandboxes: &[Sandbox],
        containers: &[Container],
        asked: Stamp,
    ) -> bool {
        let Some(pod) = self.pods.get(uid) else {
            return false;
        };
        let old = |id: &String| self.objects.get(id).is_none_or(|object| object.changed <= asked);
        let lost_sandboxes = pod
            .sandboxes
            .iter()
            .map(|s| &s.id)
            .filter(|id| !sandboxes.iter().any(|s| s.id == **id));
        let lost_containers = pod
            .containers
            .iter()
            .map(|c| &c.id)
            .filter(|id| !containers.iter().any(|c| c.id == **id));
        let lost: Vec<String> = lost_sandboxes
            .chain(lost_containers)
            .filter(|id| old(id))
            .cloned()
            .collect();
        self.remove(&lost).is_some()
    }

    fn stop_sandbox(&mut self, id: &str) -> Option<String> {
        let uid = self.objects.get(id)?.uid.clone();
        let pod = self.pods.get_mut(&uid)?;
        let at = pod.sandboxes.iter().position(|s| s.id == id && s.ready)?;
        let sandbox = &mut Arc::make_mut(pod).sandboxes[at];
        sandbox.ready = false;
        sandbox.ips.clear();
        self.touch(id, &uid, self.clock);
        Some(uid)
    }

    fn remove_sandbox(&mut self, id: &str) -> Option<String> {
        let mut ids = vec![id.to_owned()];
        if let Some(pod) = self.objects.get(id).and_then(|object| self.pods.get(&object.uid)) {
            ids.extend(
                pod.containers
                    .iter()
                    .filter(|c| c.sandbox_id == id)
                    .map(|c| c.id.clone()),
            );
        }
        self.remove(&ids)
    }

    /// Removes objects of one pod; also remembers ids that were never seen, whose news may be on its way.
    fn remove(&mut self, ids: &[String]) -> Option<String> {
        let mut owner = None;
        for id in ids {
            self.gone.insert(id.clone(), self.clock);
            let Some(object) = self.objects.remove(id) else {
                continue;
            };
            if let Some(pod) = self.pods.get_mut(&object.uid) {
                let pod = Arc::make_mut(pod);
                pod.sandboxes.retain(|s| s.id != *id);
                pod.containers.retain(|c| c.id != *id);
                if pod.sandboxes.is_empty() && pod.containers.is_empty() {
                    self.pods.remove(&object.uid);
                }
            }
            owner = Some(object.uid);
        }
        owner
    }
}

/// How far a container has come in its life.
pub(super) fn rank(state: &ContainerState) -> u8 {
    match state {
        ContainerState::Created => 0,
        ContainerState::Running { .. } => 1,
        ContainerState::Unknown => 2,
        ContainerState::Exited(_) => 3,
    }
}

/// containerd may learn of an OOM kill after it has reported the exit, so `OOMKilled` comes after any other reason.
fn moves_forward(old: &ContainerState, new: &ContainerState) -> bool {
    match (old, new) {
        (ContainerState::Exited(old), ContainerState::Exited(new)) => {
            old.reason != OOM_KILLED && new.reason == OOM_KILLED
        }
        (old, new) => rank(new) > rank(old),
    }
}

const OOM_KILLED: &str = "OOMKilled";

#[cfg(test)]
#[path = "merge/tests.rs"]
mod tests;
