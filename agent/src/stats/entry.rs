//! One cgroup of the scrape: whose it is, its files, its figures and limits.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_agent_core::stats::figures::{Figures, Limits, limited};
use gantry_agent_core::stats::parse::{memory, net, process as proc_files};
use gantry_agent_core::stats::rate::Rate;
use gantry_agent_core::stats::resource;
use gantry_agent_core::stats::summary::make::Reading;
use gantry_agent_core::stats::text::Labels;
use jiff::Timestamp;

use super::files::Place;
use super::group::{Depth, Group};
use super::limits;
use super::links::{Links, Wire};
use super::scratch::Scratch;
use crate::cgroups::Layout;

/// Limits are read again after this, and so is everything of a cgroup that sleeps: those above pods change with the pods
/// below. Cgroups take turns, so that no scrape reads those of all.
const LIMITS_LAST: Duration = Duration::from_secs(60);
/// The same for those of pods and containers, which nobody changes who should. Opening all files of one costs as much as a
/// look at a hundred that sleep.
const PODS_LIMITS_LAST: Duration = Duration::from_secs(600);

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
    pub(super) labels: Arc<Labels>,
    pub(super) image: Option<Arc<str>>,
    pub(super) group: Group,
    /// The last look that found it.
    pub(super) look: u64,
    pub(super) limits: Limits,
    pub(super) limits_due: Instant,
    pub(super) open_files_limit: Option<i64>,
    pub(super) wire: Wire,
    pub(super) rate: Rate,
    pub(super) nano_cores: u64,
    /// As last read; `None` when it is gone. An answer that is still being sent keeps its own.
    pub(super) figures: Option<Arc<Figures>>,
}

/// What all of them are read with. The node is the first.
#[derive(Debug, Default)]
pub(super) struct Tools {
    pub(super) scratch: Scratch,
    pub(super) links: Links,
}

impl What {
    /// How long its limits are trusted, and the details of one that sleeps.
    pub(super) fn limits_last(self) -> Duration {
        match self {
            Self::Node | Self::System => LIMITS_LAST,
            Self::Pod | Self::Sandbox | Self::Container => PODS_LIMITS_LAST,
        }
    }
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

    /// Brings the figures up to date; false when the cgroup is gone.
    pub(super) fn read(&mut self, layout: &Layout, is_still: bool, depth: Depth, tools: &mut Tools) -> bool {
        let new = || Arc::new(Figures::new(Timestamp::now()));
        let figures = Arc::make_mut(self.figures.get_or_insert_with(new));
        let place = Place {
            layout,
            path: &self.path,
            has_quota: self.limits.cpu_quota_us.is_some(),
            has_memory_limit: limited(self.limits.memory).is_some(),
            is_still,
        };
        let there = self.group.read(&place, depth, figures, &mut tools.scratch);
        if there {
            self.complete(depth, tools);
        }
        there
    }

    /// What is not in the cgroup's own files.
    fn complete(&mut self, depth: Depth, Tools { scratch, links }: &mut Tools) {
        let Some(figures) = &mut self.figures else { return };
        let figures = Arc::make_mut(figures);
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
            What::Sandbox => (self.group.first_process, true),
            What::Container => (self.group.first_process, false),
            What::System | What::Pod => (None, false),
        };
        let Some(pid) = first else { return };
        if has_network && !self.wire.is_silent(pid, links) {
            let file = scratch.read_path(Path::new(&format!("/proc/{pid}/net/dev")));
            if let Some(list) = file.filter(|_| self.what == What::Node) {
                links.refresh(list);
            }
            figures.interfaces = file.map(net::interfaces);
            if let Some(found) = figures.interfaces.as_ref().filter(|_| self.what == What::Sandbox) {
                self.wire.note(pid, found, links);
            }
        }
        if self.open_files_limit.is_none() {
            let file = scratch.read_path(Path::new(&format!("/proc/{pid}/limits")));
            self.open_files_limit = file.and_then(proc_files::open_files_limit);
        }
        figures.processes.open_files_limit = self.open_files_limit;
    }
}
