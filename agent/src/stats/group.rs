//! One cgroup, open: its files stay open while they are needed and are read with one call each.
//!
//! A read of an open file costs a quarter of opening, reading and closing it, and a full node has thousands of them.
//! Most of a node's cgroups do nothing most of the time (every sandbox does), and what nothing runs in does not change.
//! So a look has two parts:
//!
//! ```text
//! signs    read at each look: CPU time, memory in use; and what changes by itself (pressure, disks)
//! details  read when a sign has changed, or when the last reading is not trusted any more: all the rest
//! ```
//!
//! CPU time and memory of a pod are those of its containers, too: when a pod is still, they are not even asked. The
//! details' files are closed after some looks at a cgroup that sleeps. An open file does not keep a cgroup alive: once
//! that is gone, reads fail and the figures end. Where the process may not have that many files open, the collector
//! closes some between scrapes.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use gantry_agent_core::stats::figures::Figures;
use gantry_agent_core::stats::parse::process;
use jiff::Timestamp;
use rustix::io::Errno;

use super::files::{Place, Slot, open, take};
use super::processes::OpenFiles;
use super::scratch::Scratch;

/// How much to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Depth {
    /// CPU and memory.
    Basic,
    /// Everything.
    Full,
}

/// Equal marks: nothing ran in between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mark {
    cpu_ns: u64,
    memory: u64,
}

/// A cgroup's open files, and what is known of it.
#[derive(Debug, Default)]
pub(super) struct Group {
    signs: Vec<(Slot, OwnedFd)>,
    details: Vec<(Slot, OwnedFd)>,
    has_io: bool,
    mark: Mark,
    /// The details that were read since the mark was last different.
    known: Option<Depth>,
    /// What changes with the limits was read since they were.
    limits_known: bool,
    /// Looks without a difference, since the last one.
    quiet: u8,
    open_files: OpenFiles,
    /// The process that came first, while it was looked for.
    pub(super) first_process: Option<u32>,
    /// The agent is in it: its own open files were left out of the last reading.
    pub(super) is_ours: bool,
}

/// After this many looks at a cgroup that sleeps the files of its details are closed.
const SLEEPS: u8 = 8;

impl Group {
    /// Opens what is there of the cgroup; `None` when nothing is.
    pub(super) fn open(place: &Place<'_>) -> Option<Self> {
        let signs = open(place, Slot::is_sign);
        (!signs.is_empty()).then(|| Self {
            signs,
            has_io: place.layout.is_v2() || place.layout.folder("blkio", place.path).is_some(),
            ..Self::default()
        })
    }

    /// How many files it holds.
    pub(super) fn files(&self) -> usize {
        self.signs.len() + self.details.len()
    }

    /// Their numbers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let all = self.signs.iter().chain(&self.details);
        all.map(|(_, file)| file.as_raw_fd())
    }

    /// Closes its files until the next look.
    pub(super) fn close(&mut self) {
        self.signs.clear();
        self.details.clear();
    }

    /// Nothing ran between the last two looks.
    pub(super) fn is_still(&self) -> bool {
        self.quiet > 0
    }

    /// Has everything read at the next look.
    pub(super) fn distrust(&mut self) {
        self.known = None;
        self.limits_known = false;
    }

    /// Brings `figures` up to date; false when the cgroup is gone.
    pub(super) fn read(
        &mut self,
        place: &Place<'_>,
        depth: Depth,
        figures: &mut Figures,
        scratch: &mut Scratch,
    ) -> bool {
        figures.at = Timestamp::now();
        figures.has_io = self.has_io;
        let is_still = place.is_still && self.known >= Some(depth);
        if is_still && !place.layout.is_v2() && !place.has_quota {
            self.sleep(true);
            return true;
        }
        if self.signs.is_empty() {
            self.signs = open(place, Slot::is_sign);
        }
        let Some(told) = self.read_signs(depth, is_still, figures, scratch) else {
            return false;
        };
        let mark = Mark::of(figures);
        if mark != self.mark || !told && !is_still {
            (self.mark, self.known, self.quiet) = (mark, None, 0);
        } else if self.known >= Some(depth) {
            self.sleep(false);
            return true;
        }
        self.known = Some(depth);
        self.read_details(place, depth, figures, scratch)
    }

    /// Another look at which nothing had changed.
    fn sleep(&mut self, signs_too: bool) {
        self.quiet = self.quiet.saturating_add(1);
        if self.quiet > SLEEPS {
            self.details.clear();
            if signs_too {
                self.signs.clear();
            }
        }
    }

    /// Whether CPU time was told; `None` when the cgroup is gone.
    fn read_signs(
        &self,
        depth: Depth,
        is_still: bool,
        figures: &mut Figures,
        scratch: &mut Scratch,
    ) -> Option<bool> {
        // The root of version 2 does not tell, and what another look found must not stay.
        if let Some(memory) = figures.memory.as_mut().filter(|_| !is_still) {
            memory.usage = 0;
        }
        let mut told = false;
        for (slot, file) in &self.signs {
            if depth == Depth::Basic && !slot.is_basic() || is_still && slot.tells() {
                continue;
            }
            match scratch.read_once(file) {
                Ok(text) => take(*slot, text, figures),
                Err(Errno::NODEV) => return None,
                // Pressure may be switched off at boot; the root of version 2 lacks some figures.
                Err(_) => continue,
            }
            told |= matches!(slot, Slot::CpuUsage | Slot::CpuV2);
        }
        (!self.signs.is_empty()).then_some(told)
    }

    fn read_details(
        &mut self,
        place: &Place<'_>,
        depth: Depth,
        figures: &mut Figures,
        scratch: &mut Scratch,
    ) -> bool {
        if self.details.is_empty() {
            self.details = open(place, |slot| !slot.is_sign());
        }
        let mut processes = None;
        for (slot, file) in &self.details {
            if depth == Depth::Basic && !slot.is_basic() || self.limits_known && slot.is_limit(place) {
                continue;
            }
            if *slot == Slot::Processes {
                processes = Some(file);
                continue;
            }
            match scratch.read_once(file) {
                Ok(text) => take(*slot, text, figures),
                Err(Errno::NODEV) => return false,
                Err(_) => {}
            }
        }
        self.limits_known |= depth == Depth::Full;
        let Some(file) = processes else { return true };
        let pids: Vec<u32> = match scratch.read(file) {
            Ok(text) => process::pids(text).collect(),
            Err(error) => return error != Errno::NODEV,
        };
        self.first_process = pids.first().copied();
        let us = std::process::id();
        self.is_ours = pids.contains(&us);
        let of = &mut figures.processes;
        of.count = u64::try_from(pids.len()).unwrap_or(0);
        let others = pids.into_iter().filter(|pid| *pid != us);
        (of.open_files, of.sockets) = self.open_files.count(others);
        true
    }
}

impl Mark {
    fn of(figures: &Figures) -> Self {
        Self {
            cpu_ns: figures.cpu.usage_ns,
            memory: figures.memory.map_or(0, |memory| memory.usage),
        }
    }
}
