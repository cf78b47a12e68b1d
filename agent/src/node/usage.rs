//! How much memory, disk and process numbers are left, and whether that is too little.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::config::Threshold;

/// What is left, and of how much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) available: i64,
    pub(crate) capacity: i64,
}

/// By eviction signal, e.g. `memory.available`.
pub(crate) type Usage = HashMap<&'static str, Left>;

/// Measure: memory and processes of the machine, and the filesystem of the agent's root directory.
pub(crate) fn measure(root_dir: &Path) -> Usage {
    let mut usage = Usage::new();
    let meminfo = super::machine::meminfo(Path::new("/"));
    if let (Some(&available), Some(&capacity)) = (meminfo.get("MemAvailable"), meminfo.get("MemTotal")) {
        usage.insert("memory.available", Left { available, capacity });
    }
    if let Ok(fs) = rustix::fs::statvfs(root_dir) {
        let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(fs.f_frsize)).unwrap_or(i64::MAX);
        usage.insert(
            "nodefs.available",
            Left {
                available: bytes(fs.f_bavail),
                capacity: bytes(fs.f_blocks),
            },
        );
        let inodes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        // Filesystems without a table of inodes (btrfs) report none at all: no signal.
        if fs.f_files > 0 {
            usage.insert(
                "nodefs.inodesFree",
                Left {
                    available: inodes(fs.f_ffree),
                    capacity: inodes(fs.f_files),
                },
            );
        }
    }
    if let Some(left) = pids() {
        usage.insert("pid.available", left);
    }
    usage
}

fn pids() -> Option<Left> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<i64>().ok();
    let capacity = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let threads: i64 = load
        .split_ascii_whitespace()
        .nth(3)?
        .split_once('/')?
        .1
        .parse()
        .ok()?;
    Some(Left {
        available: capacity - threads,
        capacity,
    })
}

/// A pressure condition of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Pressure {
    Memory,
    Disk,
    Pid,
}

impl Pressure {
    /// The condition that a signal stands for.
    fn of(signal: &str) -> Self {
        match signal {
            "memory.available" | "allocatableMemory.available" => Self::Memory,
            "pid.available" => Self::Pid,
            _ => Self::Disk,
        }
    }
}

/// Compares usage with thresholds; a pressure lasts until nothing was below its threshold for a while
/// (`evictionPressureTransitionPeriod`), so that it does not flap.
#[derive(Debug)]
pub(crate) struct Gauge {
    thresholds: Vec<(String, Threshold)>,
    hold: Duration,
    met: HashMap<Pressure, Instant>,
}

impl Gauge {
    pub(crate) fn new(thresholds: Vec<(String, Threshold)>, hold: Duration) -> Self {
        Self {
            thresholds,
            hold,
            met: HashMap::new(),
        }
    }

    /// Take in a measurement.
    pub(crate) fn observe(&mut self, usage: &Usage, now: Instant) {
        for (signal, threshold) in &self.thresholds {
            if let Some(left) = usage.get(signal.as_str())
                && left.available < threshold.of(left.capacity)
            {
                self.met.insert(Pressure::of(signal), now);
            }
        }
    }

    /// Is there pressure?
    pub(crate) fn under(&self, pressure: Pressure, now: Instant) -> bool {
        self.met
            .get(&pressure)
            .is_some_and(|met| now.duration_since(*met) < self.hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_begins_at_the_threshold_and_holds() {
        let thresholds = vec![
            ("memory.available".to_owned(), Threshold::Amount(100)),
            ("nodefs.available".to_owned(), Threshold::Percent(10.0)),
        ];
        let mut gauge = Gauge::new(thresholds, Duration::from_secs(300));
        let now = Instant::now();
        let usage = |memory, disk| {
            Usage::from([
                (
                    "memory.available",
                    Left {
                        available: memory,
                        capacity: 1000,
                    },
                ),
                (
                    "nodefs.available",
                    Left {
                        available: disk,
                        capacity: 1000,
                    },
                ),
            ])
        };
        gauge.observe(&usage(100, 100), now);
        assert!(!gauge.under(Pressure::Memory, now) && !gauge.under(Pressure::Disk, now));
        gauge.observe(&usage(99, 100), now);
        assert!(gauge.under(Pressure::Memory, now) && !gauge.under(Pressure::Disk, now));
        gauge.observe(&usage(500, 99), now + Duration::from_secs(10));
        assert!(gauge.under(Pressure::Memory, now + Duration::from_secs(299)));
        assert!(!gauge.under(Pressure::Memory, now + Duration::from_secs(300)));
        assert!(gauge.under(Pressure::Disk, now + Duration::from_secs(300)));
        assert!(!gauge.under(Pressure::Pid, now));
    }

    #[test]
    fn this_machine_can_be_measured() {
        let usage = measure(Path::new("/"));
        for signal in ["memory.available", "nodefs.available", "pid.available"] {
            assert!(
                usage.get(signal).is_some_and(|left| left.capacity > 0),
                "{signal}: {usage:?}"
            );
        }
    }
}
