//! The model: what one cgroup uses, in the same words for both cgroup versions.

use jiff::Timestamp;

/// CPU time and the limit's work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// All CPU time, in nanoseconds.
    pub usage_ns: u64,
    /// In user mode.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// Enforcement periods that have passed.
    pub periods: u64,
    /// Periods in which it was stopped.
    pub throttled_periods: u64,
    /// For how long it was stopped.
    pub throttled_ns: u64,
    /// Periods with a burst.
    pub bursts: u64,
    /// Time used in bursts.
    pub burst_ns: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Everything that is accounted.
    pub usage: u64,
    /// The most that was.
    pub max_usage: u64,
    /// How often the limit was hit (version 1).
    pub limit_hits: u64,
    /// Of that, the kernel's (version 1).
    pub kernel: u64,
    /// Page cache.
    pub cache: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Swapped out.
    pub swap: u64,
    /// Mapped files.
    pub mapped_file: u64,
    /// Page cache that is not in use.
    pub inactive_file: u64,
    /// Page cache that is in use.
    pub active_file: u64,
    /// Page faults.
    pub faults: u64,
    /// Page faults that read a disk.
    pub major_faults: u64,
}

impl Memory {
    /// What could not be freed at once: usage without inactive page cache. The two are read one after the other, so
    /// the difference may be negative; then it is zero.
    #[must_use]
    pub fn working_set(&self) -> u64 {
        self.usage.saturating_sub(self.inactive_file)
    }
}

/// An operation on a device, in the kernel's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Version 1 alone.
    Async,
    /// Version 1 alone.
    Discard,
    /// Both versions.
    Read,
    /// Version 1 alone.
    Sync,
    /// Version 1 alone.
    Total,
    /// Both versions.
    Write,
}

impl Operation {
    const COUNT: usize = 6;
    /// All, by name.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Async,
        Self::Discard,
        Self::Read,
        Self::Sync,
        Self::Total,
        Self::Write,
    ];

    pub(crate) fn parse(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.name().as_bytes() == word)
    }

    /// As a label of a line.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Async => "operation=\"Async\"",
            Self::Discard => "operation=\"Discard\"",
            Self::Read => "operation=\"Read\"",
            Self::Sync => "operation=\"Sync\"",
            Self::Total => "operation=\"Total\"",
            Self::Write => "operation=\"Write\"",
        }
    }

    /// As the kernel writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Async => "Async",
            Self::Discard => "Discard",
            Self::Read => "Read",
            Self::Sync => "Sync",
            Self::Total => "Total",
            Self::Write => "Write",
        }
    }
}

/// A figure for each operation that the kernel names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Operations([Option<u64>; Operation::COUNT]);

impl Operations {
    /// Sets one.
    pub fn set(&mut self, operation: Operation, value: u64) {
        self.0[operation as usize] = Some(value);
    }

    /// One, if the kernel named it.
    #[must_use]
    pub fn get(&self, operation: Operation) -> Option<u64> {
        self.0[operation as usize]
    }

    /// The kernel named none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// What io.cost has charged (version 2, where it is in use), in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// `cost.usage`.
    pub usage_us: Option<u64>,
    /// `cost.wait`.
    pub wait_us: Option<u64>,
    /// `cost.indebt`.
    pub indebt_us: Option<u64>,
    /// `cost.indelay`.
    pub indelay_us: Option<u64>,
}

/// Input and output of one block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Device {
    /// Device numbers.
    pub major: u64,
    /// Device numbers.
    pub minor: u64,
    /// Bytes.
    pub bytes: Operations,
    /// Requests.
    pub count: Operations,
    /// io.cost.
    pub cost: Cost,
}

/// How long tasks stalled.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Microseconds since the start.
    pub total_us: u64,
}

/// Pressure on one resource: some tasks, or all of them, stalled.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// All tasks at once.
    pub full: Stall,
    /// At least one.
    pub some: Stall,
}

/// Pressure on the three resources that the kernel watches.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressures {
    /// CPU.
    pub cpu: Pressure,
    /// Memory.
    pub memory: Pressure,
    /// Disks.
    pub io: Pressure,
}

/// A network interface's work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// `eth0`.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors receiving.
    pub rx_errors: u64,
    /// Packets dropped receiving.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors sending.
    pub tx_errors: u64,
    /// Packets dropped sending.
    pub tx_dropped: u64,
}

/// The processes right in a cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processes {
    /// Processes.
    pub count: u64,
    /// Their open files.
    pub open_files: u64,
    /// Of those, sockets.
    pub sockets: u64,
    /// Processes and threads that the pids controller counts.
    pub threads: u64,
    /// How many it allows; 0 without a limit.
    pub threads_max: u64,
    /// The first process's soft limit of open files, for containers; -1 without a limit.
    pub open_files_limit: Option<i64>,
}

/// What one cgroup used when it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// When it was read.
    pub at: Timestamp,
    /// CPU.
    pub cpu: Cpu,
    /// Memory; `None` when its controller is not there.
    pub memory: Option<Memory>,
    /// The controller of disks is there.
    pub has_io: bool,
    /// By device.
    pub devices: Vec<Device>,
    /// `None` when the kernel does not tell.
    pub pressures: Option<Pressures>,
    /// Processes.
    pub processes: Processes,
    /// Of a sandbox (and of the node): interfaces of its network namespace. `None`: not its own.
    pub interfaces: Option<Vec<Interface>>,
    /// OOM kills seen.
    pub oom_kills: u64,
}

impl Figures {
    /// Nothing but the time.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self {
            at,
            cpu: Cpu::default(),
            memory: None,
            has_io: false,
            devices: Vec::new(),
            pressures: None,
            processes: Processes::default(),
            interfaces: None,
            oom_kills: 0,
        }
    }
}

/// A cgroup's limits and age; they change rarely.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// When it was made, as the file system tells.
    pub created: Timestamp,
    /// The weight, on version 1's scale.
    pub cpu_shares: u64,
    /// Microseconds of each period; `None` without a limit.
    pub cpu_quota_us: Option<u64>,
    /// Microseconds.
    pub cpu_period_us: u64,
    /// Bytes; [`u64::MAX`] or nearly that without a limit.
    pub memory: u64,
    /// Bytes, of swap (version 2) or of memory and swap (version 1).
    pub swap: u64,
    /// Bytes.
    pub memory_reservation: u64,
}

/// Above this a memory limit is none: the kernel rounds the largest number down to a page.
const UNLIMITED: u64 = 1 << 62;

/// The limit, unless it is so large that it is none.
#[must_use]
pub fn limited(bytes: u64) -> Option<u64> {
    (bytes <= UNLIMITED).then_some(bytes)
}

/// A file system's room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Device numbers.
    pub major: u64,
    /// Device numbers.
    pub minor: u64,
    /// Its name in labels: the device, a tmpfs's mount point, `overlay_MAJOR-MINOR`.
    pub device: String,
    /// Its room and what is left.
    pub room: Room,
    /// The disk's work.
    pub disk: super::parse::disk::DiskStats,
}

/// Room of a file system, from statfs(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// All bytes.
    pub capacity: u64,
    /// Free bytes, also those that only root may use.
    pub free: u64,
    /// Free bytes for everybody.
    pub available: u64,
    /// All inodes.
    pub inodes: u64,
    /// Free inodes.
    pub inodes_free: u64,
}

impl Room {
    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.capacity.saturating_sub(self.free)
    }

    /// Inodes in use.
    #[must_use]
    pub fn inodes_used(&self) -> u64 {
        self.inodes.saturating_sub(self.inodes_free)
    }
}

/// What files take: on disk, not their length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl std::ops::Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), |sum, item| sum + item)
    }
}
