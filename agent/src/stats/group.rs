//! One cgroup, open: its files stay open while it lives and are read with one call each.
//!
//! A read of an open file costs a quarter of opening, reading and closing it, and a full node has thousands of them.
//! An open file does not keep a cgroup alive: once that is gone, reads fail and the figures end. Where the process may
//! not have that many files open, the collector closes some between scrapes.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use gantry_agent_core::stats::figures::{Figures, Memory, Pressures};
use gantry_agent_core::stats::parse::{self, cpu, io, memory, process, psi};
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::processes;
use crate::cgroups::Layout;

/// What a file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
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

/// How much to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// CPU and memory.
    Basic,
    /// Everything.
    Full,
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

/// With the controller whose tree has the file.
const V1: &[(Slot, &str, &str)] = &[
    (Slot::CpuLimit, "cpu", "cpu.stat"),
    (Slot::CpuUsage, "cpuacct", "cpuacct.usage"),
    (Slot::CpuModes, "cpuacct", "cpuacct.stat"),
    (Slot::MemoryV1, "memory", "memory.stat"),
    (Slot::MemoryUsage, "memory", "memory.usage_in_bytes"),
    (Slot::MemoryPeak, "memory", "memory.max_usage_in_bytes"),
    (Slot::MemoryHits, "memory", "memory.failcnt"),
    (Slot::MemoryKernel, "memory", "memory.kmem.usage_in_bytes"),
    (Slot::OomKills, "memory", "memory.oom_control"),
    (Slot::Threads, "pids", "pids.current"),
    (Slot::ThreadsMax, "pids", "pids.max"),
    (Slot::Processes, "cpu", "cgroup.procs"),
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
    fn is_basic(self) -> bool {
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

/// A cgroup's open files.
#[derive(Debug)]
pub(super) struct Group {
    files: Vec<(Slot, OwnedFd)>,
    has_io: bool,
    /// The process that came first, while it was looked for.
    pub(super) first_process: Option<u32>,
}

/// Room to read files into, used again and again.
#[derive(Debug)]
pub(super) struct Scratch(Vec<u8>);

impl Default for Scratch {
    fn default() -> Self {
        Self(vec![0; 64 * 1024])
    }
}

impl Scratch {
    /// A file from its beginning; in several pieces, as lists of processes come.
    pub(super) fn read(&mut self, file: &OwnedFd) -> Result<&[u8], Errno> {
        let mut end = 0;
        loop {
            if end == self.0.len() {
                self.0.resize(end * 2, 0);
            }
            let offset = u64::try_from(end).unwrap_or(u64::MAX);
            match rustix::io::pread(file, &mut self.0[end..], offset)? {
                0 => return Ok(&self.0[..end]),
                read => end += read,
            }
        }
    }

    /// A file that comes in one piece.
    fn read_once(&mut self, file: &OwnedFd) -> Result<&[u8], Errno> {
        let read = rustix::io::pread(file, &mut self.0[..], 0)?;
        Ok(&self.0[..read])
    }

    /// A file by its path.
    pub(super) fn read_path(&mut self, path: &Path) -> Option<&[u8]> {
        let file = File::open(path).ok()?;
        self.read(&file.into()).ok()
    }
}

/// Opens a file below an open directory for reading.
fn open_at(folder: &OwnedFd, name: &str) -> Option<OwnedFd> {
    rustix::fs::openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

impl Group {
    /// Opens what is there of the cgroup; `None` when nothing is.
    pub(super) fn open(layout: &Layout, path: &str) -> Option<Self> {
        let mut files = Vec::new();
        let mut has_io = true;
        let folder = |controller: &str| {
            let folder = layout.folder(controller, path)?;
            rustix::fs::open(
                folder,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .ok()
        };
        if layout.is_v2() {
            let folder = folder("")?;
            for (slot, name) in V2 {
                files.extend(open_at(&folder, name).map(|file| (*slot, file)));
            }
        } else {
            for (slot, controller, name) in V1 {
                // The reference leaves the root's processes and threads uncounted on version 1.
                let skip = path == "/" && *controller == "pids";
                let file = folder(controller).filter(|_| !skip);
                files.extend(
                    file.and_then(|folder| open_at(&folder, name))
                        .map(|file| (*slot, file)),
                );
            }
            let disks = folder("blkio");
            has_io = disks.is_some();
            files.extend(disks.iter().flat_map(blkio));
        }
        (!files.is_empty()).then_some(Self {
            files,
            has_io,
            first_process: None,
        })
    }

    /// How many files it holds.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// Reads it; `None` when it is gone.
    pub(super) fn read(&mut self, depth: Depth, scratch: &mut Scratch) -> Option<Figures> {
        let mut figures = Figures::new(Timestamp::now());
        figures.has_io = self.has_io;
        let files = std::mem::take(&mut self.files);
        let mut alive = true;
        for (slot, file) in &files {
            if depth == Depth::Basic && !slot.is_basic() {
                continue;
            }
            if *slot == Slot::Processes {
                alive &= self.processes(file, &mut figures, scratch);
                continue;
            }
            match scratch.read_once(file) {
                Ok(text) => take(*slot, text, &mut figures),
                Err(Errno::NODEV) => alive = false,
                // Pressure may be switched off at boot; the root of version 2 lacks some figures.
                Err(_) => {}
            }
        }
        self.files = files;
        alive.then_some(figures)
    }

    fn processes(&mut self, file: &OwnedFd, figures: &mut Figures, scratch: &mut Scratch) -> bool {
        let pids: Vec<u32> = match scratch.read(file) {
            Ok(text) => process::pids(text).collect(),
            Err(Errno::NODEV) => return false,
            Err(_) => return true,
        };
        let counted = processes::open_files(&pids);
        self.first_process = pids.first().copied();
        let processes = &mut figures.processes;
        processes.count = u64::try_from(pids.len()).unwrap_or(0);
        (processes.open_files, processes.sockets) = counted;
        true
    }
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
fn take(slot: Slot, text: &[u8], figures: &mut Figures) {
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
        Slot::Io => io::stat(text, &mut figures.devices),
        Slot::IoBytes => io::blkio(text, io::Kind::Bytes, &mut figures.devices),
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

/// A directory entry's name that is a number.
pub(super) fn is_number(name: &CStr) -> bool {
    name.to_bytes().iter().all(u8::is_ascii_digit)
}
