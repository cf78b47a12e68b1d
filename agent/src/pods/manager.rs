//! Which pods there are on this node: one worker for each UID, started, told and forgotten here.
//!
//! * Inputs: [`Update`]s of the source, what the runtime holds, the node as admission sees it.
//! * Outputs: a `watch` of [`Wanted`] to each worker.
//! * Tasks: owns the workers' tasks; when it is dropped they end and the pods go on running.
//! * Nothing counts as gone before the first full list of the source and of the runtime: a pod that only the runtime
//!   or only the disk knows is removed after that, never before.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gantry_agent_core::{
    admission::{self, NodeView},
    machine::{Failure, NodeFacts},
    observed::ObservedPod,
    pod,
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::{
    account::PodCounters,
    directory::Directory,
    leftovers::Leftovers,
    source::Update,
    turns::Turns,
    worker::{Beginning, Hands, Wanted, Worker},
};
use crate::runtime::PodCache;

/// How often the runtime and the disk are searched for pods that nobody wants. The events of the runtime make this a
/// repair of the rare case only.
const SWEEP: Duration = Duration::from_secs(60);

/// What the manager works with.
pub(crate) struct Parts {
    pub(crate) cache: PodCache,
    pub(crate) leftovers: Leftovers,
    /// Told which pods there are.
    pub(crate) directory: Directory,
    /// For the status of pods.
    pub(crate) facts: Arc<NodeFacts>,
    /// For admission.
    pub(crate) node: watch::Receiver<NodeView>,
    pub(crate) turns: Turns,
    /// Told which pods use the node, whenever that changes.
    pub(crate) active: watch::Sender<Vec<Arc<Pod>>>,
    pub(crate) counters: PodCounters,
}

/// The manager; see the module's documentation. `hands` makes those of a pod's worker.
pub(crate) struct Manager<F> {
    parts: Parts,
    hands: F,
    /// By UID.
    pods: HashMap<String, Handle>,
    workers: JoinSet<String>,
    /// The source has told all.
    synced: bool,
    /// Removes what the disk still has of pods that are gone.
    disk: Option<AbortOnDropHandle<()>>,
}

/// A pod with a worker.
struct Handle {
    wanted: watch::Sender<Wanted>,
    finished: Arc<AtomicBool>,
}

impl<H: Hands, F: Fn() -> H> Manager<F> {
    pub(crate) fn new(parts: Parts, hands: F) -> Self {
        let (pods, workers) = (HashMap::new(), JoinSet::new());
        Self {
            parts,
            hands,
            pods,
            workers,
            synced: false,
            disk: None,
        }
    }

    /// Runs until the source ends.
    pub(crate) async fn run(mut self, mut updates: mpsc::Receiver<Update>) {
        self.parts.cache.synced().await;
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.parts.directory.begin_round();
            tokio::select! {
                // Cancel safe, by tokio's documentation.
                update = updates.recv() => match update {
                    Some(update) => self.take(update).await,
                    None => return,
                },
                // Cancel safe, by tokio's documentation.
                Some(ended) = self.workers.join_next() => match ended {
                    Ok(uid) => {
                        self.ended(&uid);
                        self.tell_active();
                    }
                    Err(error) => tracing::error!(%error, "a pod's worker broke"),
                },
                // Cancel safe, by tokio's documentation.
                _ = sweep.tick() => self.sweep().await,
            }
        }
    }

    async fn take(&mut self, update: Update) {
        match update {
            Update::Replace(mut pods) => {
                pods.sort_by_key(|pod| pod.creation_timestamp().map(|t| t.0));
                let listed: HashSet<String> = pods.iter().filter_map(|pod| pod.uid()).collect();
                for (uid, handle) in &self.pods {
                    if !listed.contains(uid) {
                        self.parts.directory.remove(uid);
                        handle
                            .wanted
                            .send_if_modified(|w| std::mem::replace(&mut w.present, false));
                    }
                }
                pods.into_iter().for_each(|pod| self.apply(pod));
                self.tell_active();
                if !std::mem::replace(&mut self.synced, true) {
                    self.sweep().await;
                }
            }
            Update::Apply(pod) => {
                let news = pod.uid().is_some_and(|uid| !self.pods.contains_key(&uid));
                self.apply(pod);
                if news {
                    self.tell_active();
                }
            }
            Update::Delete(pod) => {
                let uid = pod.uid().unwrap_or_default();
                self.parts.directory.remove(&uid);
                if let Some(handle) = self.pods.get(&uid) {
                    handle.wanted.send_replace(Wanted { pod, present: false });
                }
            }
        }
    }

    fn apply(&mut self, pod: Arc<Pod>) {
        let Some(uid) = pod.uid() else { return };
        match self.pods.get(&uid) {
            Some(handle) => {
                self.parts.directory.put(&pod);
                handle.wanted.send_replace(Wanted { pod, present: true });
            }
            None => {
                let rejected = self.admit(&uid, &pod).err();
                self.start(uid, Wanted { pod, present: true }, rejected);
            }
        }
    }

    /// A pod that has been started here before, by whatever agent, is never rejected.
    fn admit(&self, uid: &str, pod: &Pod) -> Result<(), Failure> {
        let known = self
            .parts
            .cache
            .get(uid)
            .is_some_and(|held| !held.sandboxes.is_empty());
        if known || pod::terminal_in_api(pod) || pod::deleting(pod) {
            return Ok(());
        }
        let taken = self.active();
        let taken: Vec<&Pod> = taken.iter().map(Arc::as_ref).collect();
        admission::admit(pod, &self.parts.node.borrow(), &taken)
    }

    /// The pods that use the node. Those that have ended do not, nor those that the API has no more, as in kubelet: they
    /// may still be stopping, but a pod that is rejected for their sake would stay so.
    fn active(&self) -> Vec<Arc<Pod>> {
        let running = self
            .pods
            .values()
            .filter(|handle| !handle.finished.load(Ordering::Relaxed));
        let wanted = running.map(|handle| handle.wanted.borrow().clone());
        let present = wanted.filter(|wanted| wanted.present).map(|wanted| wanted.pod);
        present.filter(|pod| !pod::terminal_in_api(pod)).collect()
    }

    fn tell_active(&self) {
        self.parts.active.send_replace(self.active());
    }

    fn start(&mut self, uid: String, wanted: Wanted, rejected: Option<Failure>) {
        if let Some(failure) = &rejected {
            self.parts.counters.pods.rejected(&failure.reason);
        }
        let pod = &wanted.pod;
        let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
        let span = tracing::info_span!("pod", name, namespace, uid);
        let finished = Arc::new(AtomicBool::new(false));
        if wanted.present {
            self.parts.directory.put(&wanted.pod);
        }
        let (sender, receiver) = watch::channel(wanted);
        let beginning = Beginning {
            wanted: receiver,
            observed: self.parts.cache.subscribe(&uid),
            facts: self.parts.facts.clone(),
            rejected,
            finished: finished.clone(),
            counters: self.parts.counters.clone(),
        };
        let worker = Worker::new(beginning, (self.hands)(), self.parts.turns.clone());
        self.pods.insert(
            uid.clone(),
            Handle {
                wanted: sender,
                finished,
            },
        );
        let task = async move {
            worker.run().await;
            uid
        };
        self.workers.spawn(task.instrument(span));
    }

    /// A worker ends when nothing of its pod is left. One that was wanted again meanwhile starts anew.
    fn ended(&mut self, uid: &str) {
        let Some(handle) = self.pods.remove(uid) else {
            return;
        };
        let wanted = handle.wanted.borrow().clone();
        if wanted.present {
            let is_static = pod::is_static(&wanted.pod);
            self.parts.counters.pods.restarted(is_static);
            self.apply(wanted.pod);
        }
    }

    /// Pods that nobody wants: of the runtime they are stopped and removed, on the disk they are unmounted and removed
    /// with their logs.
    async fn sweep(&mut self) {
        if !self.synced {
            return;
        }
        let held = self.parts.cache.known().unwrap_or_default();
        let mut known: HashSet<String> = self.pods.keys().cloned().collect();
        for uid in held {
            if known.insert(uid.clone()) {
                let observed = self.parts.cache.get(&uid).unwrap_or_default();
                self.parts.counters.pods.orphans.inc();
                tracing::info!(
                    uid,
                    name = observed.name,
                    namespace = observed.namespace,
                    "removing a pod that is gone"
                );
                self.start(
                    uid,
                    Wanted {
                        pod: Arc::new(remains(&observed)),
                        present: false,
                    },
                    None,
                );
            }
        }
        self.sweep_disk(&known).await;
    }

    async fn sweep_disk(&mut self, known: &HashSet<String>) {
        if self.disk.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let Parts { leftovers, cache, .. } = &self.parts;
        if let Some(found) = leftovers.look(known, cache).await {
            let remove = leftovers.clone().remove(found);
            self.disk = Some(AbortOnDropHandle::new(tokio::spawn(remove)));
        }
    }
}

/// What is known of a pod that only the runtime has.
fn remains(observed: &ObservedPod) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.uid = Some(observed.uid.clone());
    pod.metadata.name = Some(observed.name.clone());
    pod.metadata.namespace = Some(observed.namespace.clone());
    pod
}
