//! The volumes of pods: mounted before the first container, rewritten when their sources change, removed when the pod
//! is gone.
//!
//! ```text
//! pod worker ── set_up(pod) ──> plans (core) ──> inputs (objects) ──> files and mounts (blocking, one go) ──> PodMounts
//!            ── tear_down(uid) ──> unmount and remove, from the disk alone
//! objects ── changed ──┐
//! token life ── 80 % ──┴──> refresher: the files of the pod are decided again and swapped, usually within milliseconds
//! ```
//!
//! * Inputs: pods, [`Objects`], the node's allocatable resources. Outputs: directories under `<root>/pods/<uid>/`.
//! * Tasks: one, the refresher ([`refresh`]); it ends when the last [`Volumes`] is dropped.
//! * One operation at a time per pod: its lock goes along into the blocking part, so an abandoned set up never races
//!   with the tear down that follows.
//! * Nothing of an earlier run of the agent is needed or undone: what is mounted is taken as it is.
//!
//! [`disk`]: a volume's work; [`local`]: emptyDir and hostPath; [`atomic`]: files that change; [`subpath`]: parts of
//! volumes for single containers; [`teardown`], [`removal`]: the way back; [`mounts`], [`ownership`]: kernel calls;
//! [`layout`]: names on disk.

mod atomic;
mod container;
mod count;
mod disk;
mod error;
mod inputs;
mod layout;
mod local;
mod mounts;
mod node;
mod ownership;
mod refresh;
mod removal;
mod subpath;
mod teardown;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gantry_agent_core::volumes::identity::Identity;
use gantry_agent_core::volumes::plan::plans;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, OwnedMutexGuard, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::VolumeMetrics;
use crate::objects::Objects;

pub(crate) use self::container::{ContainerMount, MountRequest};
use self::disk::{Ground, Work};
pub(crate) use self::error::{SetUpError, VolumeError, VolumeFailure};
pub(crate) use self::layout::{Layout, NameError};
pub(crate) use self::node::Allocatable;
use self::node::NodeResources;
pub(crate) use self::subpath::SubPathError;
pub(crate) use self::teardown::TearDownError;

/// The volumes of a pod that are there, by their name in the spec.
pub(crate) type PodMounts = BTreeMap<String, MountedVolume>;

/// A volume that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountedVolume {
    /// Its path on the node.
    pub host_path: PathBuf,
    /// Containers must mount it read-only, whatever they ask for.
    pub read_only: bool,
}

/// The volumes of this node's pods. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Volumes {
    shared: Arc<Shared>,
    /// Ends the refresher with the last clone.
    _refresher: Arc<AbortOnDropHandle<()>>,
}

struct Shared {
    layout: Layout,
    objects: Objects,
    allocatable: watch::Receiver<Allocatable>,
    metrics: VolumeMetrics,
    pods: Mutex<HashMap<String, Known>>,
    /// A token got another time of refresh.
    timer: Notify,
}

/// What is known of a pod between its set up and its tear down.
#[derive(Clone)]
struct Known {
    pod: Arc<Pod>,
    /// Its volumes were complete once.
    complete: bool,
    /// Names of the volumes that are there.
    mounted: BTreeSet<String>,
    /// When its first token is due.
    refresh_at: Option<Timestamp>,
    /// Something that its volumes are made of has changed.
    changed: Arc<Notify>,
    /// One operation at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Volumes {
    /// Volumes under `root`, the agent's `--root-dir`. Must be called inside a runtime.
    #[must_use]
    pub(crate) fn new(
        root: &Path,
        objects: Objects,
        allocatable: watch::Receiver<Allocatable>,
        metrics: VolumeMetrics,
    ) -> Self {
        let shared = Arc::new(Shared {
            layout: Layout::new(root),
            objects,
            allocatable,
            metrics,
            pods: Mutex::default(),
            timer: Notify::new(),
        });
        let task = tokio::spawn(refresh::run(
            Arc::downgrade(&shared),
            shared.objects.dirty().clone(),
        ));
        Self {
            shared,
            _refresher: Arc::new(AbortOnDropHandle::new(task)),
        }
    }

    /// Where things are on disk.
    #[must_use]
    pub(crate) fn layout(&self) -> &Layout {
        &self.shared.layout
    }

    /// Makes all volumes of the pod that some container mounts. Those that are there already stay as they are, with
    /// their files brought up to date. Call it again after an error, at the latest when [`Self::inputs_changed`]
    /// answers. Dropping the future leaves nothing half done that another call would not finish.
    ///
    /// # Errors
    /// Names every volume that cannot be made; the others are there.
    pub(crate) async fn set_up(&self, pod: &Arc<Pod>) -> Result<PodMounts, VolumeError> {
        self.shared.objects.track(pod);
        let (known, is_new) = self.shared.remember(pod);
        let turn = known.turn.lock_owned().await;
        let plans = plans(pod);
        if is_new {
            inputs::adopt_tokens(&self.shared.objects, &self.shared.layout, pod, &plans).await;
        }
        self.shared.write(pod, turn, Scope::All).await
    }

    /// Takes a new version of the pod and brings the files of its volumes up to date with it (labels and annotations
    /// may show in files). Changes of configMaps, secrets and tokens need no call.
    ///
    /// # Errors
    /// Names the volumes that keep their old files.
    pub(crate) async fn refresh(&self, pod: &Arc<Pod>) -> Result<(), VolumeError> {
        self.shared.objects.track(pod);
        let (known, _) = self.shared.remember(pod);
        let turn = known.turn.lock_owned().await;
        self.shared.write(pod, turn, Scope::Content).await.map(drop)
    }

    /// Waits until something changes that the pod's volumes are made of: time to repeat a failed [`Self::set_up`].
    /// Never answers for a pod that is not known. Cancel safe.
    pub(crate) async fn inputs_changed(&self, uid: &str) {
        let changed = self
            .shared
            .pods()
            .get(uid)
            .map(|known| Arc::clone(&known.changed));
        match changed {
            Some(changed) => changed.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Unmounts and removes everything of the pod, whether it was set up by this run of the agent, an earlier one, or
    /// the reference. Repeat after an error; a pod that has nothing left is no error.
    ///
    /// # Errors
    /// Names what could not be unmounted or removed.
    pub(crate) async fn tear_down(&self, uid: &str) -> Result<(), TearDownError> {
        self.shared.objects.forget(uid);
        let known = self.shared.pods().get(uid).cloned();
        let (pod, turn) = match known {
            Some(known) => (Some(known.pod), Some(known.turn.lock_owned().await)),
            None => (None, None),
        };
        let begun = Instant::now();
        let layout = self.shared.layout.clone();
        let owned_uid = uid.to_owned();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            teardown::tear_down(&layout, &owned_uid)
        });
        let done = done.await.unwrap_or(Err(TearDownError::Stopping));
        if let Some(pod) = pod {
            self.shared.count_unmounts(&pod, begun.elapsed(), done.is_ok());
        }
        done?;
        self.shared.pods().remove(uid);
        Ok(())
    }

    /// The pods that have a directory although they are not among `known`: left by a crash. Only after the first full
    /// list of desired pods, and only without their containers, may they be torn down.
    ///
    /// # Errors
    /// When the directory of pods cannot be read.
    pub(crate) async fn orphans(&self, known: &HashSet<String>) -> io::Result<Vec<String>> {
        let layout = self.shared.layout.clone();
        let on_disk = tokio::task::spawn_blocking(move || teardown::pods_on_disk(&layout)).await??;
        Ok(on_disk.into_iter().filter(|uid| !known.contains(uid)).collect())
    }
}

/// Which volumes to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Every one.
    All,
    /// Those whose files come from the API.
    Content,
}

impl Shared {
    fn pods(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the newest version of the pod. The second value: it was not known.
    fn remember(&self, pod: &Arc<Pod>) -> (Known, bool) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut pods = self.pods();
        let is_new = !pods.contains_key(&uid);
        let known = pods.entry(uid).or_insert_with(|| Known {
            pod: Arc::clone(pod),
            complete: false,
            mounted: BTreeSet::new(),
            refresh_at: None,
            changed: Arc::default(),
            turn: Arc::default(),
        });
        known.pod = Arc::clone(pod);
        (known.clone(), is_new)
    }

    /// One pass over the pod's volumes: decide, then do it all in one blocking call.
    async fn write(
        &self,
        pod: &Arc<Pod>,
        turn: OwnedMutexGuard<()>,
        scope: Scope,
    ) -> Result<PodMounts, VolumeError> {
        let plans = plans(pod);
        let fetched = inputs::fetch(&self.objects, pod, &plans).await;
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let node = NodeResources::new(self.allocatable.borrow().clone());
        let ground = Ground {
            layout: &self.layout,
            pod,
            uid,
            group: Identity::of(pod).group,
            inputs: &fetched.inputs,
            node: &node,
        };
        let mut failures = Vec::new();
        let mut works = Vec::new();
        for plan in &plans {
            match Work::decide(plan, &ground) {
                Ok(Some(work)) if scope == Scope::All || work.has_content() => works.push(work),
                Ok(_) => {}
                Err(failure) => failures.push(failure),
            }
        }
        let metrics = self.metrics.clone();
        let names: Vec<String> = works.iter().map(|work| work.volume.clone()).collect();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let run = |work: Work| work.run(&metrics);
            works.into_iter().map(run).collect::<Vec<_>>()
        });
        let results = done
            .await
            .unwrap_or_else(|_| names.into_iter().map(stopped).collect());
        let mut mounts = PodMounts::new();
        for result in results {
            match result {
                Ok((name, mounted)) => drop(mounts.insert(name, mounted)),
                Err(failure) => failures.push(failure),
            }
        }
        self.note(uid, fetched.refresh_at, failures.is_empty());
        self.note_mounted(uid, mounts.keys());
        if failures.is_empty() {
            Ok(mounts)
        } else {
            Err(VolumeError { failures })
        }
    }

    /// Remembers the result of a pass.
    fn note(&self, uid: &str, refresh_at: Option<Timestamp>, complete: bool) {
        let mut pods = self.pods();
        let Some(known) = pods.get_mut(uid) else { return };
        known.complete |= complete;
        if known.refresh_at != refresh_at {
            known.refresh_at = refresh_at;
            self.timer.notify_one();
        }
    }
}

fn stopped(volume: String) -> Result<(String, MountedVolume), VolumeFailure> {
    Err(VolumeFailure {
        volume,
        cause: SetUpError::Stopping,
    })
}

#[cfg(test)]
mod tests;
