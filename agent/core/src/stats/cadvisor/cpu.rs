//! CPU time, the work of CPU limits, and pressure.

use super::{Family, Out, Place, Row, Value, counter, gauge, number};
use crate::stats::figures::{Pressures, Stall};

pub(super) const FAMILIES: &[Family] = &[
    counter(
        "container_cpu_usage_seconds_total",
        "Cumulative cpu time consumed in seconds.",
        |row, out| {
            if row.figures.cpu.usage_ns > 0 {
                let total = [(Place::AfterContainer, "cpu=\"total\"")];
                out.with(&total, Value::Nanos(row.figures.cpu.usage_ns));
            }
        },
    ),
    counter(
        "container_cpu_user_seconds_total",
        "Cumulative user cpu time consumed in seconds.",
        |row, out| out.put(Value::Nanos(row.figures.cpu.user_ns)),
    ),
    counter(
        "container_cpu_system_seconds_total",
        "Cumulative system cpu time consumed in seconds.",
        |row, out| out.put(Value::Nanos(row.figures.cpu.system_ns)),
    ),
    counter(
        "container_cpu_cfs_periods_total",
        "Number of elapsed enforcement period intervals.",
        |row, out| limited(row, out, Value::Number(row.figures.cpu.periods)),
    ),
    counter(
        "container_cpu_cfs_throttled_periods_total",
        "Number of throttled period intervals.",
        |row, out| limited(row, out, Value::Number(row.figures.cpu.throttled_periods)),
    ),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Total time duration the container has been throttled.",
        |row, out| limited(row, out, Value::Nanos(row.figures.cpu.throttled_ns)),
    ),
    counter(
        "container_cpu_cfs_burst_periods_total",
        "Number of periods when burst occurs.",
        |row, out| limited(row, out, Value::Number(row.figures.cpu.bursts)),
    ),
    counter(
        "container_cpu_cfs_burst_seconds_total",
        "Total time duration the container has been bursted.",
        |row, out| limited(row, out, Value::Nanos(row.figures.cpu.burst_ns)),
    ),
    // The load reader behind these is switched off in every kubelet: they are always zero.
    gauge(
        "container_cpu_load_average_10s",
        "Value of container cpu load average over the last 10 seconds.",
        |_, out| number(out, 0),
    ),
    gauge(
        "container_cpu_load_d_average_10s",
        "Value of container cpu load.d average over the last 10 seconds.",
        |_, out| number(out, 0),
    ),
    gauge(
        "container_tasks_state",
        "Number of tasks in given state",
        |_, out| {
            for state in [
                "state=\"sleeping\"",
                "state=\"running\"",
                "state=\"stopped\"",
                "state=\"uninterruptible\"",
                "state=\"iowaiting\"",
            ] {
                out.with(&[(Place::AfterPod, state)], Value::Number(0));
            }
        },
    ),
    counter(
        "container_pressure_cpu_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to CPU congestion.",
        |row, out| pressure(row, out, |all| all.cpu.full),
    ),
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to CPU congestion.",
        |row, out| pressure(row, out, |all| all.cpu.some),
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to memory congestion.",
        |row, out| pressure(row, out, |all| all.memory.full),
    ),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to memory congestion.",
        |row, out| pressure(row, out, |all| all.memory.some),
    ),
    counter(
        "container_pressure_io_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to IO congestion.",
        |row, out| pressure(row, out, |all| all.io.full),
    ),
    counter(
        "container_pressure_io_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to IO congestion.",
        |row, out| pressure(row, out, |all| all.io.some),
    ),
];

/// Only where there is a limit.
fn limited(row: &Row, out: &mut Out<'_>, value: Value) {
    if row.limits.cpu_quota_us.is_some() {
        out.put(value);
    }
}

fn pressure(row: &Row, out: &mut Out<'_>, of: fn(&Pressures) -> Stall) {
    if let Some(pressures) = &row.figures.pressures {
        out.put(Value::Micros(of(pressures).total_us));
    }
}
