//! What pods have in their volumes, measured beside the scrapes: once in `volumeStatsAggPeriod`, one volume after the
//! other, at the pace of [`super::usage`].
//!
//! One task; it ends with the last [`Volumes`]. A pod that is new is measured within seconds. Measured are the volumes
//! whose files are on this node because of the pod (emptyDir, configMap, secret, downwardAPI, projected); those of other
//! plugins are not ours to walk through.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use gantry_agent_core::stats::figures::{Room, Usage};
use jiff::Timestamp;
use tokio_util::task::AbortOnDropHandle;

use super::{disks, usage};
use crate::runtime::Runtime;

/// New pods are looked for this often.
const LOOK: Duration = Duration::from_secs(10);
/// The directories of plugins whose volumes are measured.
const PLUGINS: [&str; 5] = [
    "kubernetes.io~empty-dir",
    "kubernetes.io~configmap",
    "kubernetes.io~secret",
    "kubernetes.io~downward-api",
    "kubernetes.io~projected",
];

/// A volume as it was measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct VolumeUse {
    /// Its name in the pod.
    pub(super) name: String,
    pub(super) at: Timestamp,
    pub(super) room: Option<Room>,
    pub(super) usage: Usage,
    /// It is on the node's own disk and counts as the pod's ephemeral storage.
    pub(super) is_ephemeral: bool,
}

#[derive(Default)]
struct Measured {
    at: Option<Instant>,
    volumes: Arc<[VolumeUse]>,
}

type Known = Mutex<HashMap<String, Measured>>;

/// The volumes of all pods. Cheap to clone.
#[derive(Clone)]
pub(super) struct Volumes {
    known: Arc<Known>,
    _task: Option<Arc<AbortOnDropHandle<()>>>,
}

impl Volumes {
    /// Starts measuring, unless `period` is zero. Must be called inside a runtime.
    pub(super) fn start(runtime: Runtime, root_dir: &Path, period: Duration) -> Self {
        let known: Arc<Known> = Arc::default();
        let task = (!period.is_zero()).then(|| {
            let run = run(Arc::downgrade(&known), runtime, root_dir.join("pods"), period);
            Arc::new(AbortOnDropHandle::new(tokio::spawn(run)))
        });
        Self { known, _task: task }
    }

    /// None, and none will be measured.
    #[cfg(test)]
    pub(super) fn idle() -> Self {
        Self {
            known: Arc::default(),
            _task: None,
        }
    }

    /// Those of a pod, as last measured.
    pub(super) fn of(&self, uid: &str) -> Arc<[VolumeUse]> {
        let known = lock(&self.known);
        known
            .get(uid)
            .map(|measured| Arc::clone(&measured.volumes))
            .unwrap_or_default()
    }
}

fn lock(known: &Known) -> MutexGuard<'_, HashMap<String, Measured>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(known: Weak<Known>, runtime: Runtime, folder: PathBuf, period: Duration) {
    let mut ticks = tokio::time::interval(LOOK.min(period));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let uids: Vec<String> = runtime.pods().all().iter().map(|pod| pod.uid.clone()).collect();
        let Some(due) = known.upgrade().map(|known| due(&known, uids, period)) else {
            return;
        };
        for uid in due {
            let pod = folder.join(&uid);
            // Given up when the agent stops; a walk that is under way ends with the program.
            let Ok(volumes) = tokio::task::spawn_blocking(move || measure(&pod)).await else {
                return;
            };
            let Some(known) = known.upgrade() else { return };
            let measured = Measured {
                at: Some(Instant::now()),
                volumes: volumes.into(),
            };
            lock(&known).insert(uid, measured);
        }
    }
}

/// Forgets pods that are gone; those that were not measured for a period.
fn due(known: &Known, uids: Vec<String>, period: Duration) -> Vec<String> {
    let mut known = lock(known);
    let there: HashSet<&str> = uids.iter().map(String::as_str).collect();
    known.retain(|uid, _| there.contains(uid.as_str()));
    let is_due = |uid: &String| {
        let at = known.get(uid).and_then(|measured| measured.at);
        at.is_none_or(|at| at.elapsed() >= period)
    };
    uids.into_iter().filter(is_due).collect()
}

/// The volumes below a pod's directory, by name.
fn measure(pod: &Path) -> Vec<VolumeUse> {
    let mut volumes = Vec::new();
    for plugin in PLUGINS {
        let folder = pod.join("volumes").join(plugin);
        let Ok(folder_device) = fs::metadata(&folder).map(|metadata| metadata.dev()) else {
            continue;
        };
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) else {
                continue;
            };
            let Some(usage) = usage::of_tree(&path).filter(|_| metadata.is_dir()) else {
                continue;
            };
            // What is in memory is mounted, and is the containers' memory, not the node's disk.
            let on_disk = metadata.dev() == folder_device;
            volumes.push(VolumeUse {
                name,
                at: Timestamp::now(),
                room: disks::room(&path),
                usage,
                is_ephemeral: match plugin {
                    "kubernetes.io~empty-dir" => on_disk,
                    other => other == "kubernetes.io~configmap",
                },
            });
        }
    }
    volumes.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    volumes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_of_a_pod_are_measured() {
        let pod = tempfile::tempdir().unwrap();
        for (plugin, name) in [
            ("kubernetes.io~empty-dir", "scratch"),
            ("kubernetes.io~secret", "key"),
            ("kubernetes.io~configmap", "settings"),
            ("kubernetes.io~csi", "claim"),
        ] {
            let folder = pod.path().join("volumes").join(plugin).join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), vec![0; 5000]).unwrap();
        }
        let found = measure(pod.path());
        let seen: Vec<_> = found
            .iter()
            .map(|volume| (volume.name.as_str(), volume.usage.inodes, volume.is_ephemeral))
            .collect();
        assert_eq!(
            seen,
            [("key", 2, false), ("scratch", 2, true), ("settings", 2, true)]
        );
        assert!(
            found
                .iter()
                .all(|volume| volume.usage.bytes >= 5000 && volume.room.is_some())
        );
        assert_eq!(measure(&pod.path().join("nothing")), []);
    }

    #[test]
    fn a_pod_is_due_once_in_a_period() {
        let known = Known::default();
        let uids = || vec!["a".to_owned(), "b".to_owned()];
        let measured = || Measured {
            at: Some(Instant::now()),
            ..Measured::default()
        };
        lock(&known).insert("a".to_owned(), measured());
        lock(&known).insert("gone".to_owned(), measured());
        assert_eq!(due(&known, uids(), Duration::from_secs(60)), ["b"]);
        assert!(!lock(&known).contains_key("gone"));
        assert_eq!(due(&known, uids(), Duration::ZERO), ["a", "b"]);
    }
}
