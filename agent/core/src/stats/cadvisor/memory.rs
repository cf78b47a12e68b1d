//! Memory. A cgroup without the memory controller has zeros, as in the reference.

use super::{Family, Out, Place, Row, Value, counter, gauge, number};
use crate::stats::figures::Memory;

pub(super) const FAMILIES: &[Family] = &[
    gauge(
        "container_memory_cache",
        "Number of bytes of page cache memory.",
        |row, out| figure(row, out, |memory| memory.cache),
    ),
    gauge("container_memory_rss", "Size of RSS in bytes.", |row, out| {
        figure(row, out, |memory| memory.rss);
    }),
    gauge(
        "container_memory_kernel_usage",
        "Size of kernel memory allocated in bytes.",
        |row, out| figure(row, out, |memory| memory.kernel),
    ),
    gauge(
        "container_memory_mapped_file",
        "Size of memory mapped files in bytes.",
        |row, out| figure(row, out, |memory| memory.mapped_file),
    ),
    gauge(
        "container_memory_swap",
        "Container swap usage in bytes.",
        |row, out| {
            figure(row, out, |memory| memory.swap);
        },
    ),
    counter(
        "container_memory_failcnt",
        "Number of memory usage hits limits",
        |row, out| figure(row, out, |memory| memory.limit_hits),
    ),
    gauge(
        "container_memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |row, out| figure(row, out, |memory| memory.usage),
    ),
    gauge(
        "container_memory_max_usage_bytes",
        "Maximum memory usage recorded in bytes",
        |row, out| figure(row, out, |memory| memory.max_usage),
    ),
    gauge(
        "container_memory_working_set_bytes",
        "Current working set in bytes.",
        |row, out| figure(row, out, Memory::working_set),
    ),
    gauge(
        "container_memory_total_active_file_bytes",
        "Current total active file in bytes.",
        |row, out| figure(row, out, |memory| memory.active_file),
    ),
    gauge(
        "container_memory_total_inactive_file_bytes",
        "Current total inactive file in bytes.",
        |row, out| figure(row, out, |memory| memory.inactive_file),
    ),
    counter(
        "container_memory_failures_total",
        "Cumulative count of memory allocation failures.",
        failures,
    ),
];

fn figure(row: &Row, out: &mut Out<'_>, of: fn(&Memory) -> u64) {
    number(out, row.figures.memory.as_ref().map_or(0, of));
}

/// The same figure under both scopes, as in the reference.
fn failures(row: &Row, out: &mut Out<'_>) {
    let memory = row.figures.memory.unwrap_or_default();
    for (kind, value) in [
        ("failure_type=\"pgfault\"", memory.faults),
        ("failure_type=\"pgmajfault\"", memory.major_faults),
    ] {
        for scope in ["scope=\"container\"", "scope=\"hierarchy\""] {
            let labels = [(Place::AfterContainer, kind), (Place::AfterPod, scope)];
            out.with(&labels, Value::Number(value));
        }
    }
}
