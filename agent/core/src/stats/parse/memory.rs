//! Memory: `memory.stat` of both versions, and `/proc/meminfo`.

use super::{digits, lines, pairs, words};
use crate::stats::figures::Memory;

/// Version 2's `memory.stat`.
pub fn stat_v2(text: &[u8], memory: &mut Memory) {
    for (key, value) in pairs(text) {
        match key {
            b"anon" => memory.rss = value,
            b"file" => memory.cache = value,
            b"file_mapped" => memory.mapped_file = value,
            b"inactive_file" => memory.inactive_file = value,
            b"active_file" => memory.active_file = value,
            b"pgfault" => memory.faults = value,
            b"pgmajfault" => memory.major_faults = value,
            _ => {}
        }
    }
}

/// Version 1's `memory.stat`: the sums over the cgroups below, which every runtime's cgroups have; but page faults of
/// the cgroup alone, as the reference has it.
pub fn stat_v1(text: &[u8], memory: &mut Memory) {
    for (key, value) in pairs(text) {
        match key {
            b"total_rss" => memory.rss = value,
            b"total_cache" => memory.cache = value,
            b"total_mapped_file" => memory.mapped_file = value,
            b"total_swap" => memory.swap = value,
            b"total_inactive_file" => memory.inactive_file = value,
            b"total_active_file" => memory.active_file = value,
            b"pgfault" => memory.faults = value,
            b"pgmajfault" => memory.major_faults = value,
            _ => {}
        }
    }
}

/// The machine's memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meminfo {
    /// All of it.
    pub total: u64,
    /// What can be had without swapping.
    pub available: u64,
    /// All swap space.
    pub swap_total: u64,
    /// Unused swap space.
    pub swap_free: u64,
}

/// `/proc/meminfo`.
#[must_use]
pub fn meminfo(text: &[u8]) -> Meminfo {
    let mut found = Meminfo::default();
    for line in lines(text) {
        let mut words = words(line);
        let field = match words.next() {
            Some(b"MemTotal:") => &mut found.total,
            Some(b"MemAvailable:") => &mut found.available,
            Some(b"SwapTotal:") => &mut found.swap_total,
            Some(b"SwapFree:") => &mut found.swap_free,
            _ => continue,
        };
        *field = words.next().and_then(digits).unwrap_or(0).saturating_mul(1024);
    }
    found
}

/// How many processes of the cgroup were killed for want of memory: `oom_kill N` in version 2's `memory.events.local`
/// and in version 1's `memory.oom_control`.
#[must_use]
pub fn oom_kills(text: &[u8]) -> u64 {
    pairs(text)
        .find(|(key, _)| *key == b"oom_kill")
        .map_or(0, |(_, kills)| kills)
}
