//! Which cgroups there are, and their figures as last read.
//!
//! Input: the pods that run, from the runtime's cache. Every scrape opens what is new, forgets what is gone and reads
//! the rest, one after the other; a scrape of a full node takes a few milliseconds, on a blocking thread.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_agent_core::observed::{ContainerState, ObservedPod};
use gantry_agent_core::stats::figures::limited;
use gantry_agent_core::stats::rate::Rate;
use gantry_agent_core::stats::text::{Identity, Labels};
use jiff::Timestamp;

use super::disks::Disks;
use super::entry::{Entry, Tools, What};
use super::files::Place;
use super::group::{Depth, Group};
use super::images::ImageNames;
use super::limits;
use super::links::Wire;
use super::processes::{self, Numbers, OwnFiles};
use crate::cgroups::Cgroups;

/// The cgroup that has everything.
pub(super) const ROOT: &str = "/";

/// A cgroup that should be read.
struct Target<'a> {
    /// The container's or sandbox's id, the pod's UID, or the path.
    key: &'a str,
    what: What,
    identity: Identity<'a>,
    image: Option<Arc<str>>,
    /// When it was made, if the runtime knows.
    since: Option<Timestamp>,
    /// Nothing ran in the cgroup above.
    is_still: bool,
}

/// All cgroups.
pub(super) struct Collector {
    cgroups: Cgroups,
    system: Vec<String>,
    boot: Timestamp,
    entries: HashMap<Arc<str>, Entry>,
    /// Keys, in the order of rows.
    pub(super) order: Vec<Arc<str>>,
    /// Counts looks.
    look: u64,
    pub(super) disks: Disks,
    tools: Tools,
    turn: u64,
    own_files: OwnFiles,
    /// How many files may stay open, and how many do.
    budget: usize,
    kept: usize,
}

impl Collector {
    /// `system` are cgroups beside those of pods: the agent's own and configured ones.
    pub(super) fn new(cgroups: Cgroups, system: Vec<String>, root_dir: &Path, boot: Timestamp) -> Self {
        Self {
            cgroups,
            system,
            boot,
            entries: HashMap::new(),
            order: Vec::new(),
            look: 0,
            disks: Disks::new(root_dir),
            tools: Tools::default(),
            turn: 0,
            own_files: OwnFiles::default(),
            budget: processes::open_files_budget(),
            kept: 0,
        }
    }

    /// As if the process might not have more open.
    #[cfg(test)]
    pub(super) fn keep_open(&mut self, files: usize) {
        self.budget = files;
    }

    /// A cgroup by its key: a container's or sandbox's id, a pod's UID, a path.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The cgroup of all pods.
    pub(super) fn pods_root(&self) -> String {
        self.cgroups.pods_root()
    }

    /// Reads everything.
    pub(super) fn collect(&mut self, pods: &[Arc<ObservedPod>], images: &ImageNames, depth: Depth) {
        self.order.clear();
        self.look += 1;
        self.kept = 0;
        let mut system = vec![ROOT.to_owned(), self.cgroups.pods_root()];
        system.extend(self.cgroups.tiers());
        system.extend(self.system.iter().cloned());
        for path in &system {
            if self.entry(path).is_some_and(|entry| entry.look == self.look) {
                continue;
            }
            let target = Target {
                key: path,
                what: if path == ROOT { What::Node } else { What::System },
                identity: Identity::default(),
                image: None,
                since: None,
                is_still: false,
            };
            self.read(&target, |_| Some(path.clone()), depth);
        }
        for pod in pods {
            self.collect_pod(pod, images, depth);
        }
        let look = self.look;
        self.entries.retain(|_, entry| entry.look == look);
        if depth == Depth::Full {
            self.count_own_files();
            self.disks.refresh(&mut self.tools.scratch);
        }
    }

    /// Those of the agent, of which most are of these cgroups.
    fn count_own_files(&mut self) {
        if !self.entries.values().any(|entry| entry.group.is_ours) {
            return;
        }
        let entries = &self.entries;
        let (files, sockets) = self.own_files.count(self.kept, || {
            let mut known = Numbers::default();
            for entry in entries.values() {
                known.extend(entry.group.numbers());
            }
            known
        });
        for entry in self.entries.values_mut() {
            let ours = std::mem::take(&mut entry.group.is_ours);
            if let Some(figures) = entry.figures.as_mut().filter(|_| ours) {
                let figures = Arc::make_mut(figures);
                figures.processes.open_files += files;
                figures.processes.sockets += sockets;
            }
        }
    }

    fn collect_pod(&mut self, pod: &ObservedPod, images: &ImageNames, depth: Depth) {
        let of_pod = Identity {
            namespace: &pod.namespace,
            pod: &pod.name,
            ..Identity::default()
        };
        let sandbox = pod.sandboxes.iter().find(|sandbox| sandbox.ready);
        let own = Target {
            key: &pod.uid,
            what: What::Pod,
            identity: of_pod,
            image: None,
            since: sandbox.map(|sandbox| sandbox.created_at),
            is_still: self.is_still_above(&pod.uid),
        };
        self.read(&own, |cgroups| cgroups.cgroups.find_pod(&pod.uid), depth);
        let pods = self.entry(&pod.uid).filter(|entry| entry.look == self.look);
        let is_still = pods.is_some_and(|entry| entry.group.is_still());
        let sandbox = sandbox.map(|sandbox| (What::Sandbox, sandbox.id.as_str(), "", sandbox.created_at));
        let containers = pod
            .containers
            .iter()
            .filter_map(|container| match container.state {
                ContainerState::Running { started_at } => Some((
                    What::Container,
                    container.id.as_str(),
                    container.name.as_str(),
                    started_at,
                )),
                ContainerState::Created | ContainerState::Exited(_) | ContainerState::Unknown => None,
            });
        for (what, id, name, since) in sandbox.into_iter().chain(containers) {
            let target = Target {
                key: id,
                what,
                identity: Identity {
                    container: name,
                    name: id,
                    ..of_pod
                },
                image: images.get(id),
                since: Some(since),
                is_still,
            };
            self.read(&target, |known| known.find_below(&pod.uid, id), depth);
        }
    }

    /// Nothing ran in any pod of this one's class since the last look.
    fn is_still_above(&self, uid: &str) -> bool {
        let known = self.entry(uid).and_then(|entry| entry.path.rsplit_once('/'));
        let above = known.and_then(|(above, _)| self.entry(above));
        above.is_some_and(|above| above.look == self.look && above.group.is_still())
    }

    /// The cgroup of a container or sandbox, below its pod's.
    fn find_below(&self, uid: &str, id: &str) -> Option<String> {
        let known = self.entry(uid).map(|entry| entry.path.clone());
        let parent = known.unwrap_or_else(|| self.pods_root());
        let children = self.cgroups.below(&parent);
        let own = children.into_iter().find(|child| child.contains(id))?;
        Some(format!("{}/{own}", parent.trim_end_matches('/')))
    }

    /// Reads one cgroup, opening it before if it is new.
    fn read(&mut self, target: &Target<'_>, find: impl FnOnce(&Self) -> Option<String>, depth: Depth) {
        if !self.entries.contains_key(target.key) {
            let Some(entry) = find(self).and_then(|path| self.open(target, path)) else {
                return;
            };
            self.entries.insert(Arc::from(target.key), entry);
        }
        let Some(entry) = self.entries.get_mut(target.key) else {
            return;
        };
        if entry.image != target.image {
            entry.image.clone_from(&target.image);
            entry.labels = labels(target, &entry.path);
        }
        let layout = self.cgroups.layout();
        let now = Instant::now();
        if now >= entry.limits_due {
            let had_quota = entry.limits.cpu_quota_us.is_some();
            entry.limits = limits::read(layout, &entry.path, entry.limits.created, &mut self.tools.scratch);
            if had_quota != entry.limits.cpu_quota_us.is_some() {
                // There are others to read.
                entry.group.close();
            }
            entry.limits_due = now + target.what.limits_last();
            entry.open_files_limit = None;
            entry.group.distrust();
        }
        // Gone: looked for again next time, in case that another took its place.
        if !entry.read(layout, target.is_still, depth, &mut self.tools) {
            self.entries.remove(target.key);
            return;
        }
        self.kept += entry.group.files();
        if self.kept > self.budget {
            self.kept -= entry.group.files();
            entry.group.close();
        }
        entry.look = self.look;
        let key = self
            .entries
            .get_key_value(target.key)
            .map(|(key, _)| Arc::clone(key));
        self.order.extend(key);
    }

    fn open(&mut self, target: &Target<'_>, path: String) -> Option<Entry> {
        let layout = self.cgroups.layout();
        let created = target
            .since
            .unwrap_or_else(|| limits::created(layout, &path, self.boot));
        let limits = limits::read(layout, &path, created, &mut self.tools.scratch);
        let group = Group::open(&Place {
            layout,
            path: &path,
            has_quota: limits.cpu_quota_us.is_some(),
            has_memory_limit: limited(limits.memory).is_some(),
            is_still: false,
        })?;
        // Entries that are opened together do not all come due together.
        self.turn = self.turn.wrapping_add(7);
        let last = target.what.limits_last();
        let first = Duration::from_secs(self.turn % last.as_secs());
        Some(Entry {
            what: target.what,
            labels: labels(target, &path),
            image: target.image.clone(),
            limits,
            limits_due: Instant::now() + last + first,
            open_files_limit: None,
            wire: Wire::default(),
            // The file systems' word for a cgroup's age is not good enough to divide by.
            rate: Rate::since(target.since.unwrap_or(self.boot)),
            nano_cores: 0,
            figures: None,
            group,
            look: 0,
            path,
        })
    }
}

fn labels(target: &Target<'_>, path: &str) -> Arc<Labels> {
    Arc::new(Labels::new(&Identity {
        id: path,
        image: target.image.as_deref().unwrap_or_default(),
        ..target.identity
    }))
}
