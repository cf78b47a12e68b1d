//! Start, sight, processes, OOM kills, and limits.

use super::{Family, Out, Place, Row, Value, counter, gauge, number};
use crate::stats::figures::limited;

pub(super) const FAMILIES: &[Family] = &[
    gauge(
        "container_start_time_seconds",
        "Start time of the container since unix epoch in seconds.",
        |row, out| out.fact(Value::Signed(row.limits.created.as_second())),
    ),
    gauge(
        "container_last_seen",
        "Last time a container was seen by the exporter",
        |_, out| out.seen(),
    ),
    // There are no health checks of this kind in Kubernetes: -1 says so.
    gauge(
        "container_health_state",
        "The result of the container's health check",
        |_, out| out.put(Value::Signed(-1)),
    ),
    gauge(
        "container_spec_cpu_period",
        "CPU period of the container.",
        |row, out| {
            out.fact(Value::Number(row.limits.cpu_period_us));
        },
    ),
    gauge(
        "container_spec_cpu_quota",
        "CPU quota of the container.",
        |row, out| {
            if let Some(quota) = row.limits.cpu_quota_us {
                out.fact(Value::Number(quota));
            }
        },
    ),
    gauge(
        "container_spec_cpu_shares",
        "CPU share of the container.",
        |row, out| {
            out.fact(Value::Number(row.limits.cpu_shares));
        },
    ),
    gauge(
        "container_spec_memory_limit_bytes",
        "Memory limit for the container.",
        |row, out| limit(row, out, row.limits.memory),
    ),
    gauge(
        "container_spec_memory_reservation_limit_bytes",
        "Memory reservation limit for the container.",
        |row, out| limit(row, out, row.limits.memory_reservation),
    ),
    gauge(
        "container_spec_memory_swap_limit_bytes",
        "Memory swap limit for the container.",
        |row, out| limit(row, out, row.limits.swap),
    ),
    gauge(
        "container_processes",
        "Number of processes running inside the container.",
        |row, out| number(out, row.figures.processes.count),
    ),
    gauge(
        "container_file_descriptors",
        "Number of open file descriptors for the container.",
        |row, out| number(out, row.figures.processes.open_files),
    ),
    gauge(
        "container_sockets",
        "Number of open sockets for the container.",
        |row, out| number(out, row.figures.processes.sockets),
    ),
    gauge(
        "container_threads",
        "Number of threads running inside the container",
        |row, out| number(out, row.figures.processes.threads),
    ),
    gauge(
        "container_threads_max",
        "Maximum number of threads allowed inside the container, infinity if value is zero",
        |row, out| number(out, row.figures.processes.threads_max),
    ),
    gauge(
        "container_ulimits_soft",
        "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice",
        |row, out| {
            if let Some(limit) = row.figures.processes.open_files_limit {
                let name = [(Place::AfterPod, "ulimit=\"max_open_files\"")];
                out.with(&name, Value::Signed(limit));
            }
        },
    ),
    counter(
        "container_oom_events_total",
        "Count of out of memory events observed for the container",
        |row, out| number(out, row.figures.oom_kills),
    ),
];

/// Zero says that there is no limit.
fn limit(row: &Row, out: &mut Out<'_>, bytes: u64) {
    if row.figures.memory.is_some() {
        out.fact(Value::Number(limited(bytes).unwrap_or(0)));
    }
}
