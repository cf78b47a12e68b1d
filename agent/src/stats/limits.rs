//! A cgroup's limits, read by path: they are asked for once a minute at most.

use std::fs;
use std::path::Path;

use gantry_agent_core::stats::figures::Limits;
use gantry_agent_core::stats::parse::{self, cpu, memory::Meminfo};
use jiff::Timestamp;

use super::scratch::Scratch;
use crate::cgroups::Layout;

/// Reads them; `created` is when the cgroup was made.
pub(super) fn read(layout: &Layout, path: &str, created: Timestamp, scratch: &mut Scratch) -> Limits {
    let mut text = |controller: &str, name: &str| {
        let file = layout.folder(controller, path)?.join(name);
        scratch.read_path(&file).map(<[u8]>::to_vec)
    };
    let mut number = |controller: &str, name: &str| {
        text(controller, name)
            .and_then(|text| parse::number(&text))
            .unwrap_or(0)
    };
    if layout.is_v2() {
        let (shares, limit, swap, reservation) = (
            cpu::shares_of_weight(number("", "cpu.weight")),
            number("", "memory.max"),
            number("", "memory.swap.max"),
            number("", "memory.min"),
        );
        let (quota, period) = text("", "cpu.max").map_or((None, 0), |text| cpu::max(&text));
        return Limits {
            created,
            cpu_shares: shares,
            cpu_quota_us: quota,
            cpu_period_us: period,
            memory: limit,
            swap,
            memory_reservation: reservation,
        };
    }
    Limits {
        created,
        cpu_shares: number("cpu", "cpu.shares"),
        // -1, which is no number here, says that there is no limit.
        cpu_quota_us: Some(number("cpu", "cpu.cfs_quota_us")).filter(|quota| *quota > 0),
        cpu_period_us: number("cpu", "cpu.cfs_period_us"),
        memory: number("memory", "memory.limit_in_bytes"),
        swap: number("memory", "memory.memsw.limit_in_bytes"),
        memory_reservation: number("memory", "memory.soft_limit_in_bytes"),
    }
}

/// The node's: it is limited by what it has.
pub(super) fn of_node(limits: &mut Limits, meminfo: &Meminfo) {
    limits.memory = meminfo.total;
    limits.swap = meminfo.swap_total;
}

/// When a cgroup was made, as far as its file systems know: not before the machine was booted.
pub(super) fn created(layout: &Layout, path: &str, boot: Timestamp) -> Timestamp {
    let modified = |file: &Path| Timestamp::try_from(fs::metadata(file).ok()?.modified().ok()?).ok();
    // A folder's own time changes when a cgroup is made in it; this file's does not.
    let steady = if layout.is_v2() {
        "cgroup.events"
    } else {
        "cgroup.clone_children"
    };
    let times = layout
        .folders(path)
        .into_iter()
        .flat_map(|folder| [modified(&folder), modified(&folder.join(steady))]);
    times.flatten().min().unwrap_or(boot).max(boot)
}
