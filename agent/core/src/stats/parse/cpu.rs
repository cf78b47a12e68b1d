//! CPU time and limits: `cpu.stat` of both versions, `cpuacct.*`, `cpu.max`, `cpu.weight`.

use super::{digits, pairs, words};
use crate::stats::figures::Cpu;

/// cpuacct.stat counts in these: `USER_HZ`, which is 100 on every architecture of the reference.
const NANOS_OF_TICK: u64 = 10_000_000;
/// What `cpu.weight` may be, and the shares of version 1 that the ends stand for.
const WEIGHTS: std::ops::RangeInclusive<u64> = 1..=10_000;

/// Version 2's `cpu.stat`.
pub fn stat_v2(text: &[u8], cpu: &mut Cpu) {
    for (key, value) in pairs(text) {
        let nanos = value.saturating_mul(1000);
        match key {
            b"usage_usec" => cpu.usage_ns = nanos,
            b"user_usec" => cpu.user_ns = nanos,
            b"system_usec" => cpu.system_ns = nanos,
            b"nr_periods" => cpu.periods = value,
            b"nr_throttled" => cpu.throttled_periods = value,
            b"throttled_usec" => cpu.throttled_ns = nanos,
            b"nr_bursts" => cpu.bursts = value,
            b"burst_usec" => cpu.burst_ns = nanos,
            _ => {}
        }
    }
}

/// Version 1's `cpu.stat`: only the limit's work.
pub fn stat_v1(text: &[u8], cpu: &mut Cpu) {
    for (key, value) in pairs(text) {
        match key {
            b"nr_periods" => cpu.periods = value,
            b"nr_throttled" => cpu.throttled_periods = value,
            b"throttled_time" => cpu.throttled_ns = value,
            _ => {}
        }
    }
}

/// Version 1's `cpuacct.stat`: `user TICKS`, `system TICKS`.
pub fn acct_stat(text: &[u8], cpu: &mut Cpu) {
    for (key, value) in pairs(text) {
        let nanos = value.saturating_mul(NANOS_OF_TICK);
        match key {
            b"user" => cpu.user_ns = nanos,
            b"system" => cpu.system_ns = nanos,
            _ => {}
        }
    }
}

/// Version 2's `cpu.max`, `QUOTA|max PERIOD`: the quota (`None` without a limit) and the period in microseconds.
#[must_use]
pub fn max(text: &[u8]) -> (Option<u64>, u64) {
    let mut words = words(text);
    let quota = words.next().and_then(digits);
    (quota, words.next().and_then(digits).unwrap_or(0))
}

/// Shares that a `cpu.weight` stands for, by the reference's straight line; 0 when it is no weight.
#[must_use]
pub fn shares_of_weight(weight: u64) -> u64 {
    if WEIGHTS.contains(&weight) {
        2 + (weight - 1) * 262_142 / 9_999
    } else {
        0
    }
}
