//! Which cgroups there are, and their figures as last read.
//!
//! Input: the pods that run, from the runtime's cache. Every scrape opens what is new, forgets what is gone and reads
//! the rest, one after the other; a scrape of a full node takes a few milliseconds, on a blocking thread.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_agent_core::observed::{ContainerState, ObservedPod};
use gantry_agent_core::stats::figures::{Figures, Limits};
use gantry_agent_core::stats::parse::{memory, net, process};
use gantry_agent_core::stats::rate::Rate;
use gantry_agent_core::stats::resource;
use gantry_agent_core::stats::summary::make::Reading;
use gantry_agent_core::stats::text::{Identity, Labels};
use jiff::Timestamp;

use super::disks::Disks;
use super::group::{Depth, Group, Scratch};
use super::images::ImageNames;
use super::limits;
use crate::cgroups::Cgroups;

/// Limits are read again after this: they change when a pod is resized. Cgroups take turns, so that no scrape reads
/// those of all.
const LIMITS_LAST: Duration = Duration::from_secs(60);
/// The cgroup that has everything.
pub(super) const ROOT: &str = "/";

/// What a cgroup is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The machine.
    Node,
    /// A slice above pods, the agent's own, ...
    System,
    /// A pod's.
    Pod,
    /// A sandbox: the pod's network is its.
    Sandbox,
    /// A container.
    Container,
}

/// One cgroup.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) what: What,
    pub(super) path: String,
    pub(super) labels: Labels,
    image: Option<Arc<str>>,
    /// `None` between reads when there are too many to keep open.
    group: Option<Group>,
    pub(super) limits: Limits,
    limits_due: Instant,
    open_files_limit: Option<i64>,
    first_process: Option<u32>,
    rate: Rate,
    nano_cores: u64,
    /// As last read; `None` when it is gone.
    pub(super) figures: Option<Figures>,
}

/// A cgroup that should be read.
struct Target<'a> {
    /// The container's or sandbox's id, the pod's UID, or the path.
    key: &'a str,
    what: What,
    identity: Identity<'a>,
    image: Option<Arc<str>>,
    /// When it was made, if the runtime knows.
    since: Option<Timestamp>,
}

/// All cgroups.
pub(super) struct Collector {
    cgroups: Cgroups,
    system: Vec<String>,
    boot: Timestamp,
    entries: HashMap<String, Entry>,
    /// Keys, in the order of rows.
    pub(super) order: Vec<String>,
    pub(super) disks: Disks,
    scratch: Scratch,
    turn: u32,
    /// How many files may stay open, and how many do.
    budget: usize,
    kept: usize,
}

impl Entry {
    /// For the summary.
    pub(super) fn reading(&self) -> Option<Reading<'_>> {
        Some(Reading {
            figures: self.figures.as_ref()?,
            limits: &self.limits,
            nano_cores: self.nano_cores,
        })
    }

    /// For `/metrics/resource`.
    pub(super) fn resource(&self) -> Option<resource::Reading<'_>> {
        Some(resource::Reading {
            figures: self.figures.as_ref()?,
            limits: &self.limits,
        })
    }
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
            disks: Disks::new(root_dir),
            scratch: Scratch::default(),
            turn: 0,
            budget: open_files_budget(),
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
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        self.kept = 0;
        let mut system = vec![ROOT.to_owned(), self.cgroups.pods_root()];
        system.extend(self.cgroups.tiers());
        system.extend(self.system.iter().cloned());
        for path in &system {
            let what = if path == ROOT { What::Node } else { What::System };
            let target = Target {
                key: path,
                what,
                identity: Identity::default(),
                image: None,
                since: None,
            };
            if seen.insert(path.clone()) && self.read(&target, || Some(path.clone()), depth) {
                order.push(path.clone());
            }
        }
        for pod in pods {
            self.collect_pod(pod, images, depth, &mut order);
        }
        seen.extend(order.iter().cloned());
        self.entries.retain(|key, _| seen.contains(key));
        self.order = order;
        if depth == Depth::Full {
            self.disks.refresh(&mut self.scratch);
        }
    }

    fn collect_pod(&mut self, pod: &ObservedPod, images: &ImageNames, depth: Depth, order: &mut Vec<String>) {
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
        };
        let cgroups = self.cgroups.clone();
        if self.read(&own, || cgroups.find_pod(&pod.uid), depth) {
            order.push(pod.uid.clone());
        }
        let known = self.entries.get(&pod.uid).map(|entry| entry.path.clone());
        let parent = known.unwrap_or_else(|| cgroups.pods_root());
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
            };
            let find = || {
                let children = cgroups.below(&parent);
                let own = children.into_iter().find(|child| child.contains(id))?;
                Some(format!("{}/{own}", parent.trim_end_matches('/')))
            };
            if self.read(&target, find, depth) {
                order.push(id.to_owned());
            }
        }
    }

    /// Reads one cgroup, opening it before if it is new; false when it is not there.
    fn read(&mut self, target: &Target<'_>, find: impl FnOnce() -> Option<String>, depth: Depth) -> bool {
        if !self.entries.contains_key(target.key) {
            let Some(entry) = find().and_then(|path| self.open(target, path)) else {
                return false;
            };
            self.entries.insert(target.key.to_owned(), entry);
        }
        let Some(entry) = self.entries.get_mut(target.key) else {
            return false;
        };
        if entry.image != target.image {
            entry.image.clone_from(&target.image);
            entry.labels = labels(target, &entry.path);
        }
        let now = Instant::now();
        if now >= entry.limits_due {
            entry.limits = limits::read(
                self.cgroups.layout(),
                &entry.path,
                entry.limits.created,
                &mut self.scratch,
            );
            entry.limits_due = now + LIMITS_LAST;
            entry.open_files_limit = None;
        }
        let opened = entry
            .group
            .take()
            .or_else(|| Group::open(self.cgroups.layout(), &entry.path));
        entry.figures = opened.and_then(|mut group| {
            let figures = group.read(depth, &mut self.scratch);
            entry.first_process = group.first_process;
            if self.kept + group.files() <= self.budget {
                self.kept += group.files();
                entry.group = Some(group);
            }
            figures
        });
        entry.complete(depth, &mut self.scratch);
        // Gone: looked for again next time, in case that another took its place.
        let alive = entry.figures.is_some();
        if !alive {
            self.entries.remove(target.key);
        }
        alive
    }

    fn open(&mut self, target: &Target<'_>, path: String) -> Option<Entry> {
        let layout = self.cgroups.layout();
        let group = Group::open(layout, &path)?;
        let created = target
            .since
            .unwrap_or_else(|| limits::created(layout, &path, self.boot));
        // Entries that are opened together do not all come due together.
        self.turn = self.turn.wrapping_add(7);
        let first = Duration::from_secs(u64::from(self.turn % 60));
        Some(Entry {
            what: target.what,
            labels: labels(target, &path),
            image: target.image.clone(),
            limits: limits::read(layout, &path, created, &mut self.scratch),
            limits_due: Instant::now() + LIMITS_LAST + first,
            open_files_limit: None,
            // The file systems' word for a cgroup's age is not good enough to divide by.
            rate: Rate::since(target.since.unwrap_or(self.boot)),
            nano_cores: 0,
            figures: None,
            first_process: None,
            group: Some(group),
            path,
        })
    }
}

/// Half of what this process may have open; the rest is for everybody else.
fn open_files_budget() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let half = limit.unwrap_or(u64::MAX) / 2;
    usize::try_from(half).unwrap_or(usize::MAX)
}

fn labels(target: &Target<'_>, path: &str) -> Labels {
    Labels::new(&Identity {
        id: path,
        image: target.image.as_deref().unwrap_or_default(),
        ..target.identity
    })
}

impl Entry {
    /// What is not in the cgroup's own files.
    fn complete(&mut self, depth: Depth, scratch: &mut Scratch) {
        let Some(figures) = &mut self.figures else { return };
        if self.what == What::Node {
            let meminfo = scratch.read_path(Path::new("/proc/meminfo")).map(memory::meminfo);
            let meminfo = meminfo.unwrap_or_default();
            limits::of_node(&mut self.limits, &meminfo);
            // The root of version 2 has no figure of its own.
            if let Some(memory) = figures.memory.as_mut().filter(|memory| memory.usage == 0) {
                memory.usage = memory.rss.saturating_add(memory.cache);
                memory.swap = meminfo.swap_total.saturating_sub(meminfo.swap_free);
            }
        }
        self.nano_cores = self.rate.look(figures.at, figures.cpu.usage_ns);
        if depth == Depth::Basic {
            return;
        }
        let (first, has_network) = match self.what {
            What::Node => (Some(1), true),
            What::Sandbox => (self.first_process, true),
            What::Container => (self.first_process, false),
            What::System | What::Pod => (None, false),
        };
        let Some(pid) = first else { return };
        if has_network {
            let file = scratch.read_path(Path::new(&format!("/proc/{pid}/net/dev")));
            figures.interfaces = file.map(net::interfaces);
        }
        if self.open_files_limit.is_none() {
            let file = scratch.read_path(Path::new(&format!("/proc/{pid}/limits")));
            self.open_files_limit = file.and_then(process::open_files_limit);
        }
        figures.processes.open_files_limit = self.open_files_limit;
    }
}
