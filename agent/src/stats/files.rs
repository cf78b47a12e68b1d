//! The files of a cgroup: which there are in either version, what each tells, and when it has to be read.

use std::os::fd::OwnedFd;

use gantry_agent_core::stats::figures::{Figures, Memory, Pressures};
use gantry_agent_core::stats::parse::{self, cpu, io, memory, psi};
use rustix::fs::{Mode, OFlags};

use crate::cgroups::Layout;

/// What a file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    CpuV2,
    CpuLimit,
    CpuUsage,
    CpuModes,
    MemoryV2,
    MemoryV1,
    MemoryUsage,
    MemoryPeak,
    MemoryHits,
    MemoryKernel,
    Swap,
    OomKills,
    Io,
    IoBytes,
    IoCount,
    Threads,
    ThreadsMax,
    Processes,
    PressureCpu,
    PressureMemory,
    PressureIo,
}

/// Where a cgroup is.
pub(super) struct Place<'a> {
    pub(super) layout: &'a Layout,
    pub(super) path: &'a str,
    /// Its CPU time is limited; without a limit there is nothing to tell of the limit's work.
    pub(super) has_quota: bool,
    /// Its memory is limited; without a limit none is hit.
    pub(super) has_memory_limit: bool,
    /// Nothing ran in the cgroup above, and so neither in this one.
    pub(super) is_still: bool,
}

const V2: &[(Slot, &str)] = &[
    (Slot::CpuV2, "cpu.stat"),
    (Slot::MemoryV2, "memory.stat"),
    (Slot::MemoryUsage, "memory.current"),
    (Slot::MemoryPeak, "memory.peak"),
    (Slot::Swap, "memory.swap.current"),
    (Slot::OomKills, "memory.events.local"),
    (Slot::Io, "io.stat"),
    (Slot::Threads, "pids.current"),
    (Slot::ThreadsMax, "pids.max"),
    (Slot::Processes, "cgroup.procs"),
    (Slot::PressureCpu, "cpu.pressure"),
    (Slot::PressureMemory, "memory.pressure"),
    (Slot::PressureIo, "io.pressure"),
];

/// By the controller whose tree has the files.
const V1: &[(&str, &[(Slot, &str)])] = &[
    (
        "cpu",
        &[(Slot::CpuLimit, "cpu.stat"), (Slot::Processes, "cgroup.procs")],
    ),
    (
        "cpuacct",
        &[
            (Slot::CpuUsage, "cpuacct.usage"),
            (Slot::CpuModes, "cpuacct.stat"),
        ],
    ),
    (
        "memory",
        &[
            (Slot::MemoryV1, "memory.stat"),
            (Slot::MemoryUsage, "memory.usage_in_bytes"),
            (Slot::MemoryPeak, "memory.max_usage_in_bytes"),
            (Slot::MemoryHits, "memory.failcnt"),
            (Slot::MemoryKernel, "memory.kmem.usage_in_bytes"),
            (Slot::OomKills, "memory.oom_control"),
        ],
    ),
    (
        "pids",
        &[(Slot::Threads, "pids.current"), (Slot::ThreadsMax, "pids.max")],
    ),
];

/// Version 1's files of input and output, in the order of the reference: those of the scheduler that is in use.
const BLKIO: [(&str, &str); 3] = [
    (
        "blkio.bfq.io_service_bytes_recursive",
        "blkio.bfq.io_serviced_recursive",
    ),
    (
        "blkio.throttle.io_service_bytes_recursive",
        "blkio.throttle.io_serviced_recursive",
    ),
    ("blkio.throttle.io_service_bytes", "blkio.throttle.io_serviced"),
];

impl Slot {
    /// Read at each look. Version 2 writes pages back in the cgroup's name when nothing runs, version 1 does not; a
    /// limit's period may end then, too.
    pub(super) fn is_sign(self) -> bool {
        match self {
            Self::CpuV2
            | Self::CpuLimit
            | Self::CpuUsage
            | Self::MemoryUsage
            | Self::Io
            | Self::PressureCpu
            | Self::PressureMemory
            | Self::PressureIo => true,
            Self::CpuModes
            | Self::MemoryV2
            | Self::MemoryV1
            | Self::MemoryPeak
            | Self::MemoryHits
            | Self::MemoryKernel
            | Self::Swap
            | Self::OomKills
            | Self::IoBytes
            | Self::IoCount
            | Self::Threads
            | Self::ThreadsMax
            | Self::Processes => false,
        }
    }

    /// The signs that say whether something ran.
    pub(super) fn tells(self) -> bool {
        matches!(self, Self::CpuV2 | Self::CpuUsage | Self::MemoryUsage)
    }

    /// Changes with the limits and not with what runs: read as often as they are.
    pub(super) fn is_limit(self, place: &Place<'_>) -> bool {
        self == Self::ThreadsMax || self == Self::MemoryHits && !place.has_memory_limit
    }

    pub(super) fn is_basic(self) -> bool {
        match self {
            Self::CpuV2
            | Self::CpuUsage
            | Self::MemoryV2
            | Self::MemoryV1
            | Self::MemoryUsage
            | Self::Swap
            | Self::PressureCpu
            | Self::PressureMemory => true,
            Self::CpuLimit
            | Self::CpuModes
            | Self::MemoryPeak
            | Self::MemoryHits
            | Self::MemoryKernel
            | Self::OomKills
            | Self::Io
            | Self::IoBytes
            | Self::IoCount
            | Self::Threads
            | Self::ThreadsMax
            | Self::Processes
            | Self::PressureIo => false,
        }
    }
}

/// Opens those files of a cgroup that are wanted and there.
pub(super) fn open(place: &Place<'_>, wanted: impl Fn(Slot) -> bool) -> Vec<(Slot, OwnedFd)> {
    let mut files = Vec::new();
    let wanted = |slot: Slot| wanted(slot) && (place.has_quota || slot != Slot::CpuLimit);
    let folder = |controller: &str| {
        let folder = place.layout.folder(controller, place.path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(folder, flags, Mode::empty()).ok()
    };
    let mut take = |controller: &str, names: &[(Slot, &str)]| {
        let mut names = names.iter().filter(|(slot, _)| wanted(*slot)).peekable();
        let Some(folder) = names.peek().and_then(|_| folder(controller)) else {
            return;
        };
        files.extend(names.filter_map(|(slot, name)| Some((*slot, open_at(&folder, name)?))));
    };
    if place.layout.is_v2() {
        take("", V2);
        return files;
    }
    for (controller, names) in V1 {
        // The reference leaves the root's processes and threads uncounted on version 1.
        if place.path != "/" || *controller != "pids" {
            take(controller, names);
        }
    }
    if wanted(Slot::IoBytes) {
        files.extend(folder("blkio").iter().flat_map(blkio));
    }
    files
}

/// Opens a file below an open directory for reading.
fn open_at(folder: &OwnedFd, name: &str) -> Option<OwnedFd> {
    rustix::fs::openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

fn blkio(folder: &OwnedFd) -> Vec<(Slot, OwnedFd)> {
    let found = BLKIO.iter().find_map(|(bytes, count)| {
        let bytes = open_at(folder, bytes)?;
        Some(vec![
            (Slot::IoBytes, bytes),
            (Slot::IoCount, open_at(folder, count)?),
        ])
    });
    found.unwrap_or_default()
}

/// Puts a file's figures into their places.
pub(super) fn take(slot: Slot, text: &[u8], figures: &mut Figures) {
    let number = || parse::number(text).unwrap_or(0);
    match slot {
        Slot::CpuV2 => cpu::stat_v2(text, &mut figures.cpu),
        Slot::CpuLimit => cpu::stat_v1(text, &mut figures.cpu),
        Slot::CpuUsage => figures.cpu.usage_ns = number(),
        Slot::CpuModes => cpu::acct_stat(text, &mut figures.cpu),
        Slot::MemoryV2 => memory::stat_v2(text, memory_of(figures)),
        Slot::MemoryV1 => memory::stat_v1(text, memory_of(figures)),
        Slot::MemoryUsage => memory_of(figures).usage = number(),
        Slot::MemoryPeak => memory_of(figures).max_usage = number(),
        Slot::MemoryHits => memory_of(figures).limit_hits = number(),
        Slot::MemoryKernel => memory_of(figures).kernel = number(),
        Slot::Swap => memory_of(figures).swap = number(),
        Slot::OomKills => figures.oom_kills = memory::oom_kills(text),
        Slot::Io => {
            figures.devices.clear();
            io::stat(text, &mut figures.devices);
        }
        Slot::IoBytes => {
            figures.devices.clear();
            io::blkio(text, io::Kind::Bytes, &mut figures.devices);
        }
        Slot::IoCount => io::blkio(text, io::Kind::Count, &mut figures.devices),
        Slot::Threads => figures.processes.threads = number(),
        Slot::ThreadsMax => {
            figures.processes.threads_max = Some(number()).filter(|max| *max != u64::MAX).unwrap_or(0)
        }
        // Read in another way.
        Slot::Processes => {}
        Slot::PressureCpu => pressures_of(figures).cpu = psi::pressure(text),
        Slot::PressureMemory => pressures_of(figures).memory = psi::pressure(text),
        Slot::PressureIo => pressures_of(figures).io = psi::pressure(text),
    }
}

fn memory_of(figures: &mut Figures) -> &mut Memory {
    figures.memory.get_or_insert_default()
}

fn pressures_of(figures: &mut Figures) -> &mut Pressures {
    figures.pressures.get_or_insert_default()
}
